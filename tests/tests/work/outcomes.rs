//! From a lease to an outcome, as compiled workers do it.

use fourmi_tests::eventually_async;
use serde_json::{Value, json};

use crate::stage::{Run, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_leased_reported_logged_renewed_and_settled_once() {
    let stage = Stage::open().await;
    let more = json!({"payload": {"n": 42}, "tags": ["a"], "correlation_id": "c-1"});
    let id = stage.submit("x.echo", more).await;
    let run = stage.lease_one(json!({})).await;
    let job = &run.job;
    assert_eq!(
        [&job["id"], &job["run"], &job["kind"], &job["payload"], &job["attempts"], &job["crashes"], &job["tags"]],
        [&json!(id), &json!(1), &json!("x.echo"), &json!({"n": 42}), &json!(1), &json!(0), &json!(["a"])]
    );
    assert!(job["lease_until"].is_string() && job["correlation_id"] == "c-1" && job.get("alone").is_none());
    assert_eq!(stage.job(&id).await["worker"], "w@acme");
    assert_eq!(stage.lease(json!({})).await["jobs"], json!([]), "it is leased once");

    let progress =
        |percent: f64| json!({"stage": "count", "percent": percent, "message": "half", "counters": {"numbers": 21}});
    assert_eq!(stage.says("progress", &run, progress(50.0)).await.get("cancel_requested"), None);
    stage.says("progress", &run, progress(20.0)).await;
    let shown = stage.job(&id).await["progress"].clone();
    assert_eq!((&shown["percent"], &shown["counters"]["numbers"]), (&json!(50.0), &json!(21.0)), "it never goes back");
    let lines = json!({"lines": [{"text": "one\ntwo"}, {"level": "warn", "text": "three"}]});
    stage.says("log", &run, lines).await;
    stage.says("renew", &run, json!({})).await;
    assert_eq!(
        stage
            .says("settle", &run, json!({"outcome": "succeeded", "result": {"a": [1, 2]}}))
            .await
            .get("settled_before"),
        None
    );
    for _ in 0..2 {
        let again = stage.says("settle", &run, json!({"outcome": "succeeded", "result": {"a": 3}})).await;
        assert_eq!(again["settled_before"], true);
    }
    assert_eq!(stage.refused("settle", &run, json!({"outcome": "cancelled"})).await, "lease_lost");
    let job = stage.job(&id).await;
    assert_eq!((&job["state"], &job["result"]), (&json!("succeeded"), &json!({"a": [1, 2]})));
    let log = stage.answer(&stage.app, "GET", &format!("/jobs/{id}/log"), Value::Null, 200).await;
    assert_eq!((&log["lines"][0]["text"], &log["lines"][1]["level"]), (&json!("one two"), &json!("warn")));

    // Twice in one request.
    stage.submit("x.echo", json!({})).await;
    let run = stage.lease_one(json!({})).await;
    let end = json!({"id": run.id, "run": run.number, "outcome": "succeeded"});
    let answer = stage.answer(&stage.worker, "POST", "/work/settle", json!({"outcomes": [end, end]}), 200).await;
    assert_eq!(
        (&answer["results"][0].get("settled_before"), &answer["results"][1]["settled_before"]),
        (&None, &json!(true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_leased_and_settled_in_one_request_each() {
    let stage = Stage::open().await;
    let jobs: Vec<_> = (0..450).map(|n| json!({"kind": "x.echo", "payload": {"n": n}})).collect();
    stage.answer(&stage.app, "POST", "/jobs/bulk", json!(jobs), 200).await;
    let mut all = Vec::new();
    loop {
        let leased = stage.lease(json!({"max": 200})).await;
        let jobs = leased["jobs"].as_array().unwrap();
        if jobs.is_empty() {
            break;
        }
        let ends: Vec<_> =
            jobs.iter().map(|job| json!({"id": job["id"], "run": job["run"], "outcome": "succeeded", "result": job["payload"]["n"]})).collect();
        let answer = stage.answer(&stage.worker, "POST", "/work/settle", json!({"outcomes": ends}), 200).await;
        assert!(answer["results"].as_array().unwrap().iter().all(|result| result["status"] == 200));
        all.extend(jobs.iter().map(|job| job["payload"]["n"].as_u64().unwrap()));
    }
    assert_eq!(all, (0..450).collect::<Vec<_>>(), "first in, first out");
    let queue = stage.platform.get("/queues/external").await;
    assert_eq!(queue["counts"]["succeeded"], 450);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_failed_is_tried_again_as_its_kind_says() {
    let stage = Stage::open().await;
    stage.register("x.flaky", json!({"attempts": 3, "backoff_ms": 1})).await;
    let kinds = json!({"kinds": {"x.flaky": 1}});
    let id = stage.submit("x.flaky", json!({})).await;
    let failed = json!({"outcome": "failed", "code": "busy", "message": "It is busy.", "stage": "ask", "cause": "503"});
    for attempt in [1, 2, 3] {
        let run = stage.lease_one(kinds.clone()).await;
        assert_eq!(run.job["attempts"], attempt);
        stage.says("settle", &run, failed.clone()).await;
    }
    let job = stage.job(&id).await;
    let error = &job["error"];
    assert_eq!(
        (&job["state"], &error["code"], &error["stage"], &error["cause"]),
        (&json!("failed"), &json!("busy"), &json!("ask"), &json!("503"))
    );
    // It can be replayed, and asks for time.
    stage.answer(&stage.app, "POST", &format!("/jobs/{id}/retry"), Value::Null, 200).await;
    let run = stage.lease_one(kinds.clone()).await;
    let slow = json!({"outcome": "failed", "code": "slow_down", "message": "m", "class": "rate_limited", "retry_after_ms": 3_600_000});
    stage.says("settle", &run, slow.clone()).await;
    assert_eq!(stage.state(&id).await, "retrying");
    assert_eq!(stage.says("settle", &run, slow).await["settled_before"], true);

    let id = stage.submit("x.flaky", json!({})).await;
    let run = stage.lease_one(kinds).await;
    let permanent = json!({"outcome": "failed", "code": "bad_input", "message": "No.", "retryable": false});
    stage.says("settle", &run, permanent).await;
    let job = stage.job(&id).await;
    assert_eq!(
        (&job["state"], &job["error"]["retryable"], &job["error"]["class"]),
        (&json!("failed"), &json!(false), &json!("invalid_input"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn given_back_parked_and_crashed_runs_are_no_attempts() {
    let stage = Stage::open().await;
    let id = stage.submit("x.echo", json!({"policy": {"backoff_ms": 1}})).await;
    let run = stage.lease_one(json!({})).await;
    stage.says("settle", &run, json!({"outcome": "released"})).await;
    let run = stage.lease_one(json!({})).await;
    assert_eq!((run.number, &run.job["attempts"]), (2, &json!(1)));
    stage.says("settle", &run, json!({"outcome": "released", "delay_ms": 3_600_000})).await;
    assert_eq!(stage.state(&id).await, "scheduled");
    stage.answer(&stage.app, "POST", &format!("/jobs/{id}/retry"), Value::Null, 200).await;

    let run = stage.lease_one(json!({})).await;
    stage
        .says("settle", &run, json!({"outcome": "parked", "reason": "offline", "message": "The printer is off."}))
        .await;
    assert_eq!(stage.job(&id).await["parked_reason"], "offline");
    let unpark = stage.platform.request("POST", "/queues/external/unpark").json(&json!({"reason": "offline"}));
    assert!(unpark.send().await.unwrap().status().is_success());

    let crash = json!({"outcome": "crashed", "message": "The child was killed.", "cause": "SIGSEGV"});
    for _ in 0..3 {
        let run = stage.lease_one(json!({})).await;
        assert_eq!(run.job["attempts"], 1);
        stage.says("settle", &run, crash.clone()).await;
    }
    let job = stage.job(&id).await;
    assert_eq!(
        (&job["state"], &job["error"]["code"], &job["crashes"]),
        (&json!("failed"), &json!("crashed"), &json!(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_runs_a_job_that_is_cancelled_is_told() {
    let stage = Stage::open().await;
    let cancelled = async || -> Run {
        let id = stage.submit("x.echo", json!({})).await;
        let run = stage.lease_one(json!({})).await;
        assert_eq!(run.id, id);
        stage.answer(&stage.app, "POST", &format!("/jobs/{id}/cancel"), Value::Null, 202).await;
        run
    };
    let run = cancelled().await;
    for (what, more) in [
        ("renew", json!({})),
        ("progress", json!({"stage": "s", "percent": 1})),
        ("log", json!({"lines": [{"text": "a"}]})),
    ] {
        assert_eq!(stage.says(what, &run, more).await["cancel_requested"], true, "{what}");
    }
    stage.says("settle", &run, json!({"outcome": "cancelled"})).await;
    assert_eq!(stage.state(&run.id).await, "cancelled");
    // As with workers of our own: what has failed by then is cancelled, what has succeeded has.
    let run = cancelled().await;
    let failed = json!({"outcome": "failed", "code": "c", "message": "m"});
    stage.says("settle", &run, failed.clone()).await;
    assert_eq!(stage.state(&run.id).await, "cancelled");
    assert_eq!(stage.says("settle", &run, failed).await["settled_before"], true);
    let run = cancelled().await;
    stage.says("settle", &run, json!({"outcome": "succeeded"})).await;
    assert_eq!(stage.state(&run.id).await, "succeeded");
    let run = cancelled().await;
    stage.says("settle", &run, json!({"outcome": "released"})).await;
    assert_eq!(stage.state(&run.id).await, "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_external_ones_and_the_other_way_round() {
    let stage = Stage::open().await;
    let first = stage.submit("x.echo", json!({})).await;
    let second = stage.submit("x.echo", json!({"after": [first]})).await;
    assert_eq!(stage.state(&second).await, "blocked");
    let run = stage.lease_one(json!({})).await;
    assert_eq!(run.id, first);
    stage.says("settle", &run, json!({"outcome": "succeeded", "result": 7})).await;
    let run = stage.lease_one(json!({})).await;
    assert_eq!((&run.id, &run.job["after"]), (&second, &json!([first])));
    stage.says("settle", &run, json!({"outcome": "succeeded"})).await;

    // A finished job is recorded, and read when the queue has forgotten it.
    eventually_async("it is recorded", async || {
        let archived = stage.platform.get("/queues/external").await["outbox"]["waiting"].clone();
        (archived == 0).then_some(())
    })
    .await;
    let gone = stage.platform.request("POST", "/queues/external/obliterate").json(&json!({})).send().await.unwrap();
    let offer: Value = gone.json().await.unwrap();
    let obliterate =
        stage.platform.request("POST", "/queues/external/obliterate").json(&json!({"token": offer["token"]}));
    assert!(obliterate.send().await.unwrap().status().is_success());
    assert_eq!((&stage.job(&first).await["archived"], &stage.job(&first).await["result"]), (&json!(true), &json!(7)));
    let id = stage.submit("x.echo", json!({})).await;
    assert_eq!(stage.lease_one(json!({})).await.id, id);
}
