//! What workers may send, and how much of it.

use fourmi_model::KindName;
use serde_json::{Map, Value, json};

use crate::stage::{Run, Stage, numbered, said, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn kinds_that_cannot_be_registered_say_why() {
    let stage = Stage::empty().await;
    let put = async |name: &str, body: &Value, status| {
        stage.code(&stage.worker, "PUT", &format!("/kinds/{name}"), body.clone(), status).await
    };
    let good = numbered(json!({}));
    for name in
        ["media.probe", "echo", "y.echo", "x.", "x", "x.Echo", "x..a", "x.é", "flow.batch", "mail.notice", "%00"]
    {
        assert_eq!(put(name, &good, 422).await, "invalid_request", "{name}");
        assert!(!name.parse::<KindName>().is_ok_and(|name| name.is_external()), "{name}");
    }
    assert_eq!(put(&format!("x.{}", "a".repeat(70)), &good, 422).await, "invalid_request");
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, code) in [
        (json!({}), "invalid_request"),
        (with("colour", json!("red")), "invalid_request"),
        (with("summary", json!("")), "invalid_request"),
        (with("summary", json!("s".repeat(201))), "invalid_request"),
        (with("schema_version", json!(0)), "invalid_request"),
        (with("schema_version", json!(-1)), "invalid_request"),
        (with("schema_version", json!(1e18)), "invalid_request"),
        (with("policy", json!({"attempts": 0})), "invalid_request"),
        (with("policy", json!({"attempts": -1})), "invalid_request"),
        (with("policy", json!({"timeout_ms": 0})), "invalid_request"),
        (with("policy", json!({"timeout_ms": 1_000_000_000_000_000_000_u64})), "invalid_request"),
        (with("policy", json!({"keep_done_s": 0})), "invalid_request"),
        (with("policy", json!({"queue": "media"})), "invalid_request"),
        (with("payload_schema", json!("object")), "invalid_schema"),
        (with("payload_schema", json!({"type": "sting"})), "invalid_schema"),
        (with("payload_schema", json!({"$ref": "http://127.0.0.1:9/a.json"})), "invalid_schema"),
        (with("payload_schema", json!({"$ref": "file:///etc/passwd"})), "invalid_schema"),
        (with("payload_schema", json!({"$ref": "#"})), "invalid_schema"),
        (with("payload_schema", bomb()), "invalid_schema"),
        (with("payload_schema", json!({"description": "d".repeat(70_000)})), "invalid_schema"),
        (with("payload_schema", json!({"pattern": "(a+)+$(?=b)"})), "invalid_schema"),
        (with("result_schema", json!(7)), "invalid_schema"),
    ] {
        let text = body.to_string();
        assert_eq!(put("x.echo", &body, 422).await, code, "{}", &text[..text.len().min(300)]);
    }
    let deep = format!("{}{}", r#"{"summary":"s","payload_schema":"#, "[".repeat(100_000));
    for (body, status) in [("{", 400), (deep.as_str(), 400), ("[]", 422), ("", 400), ("\u{0}", 400)] {
        let request = stage.request(&stage.worker, "PUT", "/kinds/x.echo").header("content-type", "application/json");
        assert_eq!(request.body(body.to_owned()).send().await.unwrap().status(), status, "{body:.40}");
    }
    assert_eq!(put("x.echo", &with("summary", json!("s".repeat(300_000))), 413).await, "payload_too_large");
    assert_eq!(stage.code(&stage.app, "PUT", "/kinds/x.echo", good.clone(), 403).await, "scope_missing");

    for n in 0..100 {
        stage.answer(&stage.worker, "PUT", &format!("/kinds/x.n{n}"), good.clone(), 201).await;
    }
    assert_eq!(put("x.one_more", &good, 409).await, "too_many_kinds");
    stage.answer(&stage.worker, "PUT", "/kinds/x.n7", with("summary", json!("Another.")), 200).await;
    let other = stage.key(Some("other"), &["jobs:work"]).await;
    stage.answer(&other, "PUT", "/kinds/x.one_more", good.clone(), 201).await;
}

/// Each definition names the next one twice.
fn bomb() -> Value {
    let mut definitions = Map::new();
    for n in 0..40 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        definitions.insert(format!("d{n}"), json!({"anyOf": [next, next]}));
    }
    definitions.insert("d40".to_owned(), json!({"type": "string"}));
    json!({"$ref": "#/$defs/d0", "$defs": definitions})
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_cannot_be_given_say_why() {
    let stage = Stage::open().await;
    for (change, code) in [
        (json!({"worker": ""}), "invalid_request"),
        (json!({"worker": "a b"}), "invalid_request"),
        (json!({"worker": "w@other"}), "invalid_request"),
        (json!({"worker": "w".repeat(65)}), "invalid_request"),
        (json!({"kinds": {}}), "invalid_request"),
        (json!({"kinds": {"x.echo": 0}}), "invalid_request"),
        (json!({"kinds": {"x.echo": -1}}), "invalid_request"),
        (json!({"kinds": {"x.never": 1}}), "unknown_kind"),
        (json!({"kinds": {"media.probe": 1}}), "unknown_kind"),
        (json!({"kinds": ["x.echo"]}), "invalid_request"),
        (json!({"max": 0}), "invalid_request"),
        (json!({"max": -1}), "invalid_request"),
        (json!({"max": 201}), "invalid_request"),
        (json!({"busy": 4_000_000_000_u32}), "invalid_request"),
        (json!({"wait_s": 21}), "invalid_request"),
        (json!({"lease_ms": 0}), "invalid_request"),
        (json!({"lease_ms": 1e18}), "invalid_request"),
        (json!({"lease_ms": 1_000_000_000_000_000_000_u64}), "invalid_request"),
        (json!({"lease_ms": -5}), "invalid_request"),
        (json!({"tenant": "other"}), "invalid_request"),
    ] {
        assert_eq!(
            stage.code(&stage.worker, "POST", "/work/lease", wanted(change.clone()), 422).await,
            code,
            "{change}"
        );
    }
    for path in ["lease", "renew", "progress", "log", "settle"] {
        let path = format!("/work/{path}");
        assert_eq!(stage.code(&stage.app, "POST", &path, json!({}), 403).await, "scope_missing", "{path}");
        assert_eq!(stage.code(&stage.worker, "POST", &path, json!({}), 422).await, "invalid_request", "{path}");
        let garbage = stage.request(&stage.worker, "POST", &path).header("content-type", "application/json");
        assert_eq!(garbage.body("\u{1}\u{2}garbage").send().await.unwrap().status(), 400, "{path}");
    }
    // A device sees only what was submitted with it: it cannot work for others.
    let device = json!({"name": "kiosk", "scopes": ["jobs:work"], "tenant": "acme", "device": true});
    let refused = stage.platform.request("POST", "/keys").json(&device).send().await.unwrap();
    assert_eq!(refused.status(), 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_said_is_answered_by_itself() {
    let stage = Stage::open().await;
    let id = stage.submit("x.echo", json!({})).await;
    let waiting = Run::of(&json!({"id": id, "run": 0}));
    for (what, more) in said_of_a_run() {
        assert_eq!(stage.refused(what, &waiting, more).await, "lease_lost", "{what} without a lease");
    }
    let run = stage.lease_one(json!({})).await;
    let nothing = "external-0198c0de-0000-7000-8000-000000000001";
    for (what, more) in said_of_a_run() {
        for id in [nothing, "media-0198c0de-0000-7000-8000-000000000001", "nonsense", "", "external-x"] {
            let unknown = Run { id: id.to_owned(), ..run.clone() };
            assert_eq!(stage.refused(what, &unknown, more.clone()).await, "unknown_job", "{what} {id}");
        }
        for number in [0, 2, u64::MAX] {
            let other = Run { number, ..run.clone() };
            assert_eq!(stage.refused(what, &other, more.clone()).await, "lease_lost", "{what} {number}");
        }
        assert_eq!(stage.refused(what, &run, with(&more, "colour", json!("red"))).await, "invalid_request", "{what}");
        assert_eq!(stage.refused(what, &run, with(&more, "run", json!(-1))).await, "invalid_request", "{what}");
        // Others in the request are not touched by one that is wrong.
        let mut body = said(what, &run, more);
        let list =
            body.as_object_mut().unwrap().values_mut().find(|value| value.is_array()).unwrap().as_array_mut().unwrap();
        let good = list[0].clone();
        list.splice(.., [json!(7), json!({}), good]);
        let answer = stage.answer(&stage.worker, "POST", &format!("/work/{what}"), body.clone(), 200).await;
        let statuses: Vec<_> =
            answer["results"].as_array().unwrap().iter().map(|result| result["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [422, 422, 200], "{what}: {answer}");
        // Too many.
        let list = body.as_object_mut().unwrap().values_mut().find(|value| value.is_array()).unwrap();
        *list = json!(vec![json!({}); 1_001]);
        assert_eq!(stage.code(&stage.worker, "POST", &format!("/work/{what}"), body, 422).await, "invalid_request");
    }
    assert_eq!(stage.state(&id).await, "succeeded");

    stage.submit("x.echo", json!({})).await;
    let run = stage.lease_one(json!({})).await;
    for (what, more, code) in [
        ("progress", json!({"stage": "", "percent": 1}), "invalid_request"),
        ("progress", json!({"stage": "s", "percent": -1}), "invalid_request"),
        ("progress", json!({"stage": "s", "percent": 101}), "invalid_request"),
        ("progress", json!({"stage": "s", "percent": 1, "counters": counters(21)}), "invalid_request"),
        ("log", json!({"lines": []}), "invalid_request"),
        ("log", json!({"lines": vec![json!({"text": "a"}); 201]}), "invalid_request"),
        ("log", json!({"lines": [{"text": "a", "level": "loud"}]}), "invalid_request"),
        ("settle", json!({"outcome": "forgotten"}), "invalid_request"),
        ("settle", json!({"outcome": "failed"}), "invalid_request"),
        ("settle", json!({"outcome": "failed", "code": "Not a word", "message": "m"}), "invalid_request"),
        (
            "settle",
            json!({"outcome": "failed", "code": "c", "message": "m", "retry_after_ms": 1e18}),
            "invalid_request",
        ),
        ("settle", json!({"outcome": "succeeded", "code": "c"}), "invalid_request"),
        ("settle", json!({"outcome": "parked", "message": "m"}), "invalid_request"),
        ("settle", json!({"outcome": "parked", "message": "m", "reason": "tired"}), "invalid_request"),
        ("settle", json!({"outcome": "released", "delay_ms": 1_000_000_000_000_000_000_u64}), "invalid_request"),
        ("settle", json!({"outcome": "succeeded", "result": "r".repeat(70_000)}), "payload_too_large"),
    ] {
        let text = more.to_string();
        assert_eq!(stage.refused(what, &run, more).await, code, "{what} {}", &text[..text.len().min(200)]);
    }
    stage.says("settle", &run, json!({"outcome": "succeeded"})).await;
}

/// In this order: the last one ends the run.
fn said_of_a_run() -> [(&'static str, Value); 4] {
    [
        ("renew", json!({})),
        ("progress", json!({"stage": "s", "percent": 1})),
        ("log", json!({"lines": [{"text": "a"}]})),
        ("settle", json!({"outcome": "succeeded"})),
    ]
}

fn with(body: &Value, field: &str, value: Value) -> Value {
    let mut body = body.clone();
    body[field] = value;
    body
}

fn counters(count: usize) -> Value {
    (0..count).map(|n| (format!("c{n}"), json!(n))).collect::<Map<_, _>>().into()
}
