//! Steering a platform by HTTP and from the command line: queues, worker processes, jobs that wait.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Output, Stdio};

use fourmi_tests::{Platform, Program, eventually_async};
use serde_json::{Value, json};

/// Calls the API; the answer must have this status.
async fn call(platform: &Platform, method: &str, path: &str, body: Value, status: u16) -> Value {
    let mut request = platform.request(method, path);
    if method != "GET" {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    let (got, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(got, status, "{method} {path}: {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

/// Submits a job that needs a worker.
async fn submit(platform: &Platform, more: Value) -> String {
    let file = platform.upload_bytes("x.txt", "x").await;
    let mut job = json!({"kind": "media.probe", "payload": {"source": {"upload": file}}});
    job.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    call(platform, "POST", "/jobs", job, 202).await["id"].as_str().unwrap().to_owned()
}

fn reasons(why: &Value) -> Vec<&str> {
    why["blocks"].as_array().unwrap().iter().map(|block| block["reason"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_queue_is_steered_by_http() {
    let platform = Platform::with(&[], 0).await;
    let get = async || platform.get("/queues/media").await;
    let queue = get().await;
    assert_eq!((&queue["paused"], &queue["cap"], &queue["workers"]), (&json!(false), &Value::Null, &json!(0)));
    let patch = async |body: Value, status| call(&platform, "PATCH", "/queues/media", body, status).await;
    let queue = patch(json!({"paused": true, "cap": 3, "slots": 8, "limit": 1}), 200).await;
    assert_eq!(queue, get().await);
    assert_eq!([&queue["cap"], &queue["slots"], &queue["limit"]], [&json!(3), &json!(8), &json!(1)]);
    let queue = patch(json!({"cap": null}), 200).await;
    assert_eq!((&queue["paused"], &queue["cap"], &queue["slots"]), (&json!(true), &Value::Null, &json!(8)));
    for wrong in [json!({"colour": 1}), json!({"cap": -1}), json!({"cap": "many"}), json!([])] {
        assert_eq!(patch(wrong, 422).await["code"], "invalid_request");
    }
    assert_eq!(call(&platform, "PATCH", "/queues/x", json!({}), 404).await["code"], "unknown_queue");

    submit(&platform, json!({})).await;
    let second = platform.upload_bytes("y.txt", "y").await;
    let job = json!({"kind": "media.probe", "payload": {"source": {"upload": second}}});
    assert_eq!(call(&platform, "POST", "/jobs", job, 429).await["code"], "queue_full");
    let listed = platform.get("/queues").await;
    assert_eq!(listed["queues"].as_array().unwrap().iter().find(|it| it["name"] == "media"), Some(&get().await));
    assert!(get().await["oldest_waiting_at"].is_string());
}

#[tokio::test]
async fn a_job_says_why_it_waits_and_is_moved_by_http() {
    let mut platform = Platform::with(&[], 0).await;
    let id = submit(&platform, json!({"tags": ["red"]})).await;
    let why = platform.get(&format!("/jobs/{id}/why")).await;
    assert_eq!((reasons(&why), &why["no_estimate"]), (vec!["no_worker"], &json!("no_worker")));
    let unknown = "media-00000000-0000-7000-8000-000000000000";
    assert_eq!(call(&platform, "GET", &format!("/jobs/{unknown}/why"), json!({}), 404).await["code"], "unknown_job");

    let change = async |id: &str, body, status| call(&platform, "PATCH", &format!("/jobs/{id}"), body, status).await;
    assert_eq!(change(&id, json!({"priority": "urgent"}), 200).await["priority"], "urgent");
    assert_eq!(change(&id, json!({"priority": "now"}), 422).await["code"], "invalid_request");
    assert_eq!(change(unknown, json!({"priority": "low"}), 404).await["code"], "unknown_job");

    let later = submit(&platform, json!({"not_before": "2199-01-01T00:00:00Z", "tags": ["red"]})).await;
    let why = platform.get(&format!("/jobs/{later}/why")).await;
    assert_eq!(reasons(&why), ["not_due", "no_worker"]);
    let promote = async |body, status| call(&platform, "POST", "/queues/media/promote", body, status).await;
    assert_eq!(promote(json!({"tag": "blue"}), 200).await["matched"], 0);
    let counted = promote(json!({"tag": "red", "dry_run": true}), 200).await;
    assert_eq!((&counted["matched"], &counted["done"], &counted["next"]), (&json!(1), &json!(0), &Value::Null));
    assert_eq!(promote(json!({"ids": [later], "tag": "red"}), 422).await["code"], "invalid_request");
    assert_eq!(promote(json!({"cursor": "x"}), 400).await["code"], "invalid_cursor");
    assert_eq!(promote(json!({"ids": [later, id]}), 200).await["done"], 1);

    platform.add_worker();
    eventually_async("both are over", async || {
        let [one, other] = [platform.get(&format!("/jobs/{id}")).await, platform.get(&format!("/jobs/{later}")).await];
        (one["finished_at"].is_string() && other["finished_at"].is_string()).then_some(())
    })
    .await;
    assert_eq!(reasons(&platform.get(&format!("/jobs/{id}/why")).await), ["finished"]);
    let over = call(&platform, "PATCH", &format!("/jobs/{id}"), json!({"priority": "low"}), 409).await;
    assert_eq!(over["code"], "already_over");
}

#[tokio::test]
async fn worker_processes_are_listed_and_drained_by_http() {
    let mut platform = Platform::start().await;
    let listed = platform.get("/workers").await;
    let worker = &listed["workers"][0];
    assert_eq!((&worker["queue"], &worker["pid"]), (&json!("media"), &json!(platform.workers[0].pid())));
    assert!(worker["kinds"]["media.probe"].is_u64() && worker["memory_bytes"].as_u64().unwrap() > 100_000);
    for path in ["/workers?queue=media", "/queues/media/workers"] {
        assert_eq!(platform.get(path).await["workers"][0]["name"], worker["name"]);
    }
    assert_eq!(call(&platform, "GET", "/workers?queue=x", json!({}), 404).await["code"], "unknown_queue");
    assert_eq!(call(&platform, "GET", "/workers?colour=red", json!({}), 400).await["code"], "invalid_query");
    let drain = async |name: &str, status| {
        call(&platform, "POST", &format!("/queues/media/workers/{name}/drain"), json!({}), status).await
    };
    assert_eq!(drain("nobody", 404).await["code"], "unknown_worker");
    drain(worker["name"].as_str().unwrap(), 202).await;
    assert!(platform.workers[0].wait().success());
    assert_eq!(platform.get("/workers").await["workers"], json!([]));
}

#[tokio::test]
async fn a_queue_is_obliterated_by_http_when_told_twice() {
    let platform = Platform::with(&[], 0).await;
    let id = submit(&platform, json!({})).await;
    let obliterate = async |body, status| call(&platform, "POST", "/queues/media/obliterate", body, status).await;
    let offer = obliterate(json!({}), 200).await;
    assert_eq!(
        (&offer["done"], &offer["counts"]["waiting"], &offer["valid_for_s"]),
        (&json!(false), &json!(1), &json!(60))
    );
    assert_eq!(obliterate(json!({"token": "guess"}), 409).await["code"], "unknown_token");
    assert!(platform.get(&format!("/jobs/{id}")).await["id"].is_string());
    let done = obliterate(json!({"token": offer["token"]}), 200).await;
    assert!(done["done"] == true && done["deleted_keys"].as_u64().unwrap() >= 3, "{done}");
    assert_eq!(call(&platform, "GET", &format!("/jobs/{id}"), json!({}), 404).await["code"], "unknown_job");
    assert_eq!(platform.get("/queues/media").await["counts"]["waiting"], 0);
    submit(&platform, json!({})).await;
}

/// A command of `fourmi` on this platform.
fn fourmi(platform: &Platform, arguments: &[&str]) -> Output {
    let mut command = Command::new(Program::path("fourmi"));
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("FOURMI_URL", platform.url()).env("FOURMI_API_KEY_FILE", platform.data().join("api-key"));
    command.stdin(Stdio::null()).output().unwrap()
}

/// What it says; it must succeed.
fn said(platform: &Platform, arguments: &[&str]) -> String {
    let output = fourmi(platform, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json_of(platform: &Platform, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(platform, &[arguments, &["--json"]].concat())).unwrap()
}

#[tokio::test]
async fn the_command_line_steers_queues_and_says_why_jobs_wait() {
    let mut platform = Platform::with(&[], 0).await;
    let id = submit(&platform, json!({})).await;
    let later = submit(&platform, json!({"not_before": "2199-01-01T00:00:00Z"})).await;
    let say = |arguments: &[&str]| said(&platform, arguments);
    assert!(say(&["pause", "media"]).contains("media is paused"));
    assert!(say(&["cap", "media", "4"]).contains("4 jobs at a time"));
    let table = say(&["queues"]);
    let row = table.lines().find(|line| line.starts_with("media ")).unwrap();
    assert!(row.contains("0/4") && row.contains("paused"), "{table}");
    assert_eq!(json_of(&platform, &["queues", "media"])["queues"][0]["cap"], 4);
    assert_eq!(json_of(&platform, &["cap", "media", "none"])["cap"], Value::Null);
    assert_eq!(fourmi(&platform, &["cap", "media", "many"]).status.code(), Some(2));
    assert_eq!(fourmi(&platform, &["queues", "nowhere"]).status.code(), Some(4));

    let why = say(&["why", &id]);
    assert!(why.contains("fourmi resume media") && why.contains("No worker of the queue media lives."), "{why}");
    assert_eq!(reasons(&json_of(&platform, &["why", &later])), ["paused", "not_due", "no_worker"]);
    assert!(say(&["priority", &id, &later, "high"]).contains(&format!("{later} is high now.")));
    assert!(say(&["promote", &id, &later]).contains("1 job is ready to run; 1 was not delayed."));
    assert!(say(&["resume", "media"]).contains("media goes on"));

    assert!(say(&["workers"]).contains("No workers."));
    platform.add_worker();
    let worker = json_of(&platform, &["workers", "--queue", "media"])["workers"][0].clone();
    let name = worker["name"].as_str().unwrap();
    assert!(said(&platform, &["workers"]).contains(name));
    assert!(said(&platform, &["drain", name]).contains(name));
    assert!(platform.workers[0].wait().success());
    assert_eq!(fourmi(&platform, &["drain", name]).status.code(), Some(2));

    let told = said(&platform, &["obliterate", "media"]);
    assert!(told.contains("--yes-delete-everything"), "{told}");
    assert_eq!(fourmi(&platform, &["obliterate", "media", "--yes-delete-everything", "guess"]).status.code(), Some(4));
    let token = told.split_whitespace().last().unwrap();
    assert!(said(&platform, &["obliterate", "media", "--yes-delete-everything", token]).contains("is deleted"));
}
