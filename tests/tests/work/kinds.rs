//! Kinds are registered, changed and removed while the platform runs.

use fourmi_tests::eventually_async;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::stage::{Stage, numbered, said, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_kind_is_submitted_like_others_and_seen_by_its_tenant_alone() {
    let stage = Stage::empty().await;
    let policy = json!({"attempts": 3, "timeout_ms": 5_000, "priority": "high"});
    let put = async |key, status| stage.answer(key, "PUT", "/kinds/x.echo", numbered(policy.clone()), status).await;
    let kind = put(&stage.worker, 201).await;
    assert_eq!(
        [
            &kind["queue"],
            &kind["registered"],
            &kind["tenant"],
            &kind["attempts"],
            &kind["timeout_ms"],
            &kind["priority"]
        ],
        [&json!("external"), &json!(true), &json!("acme"), &json!(3), &json!(5_000), &json!("high")]
    );
    assert_eq!(kind["payload_schema"]["required"], json!(["n"]));
    assert_eq!(put(&stage.worker, 200).await, kind, "again as it is");

    // As for kinds of the platform's own: one, many, flows; what is wrong is named.
    let id = stage.submit("x.echo", json!({"payload": {"n": 7}})).await;
    assert!(id.starts_with("external-"));
    assert_eq!(stage.job(&id).await["priority"], "high");
    let wrong = json!({"kind": "x.echo", "payload": {"n": -7}});
    let problem = stage.answer(&stage.app, "POST", "/jobs", wrong.clone(), 422).await;
    assert_eq!((&problem["code"], &problem["errors"][0]["path"]), (&json!("invalid_payload"), &json!("payload.n")));
    assert!(!problem.to_string().contains("-7"), "payloads are not repeated: {problem}");
    let right = json!({"kind": "x.echo", "payload": {"n": 8}});
    let many = stage.answer(&stage.app, "POST", "/jobs/bulk", json!([right, wrong]), 200).await;
    assert_eq!(
        (&many["results"][0]["status"], &many["results"][1]["error"]["code"]),
        (&json!(202), &json!("invalid_payload"))
    );
    let member = |name: &str, kind: &Value| json!({"name": name, "kind": kind["kind"], "payload": kind["payload"]});
    let flow = |kind: &Value| json!({"batch": true, "jobs": [member("a", &right), member("b", kind)]});
    stage.answer(&stage.app, "POST", "/flows", flow(&right), 202).await;
    let problem = stage.answer(&stage.app, "POST", "/flows", flow(&wrong), 422).await;
    assert_eq!(problem["errors"][0]["path"], "jobs[1].payload.n");
    let listed = stage.answer(&stage.app, "GET", "/jobs?kind=x.echo", Value::Null, 200).await;
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 4);

    // Others have no such kind; a tenant may have its own of that name.
    let kinds = async |key, query: &str| {
        let listed = stage.answer(key, "GET", &format!("/kinds{query}"), Value::Null, 200).await;
        listed["kinds"].as_array().unwrap().iter().filter(|kind| kind["name"] == "x.echo").count()
    };
    let (other, of_none) = (stage.app_of(Some("other")).await, stage.app_of(None).await);
    assert_eq!((kinds(&stage.app, "").await, kinds(&other, "").await, kinds(&of_none, "").await), (1, 0, 0));
    assert_eq!(kinds(&of_none, "?tenant=acme").await, 1);
    let public = stage.key(None, &["public:read"]).await;
    assert_eq!(kinds(&public, "?tenant=acme").await, 0);
    assert_eq!(stage.code(&other, "GET", "/kinds/x.echo", Value::Null, 404).await, "unknown_kind");
    assert_eq!(stage.code(&other, "GET", "/kinds/x.echo?tenant=acme", Value::Null, 403).await, "foreign_tenant");
    for key in [&other, &of_none] {
        assert_eq!(stage.code(key, "POST", "/jobs", right.clone(), 422).await, "unknown_kind");
    }
    let mut of_acme = right.clone();
    of_acme["tenant"] = json!("acme");
    stage.answer(&of_none, "POST", "/jobs", of_acme, 202).await;
    let worker_of_other = stage.key(Some("other"), &["jobs:work"]).await;
    assert_eq!(stage.code(&worker_of_other, "DELETE", "/kinds/x.echo", Value::Null, 404).await, "unknown_kind");
    put(&worker_of_other, 201).await;
    assert_eq!(kinds(&other, "").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_counts_in_every_process_and_after_a_restart_until_it_is_removed() {
    let mut stage = Stage::open().await;
    let second = stage.platform.another_api();
    stage.register("x.late", json!({})).await;
    let ask = async |kind: &str| {
        let url = format!("{}/api/v1/kinds/{kind}?tenant=acme", second.url());
        let request = reqwest::Client::new().get(url).bearer_auth(stage.platform.key());
        request.send().await.unwrap().status().as_u16()
    };
    eventually_async("the other process knows it", async || (ask("x.late").await == 200).then_some(())).await;
    stage.answer(&stage.worker, "DELETE", "/kinds/x.late", Value::Null, 204).await;
    eventually_async("the other process has forgotten it", async || (ask("x.late").await == 404).then_some(())).await;
    assert_eq!(stage.code(&stage.worker, "DELETE", "/kinds/x.late", Value::Null, 404).await, "unknown_kind");
    assert_eq!(stage.code(&stage.worker, "DELETE", "/kinds/media.probe", Value::Null, 404).await, "unknown_kind");
    drop(second);

    let id = stage.submit("x.echo", json!({})).await;
    stage.platform.api.kill();
    stage.platform.restart_api();
    stage.submit("x.echo", json!({})).await;
    stage.answer(&stage.worker, "DELETE", "/kinds/x.echo", Value::Null, 204).await;
    let job = json!({"kind": "x.echo", "payload": {"n": 1}});
    assert_eq!(stage.code(&stage.app, "POST", "/jobs", job, 422).await, "unknown_kind");
    assert_eq!(stage.code(&stage.worker, "POST", "/work/lease", wanted(json!({})), 422).await, "unknown_kind");
    assert_eq!(stage.state(&id).await, "waiting", "what waits stays");
    stage.register("x.echo", json!({})).await;
    assert_eq!(stage.lease_one(json!({})).await.id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_that_are_registered_at_once_take_jobs_at_once() {
    let stage = Stage::empty().await;
    for round in 0..25 {
        let names: Vec<_> = (0..32).map(|n| format!("x.round{round}.kind{n}")).collect();
        let used = names.iter().map(async |name| {
            stage.register(name, json!({})).await;
            stage.submit(name, json!({})).await;
            stage.answer(&stage.worker, "DELETE", &format!("/kinds/{name}"), Value::Null, 204).await;
            let job = json!({"kind": name, "payload": {"n": 1}});
            assert_eq!(stage.code(&stage.app, "POST", "/jobs", job, 422).await, "unknown_kind");
        });
        join_all(used).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_of_a_schema_leaves_jobs_that_wait_to_those_who_read_theirs() {
    let stage = Stage::open().await;
    let old = stage.submit("x.echo", json!({})).await;
    let other = |version: u32| {
        let schema = json!({"type": "object", "required": ["m"]});
        json!({"summary": "Gives its number back.", "schema_version": version, "payload_schema": schema})
    };
    let put = async |body, status| stage.code(&stage.worker, "PUT", "/kinds/x.echo", body, status).await;
    assert_eq!(put(other(1), 409).await, "kind_conflict", "another schema needs another version");
    stage.answer(&stage.worker, "PUT", "/kinds/x.echo", other(2), 200).await;
    assert_eq!(put(numbered(json!({})), 409).await, "kind_conflict", "a version does not fall");
    // The order of fields says nothing.
    let same = json!({"schema_version": 2, "payload_schema": {"required": ["m"], "type": "object"}, "summary": "Gives its number back."});
    stage.answer(&stage.worker, "PUT", "/kinds/x.echo", same, 200).await;

    let job = json!({"kind": "x.echo", "payload": {"m": 1}});
    let new = stage.answer(&stage.app, "POST", "/jobs", job, 202).await["id"].as_str().unwrap().to_owned();
    let leased = stage.lease(json!({"max": 10})).await;
    let jobs: Vec<_> =
        leased["jobs"].as_array().unwrap().iter().map(|job| (&job["id"], &job["schema_version"])).collect();
    assert_eq!(jobs, [(&json!(old), &json!(1))], "who reads version 1 gets no other");
    let back = stage.job(&new).await;
    assert_eq!((&back["state"], &back["attempts"]), (&json!("scheduled"), &json!(0)));
    assert_eq!(back["error"]["code"], "unknown_schema_version");
    stage.answer(&stage.app, "POST", &format!("/jobs/{new}/retry"), Value::Null, 200).await;
    let run = stage.lease_one(json!({"kinds": {"x.echo": 2}})).await;
    assert_eq!((run.id, &run.job["schema_version"]), (new, &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_says_how_its_jobs_are_treated() {
    let stage = Stage::open().await;
    stage.register("x.brief", json!({"attempts": 2, "timeout_ms": 1, "backoff_ms": 1, "history": "none"})).await;
    let id = stage.submit("x.brief", json!({})).await;
    let kinds = json!({"kinds": {"x.brief": 1}});
    for attempt in [1, 2] {
        let run = stage.lease_one(kinds.clone()).await;
        assert_eq!((&run.job["attempts"], &run.job["timeout_ms"]), (&json!(attempt), &json!(1)));
        // It takes longer than a millisecond to come this far.
        let lost = eventually_async("the run is late", async || {
            let answer = stage.answer(&stage.worker, "POST", "/work/renew", said("renew", &run, json!({})), 200).await;
            let result = answer["results"][0].clone();
            (result["status"] == 409).then_some(result)
        })
        .await;
        assert_eq!(lost["error"]["code"], "lease_lost");
        assert!(lost["error"]["detail"].as_str().unwrap().contains("timeout_ms"), "{lost}");
    }
    let job = stage.job(&id).await;
    assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("timeout")));
    // What one submission says goes before.
    let id = stage.submit("x.brief", json!({"policy": {"timeout_ms": 60_000}})).await;
    let run = stage.lease_one(kinds).await;
    assert_eq!((&run.id, &run.job["timeout_ms"]), (&id, &json!(60_000)));
    stage.says("renew", &run, json!({})).await;
}
