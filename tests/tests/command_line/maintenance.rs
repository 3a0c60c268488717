//! Statistics, and what keeps the platform in order, as whoever runs a platform looks at them.

use fourmi_tests::eventually_async;

use super::*;

#[tokio::test]
async fn statistics_are_a_table_for_people_and_a_document_for_programs() {
    let platform = Platform::start().await;
    let nothing = text(&platform, &["stats"]);
    assert!(nothing.starts_with("No jobs ended in the ") && nothing.contains(" minutes to "), "{nothing}");

    let folder = TempDir::new().unwrap();
    let talk = platform.upload(&recording(folder.path())).await;
    let garbage = platform.upload_bytes("garbage.mp4", vec![7_u8; 10_000]).await;
    for file in [talk, garbage] {
        platform.run("media.probe", file, json!({})).await;
    }
    let by_kind = ["stats", "--by", "kind"];
    let stats = eventually_async("both ends are recorded", async || {
        let stats = document(&platform, &by_kind);
        (stats["series"][0]["total"]["finished"] == 2).then_some(stats)
    })
    .await;
    let series = &stats["series"][0];
    assert_eq!((&stats["step"], &series["name"]), (&json!("minute"), &json!("media.probe")));
    assert_eq!((&series["total"]["failed"], &series["total"]["success_rate"]), (&json!(1), &json!(0.5)));
    let counted = series["points"].as_array().unwrap().iter().map(|point| point["finished"].as_u64().unwrap());
    assert_eq!(counted.sum::<u64>(), 2);

    let table = text(&platform, &by_kind);
    let row = table.lines().find(|line| line.starts_with("media.probe")).unwrap();
    assert!(row.contains('█') && row.contains("50.0 %"), "{table}");
    assert!(table.contains(" minutes to ") && table.contains(" UTC"), "{table}");
    let table = text(&platform, &["stats", "--step", "day", "--since", "3d"]);
    assert!(table.lines().any(|line| line.starts_with("all ")) && table.contains(" days to "), "{table}");
    let others = text(&platform, &["stats", "--kind", "audio.live", "--step", "hour", "--since", "2h"]);
    assert!(others.starts_with("No jobs ended in the "), "{others}");
    for wrong in [["--step", "week"], ["--by", "person"], ["--since", "yesterday"]] {
        assert_eq!(code(&run(&platform, &[&["stats"], &wrong[..]].concat())), 2, "{wrong:?}");
    }
}

#[tokio::test]
async fn maintenance_is_done_at_once_and_reports() {
    let platform = Platform::start().await;
    let _worker = platform.maintenance_worker();
    let file = platform.upload_bytes("talk.mp4", vec![7_u8; 10_000]).await;

    // Nothing is a day old, and files are kept for ever.
    let table = text(&platform, &["maintenance", "run", "retention", "--dry-run", "--only", "jobs,files"]);
    assert!(table.contains("WOULD BE DELETED"), "{table}");
    let row = |class: &str| table.lines().find(|line| line.starts_with(class)).unwrap();
    assert!(row("files ").contains("for ever") && !row("jobs ").contains("for ever"), "{table}");
    let day = ["maintenance", "run", "maintenance.retention", "--only", "files", "--days", "1", "--dry-run"];
    let report = document(&platform, &day);
    assert_eq!((&report["dry_run"], &report["classes"][0]["deleted"]), (&json!(true), &json!(0)), "{report}");
    assert_eq!(platform.request("HEAD", &format!("/files/{file}")).send().await.unwrap().status(), 200);

    let table = text(&platform, &["maintenance", "run", "health"]);
    for part in ["redis", "records", "files"] {
        let row: Vec<_> = table.lines().find(|line| line.starts_with(part)).unwrap().split_whitespace().collect();
        assert_eq!(row[1], "ok", "{table}");
    }
    let said = text(&platform, &["maintenance", "run", "rollup", "--from", "2h"]);
    assert!(said.contains("counted") && said.trim_end().lines().count() == 1, "{said}");
    assert!(document(&platform, &["maintenance", "run", "stats.rollup"])["minutes"].is_u64());
    let host = text(&platform, &["maintenance", "run", "host"]);
    assert!(host.contains("processors") && host.contains(" free"), "{host}");
    assert!(document(&platform, &["maintenance", "run", "host"])["cores"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn options_that_do_not_fit_are_refused_before_anything_is_submitted() {
    let platform = Platform::with(&[], 0).await;
    for wrong in [
        &["health", "--dry-run"][..],
        &["rollup", "--only", "jobs"],
        &["rollup", "--to", "1h"],
        &["rollup", "--from", "1h", "--to", "2h"],
        &["retention", "--from", "2h"],
        &["retention", "--only", "jobs", "--days", "0"],
    ] {
        assert_eq!(error(&platform, &[&["maintenance", "run"], wrong].concat(), 2), "usage", "{wrong:?}");
    }
    let output = run(&platform, &["maintenance", "run", "retention", "--days", "30"]);
    assert_eq!(code(&output), 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--only jobs"), "{output:?}");
    for wrong in [&["dust"][..], &["retention", "--only", "dust"]] {
        assert_eq!(code(&run(&platform, &[&["maintenance", "run"], wrong].concat())), 2, "{wrong:?}");
    }
    assert_eq!(document(&platform, &["jobs"])["jobs"], json!([]));
}
