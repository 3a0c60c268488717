//! Devices, and who may write to all of them.

use fourmi_tests::Platform;
use serde_json::{Value, json};

use crate::answer;

async fn platform() -> Platform {
    let platform = Platform::with(&[("FOURMI_RATE_LIMITS", "submit=off,any=off")], 0).await;
    platform.add_tenant("acme").await;
    platform
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_are_for_who_sees_the_jobs_of_others() {
    let platform = platform().await;
    let kind = platform.get("/kinds/push.fanout").await;
    assert_eq!(kind["staff_only"], true);
    let user = platform.add_person("user", "user", Some("acme")).await.token;
    let admin = platform.add_person("admin", "admin", Some("acme")).await.token;
    let wanted = json!({"name": "kiosk", "scopes": ["jobs:submit"], "tenant": "acme", "device": true});
    let kiosk = answer(platform.request("POST", "/keys").json(&wanted), 201).await["secret"].clone();
    let broadcast = json!({"kind": "push.fanout", "payload": {"audience": "all", "title": "Hello"}});
    let submit = |token: &str| platform.request_as(token, "POST", "/jobs").json(&broadcast);
    for token in [user.as_str(), kiosk.as_str().unwrap()] {
        assert_eq!(answer(submit(token), 403).await["code"], "kind_staff_only");
        let flow = json!({"jobs": [{"name": "a", "kind": "push.fanout", "payload": broadcast["payload"]}]});
        let refused = platform.request_as(token, "POST", "/flows").json(&flow);
        assert_eq!(answer(refused, 403).await["code"], "kind_staff_only");
        let alone = json!({"kind": "push.send", "payload": {"to": {"owner": "anna"}, "title": "Hello"}});
        answer(platform.request_as(token, "POST", "/jobs").json(&alone), 202).await;
    }
    for token in [admin.as_str(), platform.key()] {
        answer(submit(token), 202).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_has_so_many_devices_and_what_changes_is_remembered() {
    let platform = platform().await;
    let register = async |number: usize, owner: &str| -> Value {
        let device =
            json!({"token": format!("token-{number}"), "platform": "android", "owner": owner, "tenant": "acme"});
        answer(platform.request("POST", "/devices").json(&device), 201).await
    };
    let first = register(0, "anna").await;
    for number in 1..50 {
        register(number, "anna").await;
    }
    // It is seen again, so that the next is the one that was not for longest.
    assert_eq!(register(0, "anna").await["id"], first["id"]);
    register(50, "anna").await;
    let list = platform.get("/devices?owner=anna&tenant=acme&limit=200").await;
    let tokens: Vec<_> = list["devices"].as_array().unwrap().iter().map(|device| device["id"].clone()).collect();
    assert!(tokens.len() == 50 && tokens.contains(&first["id"]), "{list}");
    register(0, "ben").await;
    let id = first["id"].as_str().unwrap();
    answer(platform.request("DELETE", &format!("/devices/{id}")), 204).await;

    let events = platform.get("/audit?action=device&limit=200").await["events"].clone();
    let events = events.as_array().unwrap();
    let count = |action: &str| events.iter().filter(|event| event["action"] == action).count();
    let counts = ["device.registered", "device.moved", "device.dropped", "device.removed"].map(count);
    assert_eq!(counts, [51, 1, 1, 1]);
    assert!(events.iter().all(|event| event["tenant"] == "acme" && event["target"].is_string()));
    assert!(!json!(events).to_string().contains("token-"), "tokens are personal");
}
