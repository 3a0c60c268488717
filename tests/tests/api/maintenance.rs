//! What operators do to keep the platform in order, and nobody else.

use fourmi_kinds::{HealthProbe, HostMetrics, MaintenanceRetention, RetentionReport};
use fourmi_model::{BlobId, HealthStatus, RetentionClass};
use fourmi_tests::Platform;
use serde_json::{Value, json};

use crate::{
    keys::{app, make, with},
    problem,
};

/// Makes a stored file look as if it had been stored long ago.
fn age(platform: &Platform, file: &BlobId) {
    let name = format!("{file}.json");
    let shards = std::fs::read_dir(platform.data().join("files")).unwrap().flatten();
    let description = shards.map(|shard| shard.path().join(&name)).find(|path| path.exists()).unwrap();
    let mut blob: Value = serde_json::from_slice(&std::fs::read(&description).unwrap()).unwrap();
    blob["created_at"] = json!("2020-01-01T00:00:00Z");
    std::fs::write(&description, blob.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_alone_submit_chores() {
    let platform = Platform::with(&[], 0).await;
    let kind = platform.get("/kinds/health.probe").await;
    assert_eq!((&kind["operators_only"], &kind["queue"]), (&json!(true), &json!("maintenance")));
    assert!(kind.get("internal").is_none());

    let chore = json!({"kind": "health.probe", "payload": {}});
    let schedule = json!({"name": "chore", "cron": "@daily", "job": chore});
    let scopes = ["jobs:submit", "schedules:write"];
    let (_, submitter) = make(&platform, json!({"name": "submitter", "scopes": scopes})).await;
    for key in [&app(&platform, "acme").await, &submitter] {
        let post = async |path: &str, body: &Value| with(&platform, key, "POST", path).json(body).send().await.unwrap();
        assert_eq!(problem(post("/jobs", &chore).await, 403).await, "kind_operators_only");
        let many: Value = post("/jobs/bulk", &json!([chore])).await.json().await.unwrap();
        assert_eq!(many["results"][0]["error"]["code"], "kind_operators_only", "{many}");
        let flow = json!({"jobs": [{"name": "a", "kind": "health.probe", "payload": {}}]});
        assert_eq!(problem(post("/flows", &flow).await, 403).await, "kind_operators_only");
    }
    let made = with(&platform, &submitter, "POST", "/schedules").json(&schedule).send().await.unwrap();
    assert_eq!(problem(made, 403).await, "kind_operators_only");

    // Nor is one that somebody else has scheduled theirs to run.
    let made = platform.request("POST", "/schedules").json(&schedule).send().await.unwrap();
    let path = format!("/schedules/{}/run", made.json::<Value>().await.unwrap()["id"].as_str().unwrap());
    let ran = with(&platform, &submitter, "POST", &path).send().await.unwrap();
    assert_eq!(problem(ran, 403).await, "kind_operators_only");
    let admin = platform.first_admin().await;
    for key in [platform.key(), admin.token.as_str()] {
        assert_eq!(with(&platform, key, "POST", &path).send().await.unwrap().status(), 202);
        let answer = with(&platform, key, "POST", "/jobs").json(&chore).send().await.unwrap();
        assert_eq!(answer.status(), 202);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chores_say_how_platform_and_machine_are() {
    let platform = Platform::with(&[], 0).await;
    let _worker = platform.maintenance_worker();
    let health = platform.client.submit(&HealthProbe {}).send().await.unwrap().output().await.unwrap();
    for name in ["redis", "records", "files"] {
        let part = health.parts.iter().find(|part| part.name == name).unwrap();
        assert_eq!(part.status, HealthStatus::Ok, "{health:?}");
        assert!(part.latency_ms.is_some_and(|ms| ms > 0.0), "{health:?}");
    }
    for name in ["disk", "memory", "queue:media"] {
        assert!(health.parts.iter().any(|part| part.name == name), "{health:?}");
    }

    let host = platform.client.submit(&HostMetrics {}).send().await.unwrap().output().await.unwrap();
    assert!(host.cores >= 1 && host.uptime_s > 0 && (0.0..=100.0).contains(&host.cpu_percent), "{host:?}");
    assert!(host.memory_used_bytes > 0 && host.memory_used_bytes <= host.memory_bytes, "{host:?}");
    assert!(host.disk_free_bytes <= host.disk_bytes && host.disk_bytes > 0, "{host:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_files_go_unless_a_job_needs_them_and_a_dry_run_says_which() {
    let platform = Platform::with(&[], 0).await;
    let _worker = platform.maintenance_worker();
    let (old, needed) = (platform.upload_bytes("a", "content").await, platform.upload_bytes("b", "needed").await);
    let new = platform.upload_bytes("c", "new").await;
    age(&platform, &old);
    age(&platform, &needed);
    let job = json!({
        "kind": "media.probe", "payload": {"source": {"upload": needed}}, "not_before": "2099-01-01T00:00:00Z",
    });
    assert_eq!(platform.request("POST", "/jobs").json(&job).send().await.unwrap().status(), 202);

    let there = async |file: &BlobId| {
        let answer = platform.request("GET", &format!("/files/{file}/info")).send().await.unwrap();
        answer.status() == 200
    };
    for dry_run in [true, false] {
        let retention = MaintenanceRetention { only: vec![RetentionClass::Files], days: Some(30), dry_run };
        let handle = platform.client.submit(&retention).send().await.unwrap();
        let RetentionReport { classes, .. } = handle.output().await.unwrap();
        assert_eq!((classes.len(), classes[0].deleted, classes[0].bytes, classes[0].held), (1, 1, Some(7), 1));
        assert_eq!(there(&old).await, dry_run);
        assert!(there(&needed).await && there(&new).await);
    }
}
