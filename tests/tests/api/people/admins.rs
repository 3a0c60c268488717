//! Those who look after people and tenants.

use fourmi_tests::{GOOD_PASSWORD, Platform, eventually_async};
use serde_json::{Value, json};

use super::{mails, platform, post_as, status};
use crate::problem;

fn later() -> Value {
    let source = json!({"source": {"url": "https://example.org/a.mp3"}});
    json!({"kind": "audio.extract", "payload": source, "not_before": "2099-01-01T00:00:00Z"})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_invites_finds_and_changes_people_of_their_tenant() {
    let platform = platform().await;
    let admin = platform.add_person("admin", "admin", Some("acme")).await;
    let invite = async |body: Value| post_as(&platform, &admin.token, "/users", body).await;
    let bob: Value = invite(json!({"email": "bob@example.org", "name": "Bob Étoile"})).await.json().await.unwrap();
    assert_eq!((&bob["tenant"], &bob["role"], &bob["has_password"]), (&json!("acme"), &json!("user"), &json!(false)));
    assert_eq!(mails(&platform).await[0], (bob["id"].as_str().unwrap().to_owned(), "invitation".to_owned()));
    assert_eq!(problem(invite(json!({"email": "BOB@example.org"})).await, 409).await, "name_taken");
    assert_eq!(
        problem(invite(json!({"email": "c@example.org", "role": "super_admin"})).await, 403).await,
        "role_too_high"
    );
    assert_eq!(
        problem(invite(json!({"email": "c@example.org", "tenant": "other"})).await, 403).await,
        "foreign_tenant"
    );
    assert_eq!(problem(invite(json!({"role": "user"})).await, 422).await, "invalid_request");

    let find = async |query: &str| -> Vec<Value> {
        let answer = platform.request_as(&admin.token, "GET", &format!("/users?{query}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{query}");
        answer.json::<Value>().await.unwrap()["users"].as_array().unwrap().clone()
    };
    assert_eq!(find("search=étoile").await.len(), 1);
    assert_eq!(find("search=%25").await.len(), 0, "nothing stands for everything");
    assert_eq!(find("role=admin").await.len(), 1);
    assert_eq!(find("active=false").await.len(), 0);
    // In pages.
    let mut cursor = String::new();
    let mut met = Vec::new();
    loop {
        let path = format!("/users?limit=1{cursor}");
        let page: Value = platform.request_as(&admin.token, "GET", &path).send().await.unwrap().json().await.unwrap();
        met.extend(page["users"].as_array().unwrap().iter().map(|user| user["id"].clone()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(met.len(), 2);
    let nonsense = platform.request_as(&admin.token, "GET", "/users?cursor=nonsense").send().await.unwrap();
    assert_eq!(problem(nonsense, 400).await, "invalid_cursor");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_becomes_more_than_they_are() {
    let platform = platform().await;
    let root = platform.first_admin().await;
    let admin = platform.add_person("admin", "admin", Some("acme")).await;
    // A key that looks after people, and may do less than an admin.
    let key = json!({"name": "help desk", "scopes": ["users:admin", "jobs:submit", "jobs:read", "jobs:control", "files:write", "files:read"], "tenant": "acme"});
    let key: Value = platform.request("POST", "/keys").json(&key).send().await.unwrap().json().await.unwrap();
    let key = key["secret"].as_str().unwrap();
    let ask = async |token: &str, method: &str, path: &str, body: Value| {
        problem(platform.request_as(token, method, path).json(&body).send().await.unwrap(), 403).await
    };
    let user = format!("/users/{}", admin.info.id);
    for (method, path, body) in [
        ("POST", "/users".to_owned(), json!({"email": "x@example.org", "role": "admin"})),
        ("PATCH", user.clone(), json!({"name": "x"})),
        ("POST", format!("{user}/deactivate"), Value::Null),
        ("DELETE", user.clone(), Value::Null),
        ("GET", format!("{user}/links"), Value::Null),
        ("POST", format!("{user}/links"), Value::Null),
    ] {
        assert_eq!(ask(key, method, &path, body).await, "role_too_high", "{method} {path}");
    }
    assert_eq!(status(&platform, &admin.token).await, 200);
    // Nor is a role something that one gives oneself.
    let own = platform.request_as(&admin.token, "PATCH", &user).json(&json!({"role": "super_admin"}));
    assert_eq!(problem(own.send().await.unwrap(), 403).await, "role_too_high");

    let root_path = format!("/users/{}", root.info.id);
    let hidden = platform.request_as(&admin.token, "GET", &root_path).send().await.unwrap();
    assert_eq!(problem(hidden, 404).await, "unknown_user");
    for (method, path, body) in
        [("DELETE", root_path.clone(), Value::Null), ("POST", format!("{root_path}/deactivate"), Value::Null)]
    {
        let answer = platform.request(method, &path).json(&body).send().await.unwrap();
        assert_eq!(problem(answer, 409).await, "last_super_admin", "{method} {path}");
    }
    // Who becomes a super admin leaves the tenant; who is one no longer needs a tenant to belong to.
    let change = async |body: Value| platform.request("PATCH", &user).json(&body).send().await.unwrap();
    let promoted: Value = change(json!({"role": "super_admin"})).await.json().await.unwrap();
    assert_eq!((&promoted["role"], promoted.get("tenant")), (&json!("super_admin"), None));
    assert_eq!(problem(change(json!({"role": "user"})).await, 422).await, "invalid_request");
    assert_eq!(problem(change(json!({"role": "user", "tenant": "nowhere"})).await, 422).await, "unknown_tenant");
    assert_eq!(problem(change(json!({"tenant": "acme"})).await, 422).await, "invalid_request");
    platform.add_tenant("other").await;
    let demoted: Value = change(json!({"role": "user", "tenant": "other"})).await.json().await.unwrap();
    assert_eq!((&demoted["role"], &demoted["tenant"]), (&json!("user"), &json!("other")));
    let second = platform.add_person("second", "super_admin", None).await;
    // Two who depose each other at once: one of them stays.
    let depose = async |who: &str, token: &str| {
        let request = platform.request_as(token, "POST", &format!("/users/{who}/deactivate"));
        request.send().await.unwrap().status().as_u16()
    };
    let both = tokio::join!(depose(root.info.id.as_str(), &second.token), depose(second.info.id.as_str(), &root.token));
    assert!(matches!(both, (200, 401 | 409) | (401 | 409, 200)), "{both:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_deleted_leaves_what_was_asked_for() {
    let platform = platform().await;
    let [ada, bob] = [
        platform.add_person("ada", "user", Some("acme")).await,
        platform.add_person("bob", "user", Some("acme")).await,
    ];
    let mut left = Vec::new();
    for person in [&ada, &bob] {
        let job: Value = post_as(&platform, &person.token, "/jobs", later()).await.json().await.unwrap();
        let over: Value = post_as(&platform, &person.token, "/jobs", later()).await.json().await.unwrap();
        let cancel = format!("/jobs/{}/cancel", over["id"].as_str().unwrap());
        assert_eq!(post_as(&platform, &person.token, &cancel, json!({})).await.status(), 200);
        let file = platform.request_as(&person.token, "POST", "/files?name=a.txt").body("content");
        let file: Value = file.send().await.unwrap().json().await.unwrap();
        left.push([
            format!("/jobs/{}", job["id"].as_str().unwrap()),
            format!("/files/{}/info", file["id"].as_str().unwrap()),
        ]);
    }
    let there = async |path: &str| platform.request("GET", path).send().await.unwrap().status().as_u16();
    let delete = async |id: &str, query: &str| {
        platform.request("DELETE", &format!("/users/{id}{query}")).send().await.unwrap().status().as_u16()
    };
    assert_eq!(delete(ada.info.id.as_str(), "").await, 204);
    assert_eq!(delete(bob.info.id.as_str(), "?data=erase").await, 202);
    assert_eq!(delete(bob.info.id.as_str(), "").await, 404);
    assert_eq!((status(&platform, &ada.token).await, status(&platform, &bob.token).await), (401, 401));
    assert_eq!(problem(platform.try_login("ada@example.org", GOOD_PASSWORD).await, 401).await, "credentials_invalid");
    eventually_async("everything of Bob is gone", async || {
        let gone = there(&left[1][0]).await == 404 && there(&left[1][1]).await == 404;
        let jobs = platform.get(&format!("/jobs?submitted_by={}", bob.info.id)).await;
        (gone && jobs["jobs"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    assert_eq!((there(&left[0][0]).await, there(&left[0][1]).await), (200, 200), "what Ada made stays");
    let events = platform.get(&format!("/audit?action=user.deleted&target={}", bob.info.id)).await;
    assert_eq!(events["events"][0]["details"]["data"], "erase");
    // The address is free again.
    platform.add_person("ada", "user", Some("acme")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_deletes_ones_own_account() {
    let platform = platform().await;
    let ada = platform.add_person("ada", "user", Some("acme")).await;
    let delete = async |password: &str| {
        post_as(&platform, &ada.token, "/auth/delete-account", json!({"password": password})).await
    };
    assert_eq!(problem(delete("wrong").await, 401).await, "credentials_invalid");
    assert_eq!(delete(GOOD_PASSWORD).await.status(), 204);
    assert_eq!(status(&platform, &ada.token).await, 401);
    assert_eq!(platform.get("/users?search=ada").await["users"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_have_people_keys_weights_and_figures() {
    let platform = platform().await;
    let make = async |body: Value| platform.request("POST", "/tenants").json(&body).send().await.unwrap();
    assert_eq!(
        make(json!({"name": "beta", "title": "Beta", "app_url": "https://beta.example.org/app/"})).await.status(),
        201
    );
    assert_eq!(problem(make(json!({"name": "BETA"})).await, 409).await, "name_taken");
    for body in [
        json!({"name": "a b"}),
        json!({"name": ""}),
        json!({"name": "x", "app_url": "javascript:alert(1)"}),
        json!({"name": "x", "app_url": "https://user:secret@example.org"}),
        json!({"name": "x", "title": "a\nb"}),
    ] {
        assert_eq!(problem(make(body.clone()).await, 422).await, "invalid_request", "{body}");
    }
    let nowhere = json!({"name": "app", "scopes": ["jobs:read"], "tenant": "nowhere"});
    let nowhere = platform.request("POST", "/keys").json(&nowhere).send().await.unwrap();
    assert_eq!(problem(nowhere, 422).await, "unknown_tenant");
    let bob = json!({"email": "bob@example.org", "tenant": "beta"});
    let bob: Value = platform.request("POST", "/users").json(&bob).send().await.unwrap().json().await.unwrap();
    let links = platform.get(&format!("/users/{}/links", bob["id"].as_str().unwrap())).await;
    let url = links["links"][0]["url"].as_str().unwrap();
    assert!(url.starts_with("https://beta.example.org/app/accept-invitation?token=token-"), "{url}");

    let key = json!({"name": "app", "scopes": ["jobs:submit"], "tenant": "beta"});
    let key: Value = platform.request("POST", "/keys").json(&key).send().await.unwrap().json().await.unwrap();
    let weight = platform.request("PUT", "/queues/media/weights").json(&json!({"tenant": "beta", "weight": 3}));
    assert_eq!(weight.send().await.unwrap().status(), 200);
    let limit = json!({"name": "tenant/beta", "concurrency": 2});
    assert_eq!(platform.request("PUT", "/queues/media/limits").json(&limit).send().await.unwrap().status(), 200);
    let beta = platform.get("/tenants/beta").await;
    assert_eq!((&beta["people"], &beta["keys"]), (&json!(1), &json!(1)));
    let media = beta["queues"].as_array().unwrap().iter().find(|queue| queue["queue"] == "media").unwrap();
    assert_eq!((&media["weight"], &media["limit"]["concurrency"]), (&json!(3), &json!(2)));

    // Figures of jobs that are over.
    let secret = key["secret"].as_str().unwrap();
    let job: Value = post_as(&platform, secret, "/jobs", later()).await.json().await.unwrap();
    let cancel = format!("/jobs/{}/cancel", job["id"].as_str().unwrap());
    assert_eq!(platform.request("POST", &cancel).send().await.unwrap().status(), 200);
    eventually_async("the job is counted", async || {
        let usage = platform.get("/tenants/beta/usage?days=1").await;
        (usage["cancelled"] == 1 && usage["kinds"][0]["kind"] == "audio.extract").then_some(())
    })
    .await;

    let delete = async || platform.request("DELETE", "/tenants/beta").send().await.unwrap();
    assert_eq!(problem(delete().await, 409).await, "tenant_not_empty");
    let user = format!("/users/{}", bob["id"].as_str().unwrap());
    assert_eq!(platform.request("DELETE", &user).send().await.unwrap().status(), 204);
    let key = format!("/keys/{}", key["key"]["id"].as_str().unwrap());
    assert_eq!(platform.request("DELETE", &key).send().await.unwrap().status(), 204);
    assert_eq!(delete().await.status(), 204);
    assert_eq!(problem(delete().await, 404).await, "unknown_tenant");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_tells_who_did_what_from_where() {
    let platform = platform().await;
    platform.add_tenant("other").await;
    let admin = platform.add_person("admin", "admin", Some("acme")).await;
    let stranger = platform.add_person("stranger", "admin", Some("other")).await;
    let bob = platform.add_person("bob", "user", Some("acme")).await;
    let change = platform
        .request_as(&admin.token, "PATCH", &format!("/users/{}", bob.info.id))
        .header("user-agent", "help desk")
        .header("x-request-id", "request-7")
        .json(&json!({"role": "admin"}));
    assert_eq!(change.send().await.unwrap().status(), 200);

    let read = async |token: &str, query: &str| -> Vec<Value> {
        let answer = platform.request_as(token, "GET", &format!("/audit?{query}")).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["events"].as_array().unwrap().clone()
    };
    let events = read(&admin.token, &format!("action=user.role_changed&target={}", bob.info.id)).await;
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!(event["actor"], json!(admin.info.id));
    assert_eq!(
        (&event["address"], &event["user_agent"], &event["request_id"]),
        (&json!("127.0.0.1"), &json!("help desk"), &json!("request-7"))
    );
    assert_eq!((&event["details"]["from"], &event["details"]["to"]), (&json!("user"), &json!("admin")));
    assert!(read(&admin.token, "").await.iter().all(|event| event["tenant"] == "acme"));
    assert!(read(&stranger.token, &format!("target={}", bob.info.id)).await.is_empty());
    assert!(read(&stranger.token, "tenant=acme").await.is_empty());
    assert!(!read(&admin.token, "action=login&outcome=success").await.is_empty());
    // The links of others are read, and this is known.
    platform.get(&format!("/users/{}/links", bob.info.id)).await;
    let wrong = platform.request_as(&admin.token, "GET", "/audit?outcome=perhaps").send().await.unwrap();
    assert_eq!(problem(wrong, 400).await, "invalid_query");
    // There is no way to change or remove an event.
    for method in ["DELETE", "PUT", "PATCH", "POST"] {
        let answer = platform.request(method, "/audit").json(&json!({})).send().await.unwrap();
        assert_eq!(answer.status(), 405, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_leave_traces_in_the_audit_log() {
    let platform = Platform::with(&[], 0).await;
    let key = json!({"name": "app", "scopes": ["jobs:read"]});
    let key: Value = platform.request("POST", "/keys").json(&key).send().await.unwrap().json().await.unwrap();
    let path = format!("/keys/{}", key["key"]["id"].as_str().unwrap());
    assert_eq!(
        platform.request("POST", &format!("{path}/rotate")).json(&json!({})).send().await.unwrap().status(),
        200
    );
    assert_eq!(platform.request("DELETE", &path).send().await.unwrap().status(), 204);
    let events = platform.get(&format!("/audit?target={}", key["key"]["id"].as_str().unwrap())).await;
    let actions: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["key.revoked", "key.rotated", "key.created"]);
    assert!(!events.to_string().contains(key["secret"].as_str().unwrap()));
}
