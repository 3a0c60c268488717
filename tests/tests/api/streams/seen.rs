//! A stream tells of nothing that its key does not see.

use fourmi_model::State;
use serde_json::{Value, json};

use super::site::{Site, succeeded, told};
use crate::{keys::make, problem};

/// Submits a job with a key.
async fn submit(site: &Site, key: &str) -> String {
    let body = json!({"kind": "audio.extract", "payload": {"source": {"url": "https://example.org/a.mp3"}}});
    let answer = site.platform.open_request("POST", "/api/v1/jobs").bearer_auth(key).json(&body).send().await.unwrap();
    let job: Value = answer.json().await.unwrap();
    job["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_told_of_the_jobs_of_its_tenant_only() {
    let site = Site::new(&[]).await;
    let scopes = json!(["jobs:submit", "jobs:read"]);
    let key = async |name: &str, more: Value| {
        let mut wanted = json!({"name": name, "scopes": scopes, "tenant": name});
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        make(&site.platform, wanted).await.1
    };
    let (town, village) = (key("town", json!({})).await, key("village", json!({})).await);
    let theirs = submit(&site, &village).await;
    let mut all = site.follow("/events").await;
    let mut towns = site.follow_with(&town, "/events").await;
    let mut villages = site.follow_with(&town, "/events?tenant=village").await;
    assert_eq!(all.until("live").await.len(), 2);
    assert_eq!(towns.until("live").await.len(), 1);
    assert_eq!(villages.until("live").await.len(), 1);

    let ask = async |path: &str| {
        let request = site.platform.open_request("GET", &format!("/api/v1{path}")).bearer_auth(&town);
        problem(request.send().await.unwrap(), 404).await
    };
    let unknown = "media-0198c0de-0000-7000-8000-000000000001";
    for id in [&*theirs, unknown] {
        assert_eq!(ask(&format!("/jobs/{id}/events")).await, "unknown_job");
        assert_eq!(ask(&format!("/flows/{id}/events")).await, "unknown_job");
    }
    // Theirs goes on; what comes next for the town is the town's.
    let claims = site.fetch().await;
    site.settle(&claims, &succeeded()).await;
    all.until_state(&theirs, State::Succeeded).await;
    let own = submit(&site, &town).await;
    let event = towns.event().await.unwrap();
    assert_eq!((told(&event), &event.json()["id"]), ("state waiting".to_owned(), &json!(own)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_sees_how_far_a_job_is_and_nothing_else() {
    let site = Site::new(&[]).await;
    let (_, public) = make(&site.platform, json!({"name": "site", "scopes": ["public:read"]})).await;
    let id = site.push("media.probe", "secret", &json!({"dataset_id": "hidden"})).await;
    for path in ["/events".to_owned(), format!("/flows/{id}/events")] {
        let request = site.platform.open_request("GET", &format!("/api/v1{path}")).bearer_auth(&public);
        assert_eq!(problem(request.send().await.unwrap(), 403).await, "scope_missing");
    }
    let path = format!("/jobs/{id}/events");
    let mut plain = site.follow_with(&public, &format!("{path}?log_after=0")).await;
    let mut words = site.follow_with(&public, &format!("{path}?vocabulary=processing")).await;
    let job = plain.event().await.unwrap().json();
    assert_eq!((&job["state"], &job["payload"], &job["tags"]), (&json!("waiting"), &Value::Null, &Value::Null));
    let claims = site.fetch().await;
    let line = fourmi_model::LogEntry::new(fourmi_model::LogLevel::Info, "a secret");
    site.transitions.log(&[(claims[0].key(), vec![line])]).await.unwrap();
    site.settle(&claims, &succeeded()).await;
    let mut states = Vec::new();
    while let Some(event) = plain.event().await {
        assert_eq!(event.json()["result"], Value::Null);
        states.push(told(&event));
    }
    assert_eq!(states.last().unwrap(), "state succeeded");
    assert!(states.iter().all(|state| state.starts_with("state ")), "no line of the log: {states:?}");
    while let Some(event) = words.event().await {
        assert_eq!(event.json()["dataset_id"], json!(id));
        assert!(!event.data.contains("hidden"), "{}", event.data);
    }
}
