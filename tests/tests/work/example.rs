//! The worker of the documents, as it is written there.

use std::process::Command;

use fourmi_tests::{Platform, Program, eventually_async};
use serde_json::{Value, json};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/worker.py");

fn start(platform: &Platform) -> Program {
    let mut command = Command::new("python3");
    command.arg(PATH);
    let settings = [
        ("FOURMI_URL", platform.url().to_owned()),
        ("FOURMI_API_KEY", platform.key().to_owned()),
        ("LEASE_MS", "1000".to_owned()),
    ];
    Program::spawn("worker.py", command, settings)
}

async fn submit(platform: &Platform, payload: Value) -> String {
    let job: Value = platform.submit("x.shout", payload).await.json().await.unwrap();
    job["id"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned()
}

/// The job, when this is true of it.
async fn until(platform: &Platform, id: &str, what: &str, is_true: impl Fn(&Value) -> bool) -> Value {
    eventually_async(what, async || {
        let job = platform.get(&format!("/jobs/{id}")).await;
        is_true(&job).then_some(job)
    })
    .await
}

async fn kind_is_known(platform: &Platform) {
    eventually_async("the worker registers its kind", async || {
        platform.request("GET", "/kinds/x.shout").send().await.unwrap().status().is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_of_the_documents_does_its_jobs_and_what_it_leaves_when_it_dies_another_does() {
    let platform = Platform::with(&[], 0).await;
    let mut worker = start(&platform);
    kind_is_known(&platform).await;
    let id = submit(&platform, json!({"text": "bonjour à tous"})).await;
    let job = until(&platform, &id, "the job is done", |job| job["state"] == "succeeded").await;
    assert_eq!((&job["result"]["text"], &job["run"]), (&json!("BONJOUR À TOUS"), &json!(1)));
    assert_eq!((&job["queue"], &job["progress"]["stage"]), (&json!("external"), &json!("shout")));
    let log = platform.get(&format!("/jobs/{id}/log")).await;
    let lines: Vec<_> = log["lines"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(lines, ["bonjour", "à", "tous"]);
    let listed = platform.get("/workers?queue=external").await;
    let name = format!("shout-{}", worker.pid());
    assert_eq!((&listed["workers"][0]["name"], &listed["workers"][0]["kinds"]["x.shout"]), (&json!(name), &json!(1)));

    // Longer than a lease: it is renewed, until its worker dies.
    let id = submit(&platform, json!({"text": "one two three", "pause_s": 1})).await;
    until(&platform, &id, "the run has come further", |job| job["progress"]["percent"].as_f64() > Some(60.0)).await;
    worker.kill();
    let _other = start(&platform);
    let job = until(&platform, &id, "the other worker has done it", |job| job["state"] == "succeeded").await;
    assert_eq!(
        (&job["run"], &job["attempts"], &job["result"]["text"]),
        (&json!(2), &json!(1), &json!("ONE TWO THREE"))
    );
    let runs = platform.get(&format!("/jobs/{id}/runs")).await;
    assert_eq!((&runs["runs"][0]["error"]["code"], &runs["runs"][0]["worker"]), (&json!("worker_lost"), &json!(name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_of_the_documents_stops_a_job_that_is_cancelled_and_ends_when_it_is_drained() {
    let platform = Platform::with(&[], 0).await;
    let mut worker = start(&platform);
    kind_is_known(&platform).await;
    let id = submit(&platform, json!({"text": "for ever", "pause_s": 3600})).await;
    until(&platform, &id, "the job runs", |job| job["state"] == "running").await;
    let cancel = platform.request("POST", &format!("/jobs/{id}/cancel")).send().await.unwrap();
    assert_eq!(cancel.status(), 202);
    until(&platform, &id, "the job is cancelled", |job| job["state"] == "cancelled").await;

    let drain = format!("/queues/external/workers/shout-{}/drain", worker.pid());
    assert_eq!(platform.request("POST", &drain).send().await.unwrap().status(), 202);
    assert!(worker.wait().success());
}

#[test]
fn the_documents_show_the_worker_that_is_tested() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/http-workers.md")).unwrap();
    let worker = std::fs::read_to_string(PATH).unwrap();
    assert!(
        page.contains(&format!("```python\n{worker}```")),
        "docs/http-workers.md should show docs/examples/worker.py"
    );
}
