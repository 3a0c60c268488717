//! Whose jobs a worker gets, and what holds it back.

use fourmi_tests::eventually_async;
use serde_json::{Value, json};

use crate::stage::{Run, Stage, numbered, said, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_gets_jobs_of_its_own_tenant_and_of_the_kinds_that_it_names() {
    let stage = Stage::open().await;
    stage.register("x.other", json!({})).await;
    let (other, of_none) = (stage.key(Some("other"), &["jobs:work"]).await, stage.key(None, &["jobs:work"]).await);
    for key in [&other, &of_none] {
        stage.answer(key, "PUT", "/kinds/x.echo", numbered(json!({})), 201).await;
    }
    let id = stage.submit("x.echo", json!({})).await;
    stage.submit("x.other", json!({})).await;
    let lease = async |key, more: Value| {
        let leased = stage.answer(key, "POST", "/work/lease", wanted(more), 200).await;
        leased["jobs"].as_array().unwrap().clone()
    };
    assert!(lease(&other, json!({"max": 10})).await.is_empty() && lease(&of_none, json!({"max": 10})).await.is_empty());
    let jobs = lease(&stage.worker, json!({"max": 10})).await;
    assert_eq!((jobs.len(), &jobs[0]["id"]), (1, &json!(id)));
    let run = Run::of(&jobs[0]);

    // What belongs to acme is for others as what does not exist.
    let nothing = Run { id: "external-0198c0de-0000-7000-8000-000000000001".to_owned(), ..run.clone() };
    for key in [&other, &of_none] {
        for (what, more) in [
            ("renew", json!({})),
            ("progress", json!({"stage": "s", "percent": 1})),
            ("log", json!({"lines": [{"text": "a"}]})),
            ("settle", json!({"outcome": "succeeded"})),
            ("settle", json!({"outcome": "failed", "code": "c", "message": "m"})),
        ] {
            let path = format!("/work/{what}");
            let answer = stage.answer(key, "POST", &path, said(what, &run, more.clone()), 200).await;
            let of_nothing = stage.answer(key, "POST", &path, said(what, &nothing, more), 200).await;
            assert_eq!(answer["results"][0]["error"]["code"], "unknown_job", "{what}");
            assert_eq!(answer, of_nothing, "{what}");
        }
    }
    assert_eq!(stage.state(&id).await, "running");
    stage.says("settle", &run, json!({"outcome": "succeeded"})).await;

    // A job of no tenant is for workers of none.
    let job = json!({"kind": "x.echo", "payload": {"n": 1}});
    let accepted = stage.platform.request("POST", "/jobs").json(&job).send().await.unwrap();
    assert_eq!(accepted.status(), 202);
    assert!(lease(&stage.worker, json!({"max": 10})).await.is_empty());
    assert_eq!(lease(&of_none, json!({"max": 10})).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn priorities_and_kinds_share_a_worker() {
    let stage = Stage::open().await;
    stage.register("x.other", json!({})).await;
    for priority in ["low", "normal", "urgent"] {
        for _ in 0..3 {
            stage.submit("x.echo", json!({"priority": priority})).await;
            stage.submit("x.other", json!({"priority": priority})).await;
        }
    }
    let kinds = json!({"x.echo": 1, "x.other": 1});
    let leased = stage.lease(json!({"max": 10, "kinds": kinds})).await;
    let jobs = leased["jobs"].as_array().unwrap().clone();
    let count = |kind: &str| jobs.iter().filter(|job| job["kind"] == kind).count();
    assert_eq!(jobs.len(), 10);
    assert!(count("x.echo") >= 4 && count("x.other") >= 4, "{leased}");
    let rest = stage.lease(json!({"max": 100, "kinds": kinds})).await;
    assert_eq!(rest["jobs"].as_array().unwrap().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_cap_slots_limits_and_drain_hold_for_workers_by_http() {
    let stage = Stage::open().await;
    for _ in 0..6 {
        stage.submit("x.echo", json!({})).await;
    }
    let steer = async |method: &str, path: &str, body: Value| {
        let answer = stage.platform.request(method, path).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    };
    let queue = async |body: Value| steer("PATCH", "/queues/external", body).await;
    let lease = async || stage.lease(json!({"max": 10})).await["jobs"].as_array().unwrap().clone();

    queue(json!({"paused": true})).await;
    assert!(lease().await.is_empty());
    queue(json!({"paused": false, "cap": 1})).await;
    let jobs = lease().await;
    assert_eq!((jobs.len(), lease().await.len()), (1, 0));
    queue(json!({"cap": null, "slots": 1})).await;
    let busy = stage.lease(json!({"max": 10, "busy": 1})).await;
    assert_eq!(busy["jobs"], json!([]), "its one slot is busy");
    queue(json!({"slots": null})).await;
    for name in ["kind/x.echo", "tenant/acme"] {
        steer("PUT", "/queues/external/limits", json!({"name": name, "concurrency": 2})).await;
        let leased = lease().await;
        assert_eq!(leased.len(), 2, "{name}: runs from before the limit do not count");
        assert!(lease().await.is_empty());
        for job in &leased {
            stage.says("settle", &Run::of(job), json!({"outcome": "released"})).await;
        }
        steer("PUT", "/queues/external/limits", json!({"name": name})).await;
    }
    steer("PUT", "/queues/external/limits", json!({"name": "host/*", "concurrency": 1})).await;
    for _ in 0..2 {
        stage.submit("x.echo", json!({"limits": ["host/example.org"]})).await;
    }
    let leased = lease().await;
    assert_eq!(leased.len(), 6, "five that are free and one of the host");
    assert!(lease().await.is_empty());
    for job in &leased {
        stage.says("settle", &Run::of(job), json!({"outcome": "succeeded"})).await;
    }
    assert_eq!(lease().await.len(), 1, "the other of the host");

    let listed = stage.platform.get("/workers?queue=external").await;
    assert_eq!(
        (&listed["workers"][0]["name"], &listed["workers"][0]["kinds"]),
        (&json!("w@acme"), &json!({"x.echo": 1}))
    );
    stage.submit("x.echo", json!({})).await;
    steer("POST", "/queues/external/workers/w@acme/drain", json!({})).await;
    let answer = stage.lease(json!({"wait_s": 20})).await;
    assert_eq!(answer, json!({"jobs": [], "drain": true}));
    assert_eq!(stage.lease(json!({"worker": "another"})).await["jobs"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_is_told_to_drain() {
    let stage = Stage::open().await;
    let waiting = async {
        let answer = stage.ask(&stage.worker, "POST", "/work/lease", wanted(json!({"wait_s": 20}))).await;
        answer.json::<Value>().await.unwrap()
    };
    let drain = async {
        eventually_async("it waits", async || {
            let path = "/queues/external/workers/w@acme/drain";
            let answer = stage.platform.request("POST", path).send().await.unwrap();
            (answer.status() == 202).then_some(())
        })
        .await;
    };
    let (answer, ()) = tokio::join!(waiting, drain);
    assert_eq!(answer, json!({"jobs": [], "drain": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_says_why_it_waits_for_its_tenants_workers_only() {
    let stage = Stage::open().await;
    let other = stage.key(Some("other"), &["jobs:work"]).await;
    stage.answer(&other, "PUT", "/kinds/x.echo", numbered(json!({})), 201).await;
    stage.answer(&other, "POST", "/work/lease", wanted(json!({"worker": "secret-name"})), 200).await;
    let id = stage.submit("x.echo", json!({})).await;
    let why = stage.answer(&stage.app, "GET", &format!("/jobs/{id}/why"), Value::Null, 200).await;
    assert_eq!((&why["blocks"][0]["reason"], &why["blocks"][0]["workers"]), (&json!("no_worker"), &json!([])));
    assert!(!why.to_string().contains("secret-name"));
}
