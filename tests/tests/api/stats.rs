//! Statistics: what became of jobs, in figures, for whoever may know.

use fourmi_kinds::StatsRollup;
use fourmi_model::{Job, JobId, JobRecord};
use fourmi_records::Records;
use fourmi_tests::{Platform, Recording, eventually_async};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    keys::{app, make, with},
    problem,
};

/// The same job, as if it had run an hour earlier under another id.
fn an_hour_earlier(job: &Job) -> JobRecord {
    let earlier = |time: Timestamp| time - SignedDuration::from_hours(1);
    let job = Job {
        id: JobId::new(job.queue.clone()),
        started_at: job.started_at.map(earlier),
        finished_at: job.finished_at.map(earlier),
        ..job.clone()
    };
    JobRecord { job, worker: None, waited_ms: Some(20), runs: Vec::new() }
}

/// The query of these steps around now, and of more.
fn around_now(more: &str) -> String {
    let (from, to) =
        (Timestamp::now() - SignedDuration::from_hours(2), Timestamp::now() + SignedDuration::from_mins(10));
    format!("/stats/jobs?from={from}&to={to}&{more}")
}

/// Submits a job that would run later, and cancels it.
async fn cancel_one(platform: &Platform, key: &str, kind: &str, source: Value) {
    let later = json!({"kind": kind, "payload": {"source": source}, "not_before": "2099-01-01T00:00:00Z"});
    let answer = with(platform, key, "POST", "/jobs").json(&later).send().await.unwrap();
    let job: Value = answer.json().await.unwrap();
    let path = format!("/jobs/{}/cancel", job["id"].as_str().unwrap());
    assert_eq!(with(platform, key, "POST", &path).send().await.unwrap().status(), 200);
}

/// Waits until so many jobs have ended in the figures.
async fn counted(platform: &Platform, path: &str, finished: u64) -> Value {
    eventually_async("the ends are counted", async || {
        let stats = platform.get(path).await;
        (stats["series"][0]["total"]["finished"] == finished).then_some(stats)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_the_same_before_and_after_they_are_added_up() {
    let platform = Platform::start().await;
    let folder = TempDir::new().unwrap();
    let talk = platform.upload(&Recording::default().make(folder.path(), "talk.mp4")).await;
    let garbage = platform.upload_bytes("garbage.mp4", vec![7_u8; 10_000]).await;
    let mut jobs = Vec::new();
    for file in [talk, talk, talk, garbage] {
        jobs.push(platform.run("media.probe", file, json!({})).await);
    }
    cancel_one(&platform, platform.key(), "media.probe", json!({"upload": talk})).await;
    // What has just ended is added up in a minute at the earliest.
    let records = Records::open(&platform.data().join("records.db")).await.unwrap();
    let earlier: Vec<_> = jobs.iter().map(an_hour_earlier).collect();
    records.archive(&earlier).await.unwrap();

    let steps = ["minute", "hour", "day"].map(|step| around_now(&format!("kind=media.probe&step={step}")));
    let mut before = Vec::new();
    for path in &steps {
        before.push(counted(&platform, path, 9).await["series"][0].clone());
    }
    let total = &before[0]["total"];
    assert_eq!((&total["succeeded"], &total["failed"], &total["cancelled"]), (&json!(6), &json!(2), &json!(1)));
    assert_eq!(total["success_rate"], 0.75);
    for times in [&total["wait"], &total["run"]] {
        let times = ["p50_ms", "p90_ms", "p95_ms", "p99_ms"].map(|name| times[name].as_f64().unwrap());
        assert!(times.is_sorted(), "{total}");
    }
    let points = before[0]["points"].as_array().unwrap();
    assert_eq!(points.iter().map(|point| point["finished"].as_u64().unwrap()).sum::<u64>(), 9);
    let times: Vec<Timestamp> = points.iter().map(|point| point["at"].as_str().unwrap().parse().unwrap()).collect();
    assert!(times.len() > 1 && times.is_sorted() && times.iter().all(|time| time.as_second() % 60 == 0), "{times:?}");

    let _worker = platform.maintenance_worker();
    let report = platform.client.submit(&StatsRollup::default()).send().await.unwrap().output().await.unwrap();
    assert!(report.minutes >= 1 && report.too_late == 0, "{report:?}");
    for (path, before) in steps.iter().zip(before) {
        assert_eq!(platform.get(path).await["series"], json!([before]), "{path}");
    }
    let by_kind = platform.get(&around_now("by=kind")).await;
    let names: Vec<_> = by_kind["series"].as_array().unwrap().iter().map(|series| series["name"].clone()).collect();
    assert_eq!(names[0], "media.probe");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_told_of_its_own_jobs() {
    let platform = Platform::with(&[], 0).await;
    let (acme, other) = (app(&platform, "acme").await, app(&platform, "other").await);
    for key in [&acme, &acme, &other] {
        cancel_one(&platform, key, "audio.extract", json!({"url": "https://example.org/a.mp3"})).await;
    }
    counted(&platform, "/stats/jobs", 3).await;
    let told = async |key: &str, query: &str| -> Value {
        let answer = with(&platform, key, "GET", &format!("/stats/jobs?by=tenant&{query}")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let stats: Value = answer.json().await.unwrap();
        let of = |series: &Value| json!([series["name"], series["total"]["finished"]]);
        stats["series"].as_array().unwrap().iter().map(of).collect()
    };
    assert_eq!(told(platform.key(), "").await, json!([["acme", 2], ["other", 1]]));
    assert_eq!(told(platform.key(), "tenant=other").await, json!([["other", 1]]));
    for query in ["", "tenant=acme", "queue=media"] {
        assert_eq!(told(&acme, query).await, json!([["acme", 2]]), "{query}");
    }
    for query in ["tenant=other", "queue=external", "kind=audio.live"] {
        assert_eq!(told(&acme, query).await, json!([]), "{query}");
    }
    let answer = with(&platform, &acme, "GET", "/stats/jobs?tenant=other").send().await.unwrap();
    let nothing: Value = answer.json().await.unwrap();
    let none = json!({"finished": 0, "succeeded": 0, "failed": 0, "cancelled": 0});
    assert_eq!(nothing["series"], json!([{"total": none, "points": []}]));

    // Figures are kept of nobody alone, and told to nobody who may not read jobs.
    let user = platform.add_person("user", "user", Some("acme")).await;
    let (_, submitter) = make(&platform, json!({"name": "submitter", "scopes": ["jobs:submit"]})).await;
    for key in [&user.token, &submitter] {
        let answer = with(&platform, key, "GET", "/stats/jobs").send().await.unwrap();
        assert_eq!(problem(answer, 403).await, "scope_missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_refused_and_said_where() {
    let platform = Platform::with(&[], 0).await;
    for (query, path) in [
        ("step=week", "step"),
        ("step=day&step=hour", "step"),
        ("by=colour", "by"),
        ("kind=NOTHING", "kind"),
        ("since=1h", "since"),
        ("from=yesterday", "from"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("from=2026-01-01T00:00:00Z&to=2026-01-03T00:00:00Z", "from"),
        ("step=day&to=9999-12-30T12:00:00Z", "to"),
    ] {
        let answer = platform.request("GET", &format!("/stats/jobs?{query}")).send().await.unwrap();
        let (status, found) = (answer.status(), answer.json::<Value>().await.unwrap());
        assert_eq!((status.as_u16(), &found["code"]), (400, &json!("invalid_query")), "{query}: {found}");
        assert_eq!(found["errors"][0]["path"], path, "{query}: {found}");
    }
    let hours = "/stats/jobs?step=hour&from=2026-01-01T00:30:00Z&to=2026-01-03T00:00:00Z";
    let stats = platform.get(hours).await;
    assert_eq!((&stats["from"], &stats["to"]), (&json!("2026-01-01T00:00:00Z"), &json!("2026-01-03T00:00:00Z")));
}
