//! API keys: scopes, tenants, devices, expiry, rotation, and what a key does not see.

use std::time::Duration;

use fourmi_tests::{Platform, eventually_async};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::problem;

/// What an app needs.
pub(crate) const APP: &[&str] = &["jobs:submit", "jobs:read", "jobs:control", "files:write", "files:read"];

/// Makes a key, and its tenant if there is none yet, and gives its document and its secret.
pub(crate) async fn make(platform: &Platform, body: Value) -> (Value, String) {
    if let Some(tenant) = body["tenant"].as_str() {
        platform.add_tenant(tenant).await;
    }
    let answer = platform.request("POST", "/keys").json(&body).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 201, "{text}");
    let made: Value = serde_json::from_str(&text).unwrap();
    (made["key"].clone(), made["secret"].as_str().unwrap().to_owned())
}

pub(crate) async fn app(platform: &Platform, tenant: &str) -> String {
    make(platform, json!({"name": tenant, "scopes": APP, "tenant": tenant})).await.1
}

/// A request with this key.
pub(crate) fn with(platform: &Platform, key: &str, method: &str, path: &str) -> reqwest::RequestBuilder {
    platform.open_request(method, &format!("/api/v1{path}")).bearer_auth(key)
}

async fn submit(platform: &Platform, key: &str, body: Value) -> reqwest::Response {
    with(platform, key, "POST", "/jobs").json(&body).send().await.unwrap()
}

fn later() -> Value {
    json!({"kind": "audio.extract", "payload": {"source": {"url": "https://example.org/a.mp3"}}, "not_before": "2099-01-01T00:00:00Z"})
}

async fn accepted(platform: &Platform, key: &str, body: Value) -> String {
    let answer = submit(platform, key, body).await;
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 202, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_what_its_scopes_say() {
    let platform = Platform::with(&[], 0).await;
    let (key, secret) = make(&platform, json!({"name": "reader", "scopes": ["jobs:read"]})).await;
    assert_eq!(secret.len(), 55);
    assert!(secret.starts_with(key["prefix"].as_str().unwrap()));
    let ask = async |method: &str, path: &str| with(&platform, &secret, method, path).send().await.unwrap();
    assert_eq!(ask("GET", "/jobs").await.status(), 200);
    for (method, path) in [
        ("POST", "/jobs"),
        ("POST", "/flows"),
        ("GET", "/queues"),
        ("PATCH", "/queues/media"),
        ("GET", "/keys"),
        ("POST", "/files"),
        ("POST", "/jobs/media-0198c0de-0000-7000-8000-000000000001/cancel"),
    ] {
        assert_eq!(problem(ask(method, path).await, 403).await, "scope_missing", "{method} {path}");
    }
    let own: Value = ask("GET", "/keys/current").await.json().await.unwrap();
    assert_eq!((&own["id"], &own["scopes"]), (&key["id"], &json!(["jobs:read"])));

    // Nobody reads a secret again.
    let all = platform.get("/keys").await;
    assert_eq!(all["keys"].as_array().unwrap().len(), 2);
    assert!(!all.to_string().contains(&secret) && all["next"].is_null());
    let log = platform.api.lines().join("\n");
    assert!(!log.contains(&secret[11..]), "a secret is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_submits_what_only_the_platform_does() {
    let platform = Platform::with(&[], 0).await;
    let kind = platform.get("/kinds/mail.notice").await;
    assert_eq!((&kind["internal"], &kind["queue"]), (&json!(true), &json!("messaging")));
    assert!(platform.get("/kinds/media.probe").await.get("internal").is_none());

    let to = "user-0198c0de000070008000000000000001";
    let mail = json!({"kind": "mail.notice", "payload": {"to": to, "notice": "password_changed"}});
    let file = platform.upload_bytes("x.txt", "x").await;
    let probe = json!({"kind": "media.probe", "payload": {"source": {"upload": file}}});
    let post = async |path: &str, body: Value| platform.request("POST", path).json(&body).send().await.unwrap();
    assert_eq!(problem(post("/jobs", mail.clone()).await, 403).await, "kind_internal");
    let many: Value = post("/jobs/bulk", json!([probe, mail])).await.json().await.unwrap();
    assert_eq!((&many["results"][0]["status"], &many["results"][1]["status"]), (&json!(202), &json!(403)), "{many}");
    assert_eq!(many["results"][1]["error"]["code"], "kind_internal");
    let named = |job: &Value| json!({"name": "a", "kind": job["kind"], "payload": job["payload"]});
    let of_flow = post("/flows", json!({"jobs": [named(&mail)]})).await;
    assert_eq!(problem(of_flow, 403).await, "kind_internal");
    let then = post("/flows", json!({"jobs": [named(&probe)], "batch": true, "then": mail})).await;
    assert_eq!(problem(then, 403).await, "kind_internal");
    let counts = platform.get("/queues/messaging").await["counts"].clone();
    assert!(counts.as_object().unwrap().values().all(|count| *count == json!(0)), "{counts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_cannot_give_what_it_does_not_have() {
    let platform = Platform::with(&[], 0).await;
    let admin = json!({"name": "admin of acme", "scopes": ["keys:admin", "jobs:read"], "tenant": "acme"});
    let (_, admin) = make(&platform, admin).await;
    let ask = async |body: Value| with(&platform, &admin, "POST", "/keys").json(&body).send().await.unwrap();
    let made: Value = ask(json!({"name": "a", "scopes": ["jobs:read"]})).await.json().await.unwrap();
    assert_eq!(made["key"]["tenant"], "acme");
    for (body, status, code) in [
        (json!({"name": "a", "scopes": ["jobs:submit"]}), 422, "invalid_request"),
        (json!({"name": "a", "scopes": ["jobs:read"], "tenant": "other"}), 403, "foreign_tenant"),
        (json!({"name": "a", "scopes": []}), 422, "invalid_request"),
        (json!({"name": "a", "scopes": ["jobs:fly"]}), 422, "invalid_request"),
        (json!({"name": "", "scopes": ["jobs:read"]}), 422, "invalid_request"),
        (json!({"name": "a", "scopes": ["jobs:read"], "rate_limit": "often"}), 422, "invalid_request"),
        (json!({"name": "a", "scopes": ["jobs:read"], "expires_at": "2020-01-01T00:00:00Z"}), 422, "invalid_request"),
    ] {
        assert_eq!(problem(ask(body.clone()).await, status).await, code, "{body}");
    }
    let of_all =
        platform.request("POST", "/keys").json(&json!({"name": "a", "scopes": ["queues:read"], "tenant": "acme"}));
    assert_eq!(problem(of_all.send().await.unwrap(), 422).await, "invalid_request");

    // Nor take over a key that can do more, or one of somebody else.
    let (strong, _) = make(&platform, json!({"name": "strong", "scopes": APP, "tenant": "acme"})).await;
    let (foreign, _) = make(&platform, json!({"name": "foreign", "scopes": ["jobs:read"]})).await;
    let rotate = async |key: &Value| {
        let path = format!("/keys/{}/rotate", key["id"].as_str().unwrap());
        with(&platform, &admin, "POST", &path).json(&json!({})).send().await.unwrap()
    };
    assert_eq!(problem(rotate(&strong).await, 422).await, "invalid_request");
    assert_eq!(problem(rotate(&foreign).await, 404).await, "unknown_key");
    let seen: Value = with(&platform, &admin, "GET", "/keys").send().await.unwrap().json().await.unwrap();
    assert_eq!(seen["keys"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_ends_by_time_by_rotation_and_when_it_is_taken_back() {
    let platform = Platform::with(&[], 0).await;
    let status = async |secret: &str| with(&platform, secret, "GET", "/jobs").send().await.unwrap().status().as_u16();
    let soon = Timestamp::now() + Duration::from_secs(2);
    let (_, brief) = make(&platform, json!({"name": "brief", "scopes": ["jobs:read"], "expires_at": soon})).await;
    assert_eq!(status(&brief).await, 200);

    let (key, first) = make(&platform, json!({"name": "turning", "scopes": ["jobs:read"]})).await;
    let path = format!("/keys/{}", key["id"].as_str().unwrap());
    let rotate = async |grace: u64| {
        let request = platform.request("POST", &format!("{path}/rotate")).json(&json!({"grace_s": grace}));
        let new: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(new["key"]["id"], key["id"]);
        new["secret"].as_str().unwrap().to_owned()
    };
    let second = rotate(3600).await;
    assert_eq!((status(&first).await, status(&second).await), (200, 200));
    let third = rotate(0).await;
    assert_eq!((status(&first).await, status(&second).await, status(&third).await), (401, 401, 200));

    let revoked = platform.request("DELETE", &path).send().await.unwrap();
    assert_eq!((revoked.status().as_u16(), status(&third).await), (204, 401));
    assert!(platform.get(&path).await["revoked_at"].is_string());
    let again = platform.request("POST", &format!("{path}/rotate")).json(&json!({})).send().await.unwrap();
    assert_eq!(problem(again, 409).await, "key_revoked");
    eventually_async("the brief key ends", async || (status(&brief).await == 401).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_come_and_go_at_once_count_at_once() {
    let platform = Platform::with(&[("FOURMI_RATE_LIMITS", "open=off,guess=off,login=off,any=1000000/60")], 0).await;
    for _ in 0..25 {
        let used = (0..32).map(async |n| {
            let (key, secret) = make(&platform, json!({"name": format!("key {n}"), "scopes": ["jobs:read"]})).await;
            let ask = async || with(&platform, &secret, "GET", "/jobs").send().await.unwrap().status();
            assert_eq!(ask().await, 200);
            let path = format!("/keys/{}", key["id"].as_str().unwrap());
            assert_eq!(platform.request("DELETE", &path).send().await.unwrap().status(), 204);
            assert_eq!(ask().await, 401);
        });
        join_all(used).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_locks_everybody_out() {
    let platform = Platform::with(&[], 0).await;
    let own = platform.get("/keys/current").await["id"].as_str().unwrap().to_owned();
    let revoke = async || platform.request("DELETE", &format!("/keys/{own}")).send().await.unwrap();
    assert_eq!(problem(revoke().await, 409).await, "last_admin_key");
    let less = platform.request("PATCH", &format!("/keys/{own}")).json(&json!({"scopes": ["jobs:read"]}));
    assert_eq!(problem(less.send().await.unwrap(), 409).await, "last_admin_key");
    make(&platform, json!({"name": "second", "scopes": ["keys:admin"]})).await;
    assert_eq!(revoke().await.status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_learns_of_a_change_and_of_use() {
    let platform = Platform::with(&[], 0).await;
    let other = platform.another_api();
    let http = reqwest::Client::new();
    let status = async |secret: &str| {
        let url = format!("{}/api/v1/jobs", other.url());
        http.get(url).bearer_auth(secret).send().await.unwrap().status().as_u16()
    };
    let (key, secret) = make(&platform, json!({"name": "shared", "scopes": ["jobs:read"]})).await;
    eventually_async("the other server knows the key", async || (status(&secret).await == 200).then_some(())).await;
    let path = format!("/keys/{}", key["id"].as_str().unwrap());
    assert_eq!(platform.request("DELETE", &path).send().await.unwrap().status(), 204);
    eventually_async("the other server refuses the key", async || (status(&secret).await == 401).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_see_each_others_jobs() {
    let platform = Platform::with(&[], 0).await;
    let (acme, other) = (app(&platform, "acme").await, app(&platform, "other").await);
    let id = accepted(&platform, &acme, later()).await;
    let job = platform.get(&format!("/jobs/{id}")).await;
    assert_eq!(job["tenant"], "acme");
    assert!(job["submitted_by"].as_str().unwrap().starts_with("key-"));

    let unknown = "media-0198c0de-0000-7000-8000-000000000001";
    for (method, suffix, body) in [
        ("GET", "", None),
        ("POST", "/cancel", None),
        ("POST", "/retry", None),
        ("GET", "/runs", None),
        ("GET", "/log", None),
        ("GET", "/why", None),
        ("GET", "/events", None),
        ("PATCH", "", Some(json!({"priority": "high"}))),
    ] {
        let ask = async |key: &str, id: &str| {
            let mut request = with(&platform, key, method, &format!("/jobs/{id}{suffix}"));
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.text().await.unwrap().replace(id, "ID"))
        };
        // The answer must not tell that there is such a job.
        assert_eq!(ask(&other, &id).await, ask(&other, unknown).await, "{method} {suffix}");
        assert_eq!(ask(&other, &id).await.0, 404, "{method} {suffix}");
    }
    let flow = with(&platform, &other, "GET", &format!("/flows/{id}")).send().await.unwrap();
    assert_eq!(problem(flow, 404).await, "unknown_job");
    assert_eq!(platform.get(&format!("/jobs/{id}")).await["state"], "scheduled", "nothing was done to it");

    let mut after = later();
    after["after"] = json!([id]);
    assert_eq!(problem(submit(&platform, &other, after.clone()).await, 422).await, "unknown_parent");
    accepted(&platform, &acme, after).await;
    let mut foreign = later();
    foreign["tenant"] = json!("acme");
    assert_eq!(problem(submit(&platform, &other, foreign).await, 403).await, "foreign_tenant");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_tenants_do_not_meet_in_idempotency_or_likeness() {
    let platform = Platform::with(&[], 0).await;
    let (acme, other) = (app(&platform, "acme").await, app(&platform, "other").await);
    let device = json!({"name": "kiosk", "scopes": APP, "tenant": "acme", "device": true});
    let (_, kiosk) = make(&platform, device).await;
    let mut ids = Vec::new();
    for key in [&acme, &other, &kiosk] {
        let request = with(&platform, key, "POST", "/jobs").header("Idempotency-Key", "same").json(&later());
        let job: Value = request.send().await.unwrap().json().await.unwrap();
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);

    let mut unique = later();
    unique["unique"] = json!({"until": "finished"});
    accepted(&platform, &acme, unique.clone()).await;
    accepted(&platform, &other, unique.clone()).await;
    // The kiosk does not see the job of its tenant that excludes its own.
    assert_eq!(problem(submit(&platform, &kiosk, unique).await, 409).await, "unique_conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_sees_what_it_submitted_and_nothing_else() {
    let platform = Platform::with(&[], 0).await;
    let app = app(&platform, "acme").await;
    let device = json!({"name": "kiosk", "scopes": APP, "tenant": "acme", "device": true});
    let (_, kiosk) = make(&platform, device).await;
    let (of_app, of_kiosk) = (accepted(&platform, &app, later()).await, accepted(&platform, &kiosk, later()).await);
    let status = async |key: &str, id: &str| {
        with(&platform, key, "GET", &format!("/jobs/{id}")).send().await.unwrap().status().as_u16()
    };
    assert_eq!((status(&kiosk, &of_kiosk).await, status(&kiosk, &of_app).await), (200, 404));
    assert_eq!((status(&app, &of_kiosk).await, status(&app, &of_app).await), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_reads_the_state_of_a_job_and_not_what_it_holds() {
    let platform = Platform::with(&[], 0).await;
    let (_, public) = make(&platform, json!({"name": "page", "scopes": ["public:read"]})).await;
    let mut job = later();
    job["tags"] = json!(["secret plan"]);
    job["correlation_id"] = json!("order 7");
    let id = platform.request("POST", "/jobs").json(&job).send().await.unwrap().json::<Value>().await.unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown: Value =
        with(&platform, &public, "GET", &format!("/jobs/{id}")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&shown["state"], &shown["payload"]), (&json!("scheduled"), &Value::Null));
    for hidden in ["example.org", "secret plan", "order 7", "key-"] {
        assert!(!shown.to_string().contains(hidden), "{hidden}");
    }
    for path in ["/jobs", &format!("/jobs/{id}/log"), &format!("/jobs/{id}/runs")] {
        assert_eq!(problem(with(&platform, &public, "GET", path).send().await.unwrap(), 403).await, "scope_missing");
    }
}
