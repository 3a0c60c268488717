//! A platform with a tenant, a key for its app and one for its worker.

use fourmi_tests::{Platform, eventually_async};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

/// Who asks: a key.
#[derive(Debug, Clone)]
pub(crate) struct Key(String);

pub(crate) struct Stage {
    pub(crate) platform: Platform,
    /// Of the tenant acme: submits and reads jobs.
    pub(crate) app: Key,
    /// Of the tenant acme: runs jobs.
    pub(crate) worker: Key,
}

const APP: [&str; 3] = ["jobs:submit", "jobs:read", "jobs:control"];

impl Stage {
    /// With the kind `x.echo`, whose payload has a number `n`.
    pub(crate) async fn open() -> Self {
        let stage = Self::empty().await;
        stage.register("x.echo", json!({})).await;
        stage
    }

    pub(crate) async fn empty() -> Self {
        let platform = Platform::with(&[], 0).await;
        let app = make_key(&platform, Some("acme"), &APP).await;
        let worker = make_key(&platform, Some("acme"), &["jobs:work"]).await;
        Self { platform, app, worker }
    }

    /// A key of a tenant, or of none.
    pub(crate) async fn key(&self, tenant: Option<&str>, scopes: &[&str]) -> Key {
        make_key(&self.platform, tenant, scopes).await
    }

    pub(crate) async fn app_of(&self, tenant: Option<&str>) -> Key {
        self.key(tenant, &APP).await
    }

    pub(crate) fn request(&self, key: &Key, method: &str, path: &str) -> RequestBuilder {
        self.platform.request_as(&key.0, method, path)
    }

    pub(crate) async fn ask(&self, key: &Key, method: &str, path: &str, body: Value) -> Response {
        self.request(key, method, path).json(&body).send().await.unwrap()
    }

    /// What is answered with this status.
    pub(crate) async fn answer(&self, key: &Key, method: &str, path: &str, body: Value, status: u16) -> Value {
        let answer = self.ask(key, method, path, body.clone()).await;
        let (found, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(found, status, "{method} {path} {body}: {text}");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    /// The code of the problem that comes with this status.
    pub(crate) async fn code(&self, key: &Key, method: &str, path: &str, body: Value, status: u16) -> String {
        let problem = self.answer(key, method, path, body, status).await;
        problem["code"].as_str().unwrap_or_else(|| panic!("{problem}")).to_owned()
    }

    /// Registers a kind of acme whose payload has a number `n`.
    pub(crate) async fn register(&self, name: &str, policy: Value) {
        let answer = self.ask(&self.worker, "PUT", &format!("/kinds/{name}"), numbered(policy)).await;
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// Submits a job as the app: its id.
    pub(crate) async fn submit(&self, kind: &str, more: Value) -> String {
        let mut body = json!({"kind": kind, "payload": {"n": 1}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let job = self.answer(&self.app, "POST", "/jobs", body, 202).await;
        job["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn job(&self, id: &str) -> Value {
        self.answer(&self.app, "GET", &format!("/jobs/{id}"), Value::Null, 200).await
    }

    pub(crate) async fn state(&self, id: &str) -> String {
        self.job(id).await["state"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn until_state(&self, id: &str, state: &str) -> Value {
        eventually_async(&format!("{id} is {state}"), async || {
            let job = self.job(id).await;
            (job["state"] == state).then_some(job)
        })
        .await
    }

    /// What `w` of acme gets that reads version 1 of `x.echo`.
    pub(crate) async fn lease(&self, more: Value) -> Value {
        self.answer(&self.worker, "POST", "/work/lease", wanted(more), 200).await
    }

    /// The next job, and its run.
    pub(crate) async fn lease_one(&self, more: Value) -> Run {
        let mut wanted = json!({"wait_s": 20});
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let leased = self.lease(wanted).await;
        let jobs = leased["jobs"].as_array().unwrap();
        assert_eq!(jobs.len(), 1, "{leased}");
        Run::of(&jobs[0])
    }

    /// The answer to one thing that the worker says.
    pub(crate) async fn say(&self, what: &str, run: &Run, more: Value) -> Value {
        let answer = self.answer(&self.worker, "POST", &format!("/work/{what}"), said(what, run, more), 200).await;
        let results = answer["results"].as_array().unwrap();
        assert_eq!((results.len(), &results[0]["index"]), (1, &json!(0)), "{answer}");
        results[0].clone()
    }

    /// Says something that must count.
    pub(crate) async fn says(&self, what: &str, run: &Run, more: Value) -> Value {
        let result = self.say(what, run, more).await;
        assert_eq!(result["status"], 200, "{result}");
        result
    }

    /// The code with which something that a worker says is refused.
    pub(crate) async fn refused(&self, what: &str, run: &Run, more: Value) -> String {
        let result = self.say(what, run, more).await;
        let error = &result["error"];
        assert_eq!(result["status"], error["status"], "{result}");
        error["code"].as_str().unwrap_or_else(|| panic!("{result}")).to_owned()
    }
}

async fn make_key(platform: &Platform, tenant: Option<&str>, scopes: &[&str]) -> Key {
    let mut key = json!({"name": "a key", "scopes": scopes});
    if let Some(tenant) = tenant {
        platform.add_tenant(tenant).await;
        key["tenant"] = json!(tenant);
    }
    let made = platform.request("POST", "/keys").json(&key).send().await.unwrap();
    let (status, text) = (made.status(), made.text().await.unwrap());
    assert_eq!(status, 201, "{text}");
    let made: Value = serde_json::from_str(&text).unwrap();
    Key(made["secret"].as_str().unwrap().to_owned())
}

/// A kind whose payload has a number `n`.
pub(crate) fn numbered(policy: Value) -> Value {
    let schema = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 0}}});
    json!({"summary": "Gives its number back.", "payload_schema": schema, "policy": policy})
}

/// A lease request of `w`.
pub(crate) fn wanted(more: Value) -> Value {
    let mut body = json!({"worker": "w", "kinds": {"x.echo": 1}, "lease_ms": 60_000});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A request that says one thing about a run.
pub(crate) fn said(what: &str, run: &Run, more: Value) -> Value {
    let mut item = json!({"id": run.id, "run": run.number});
    item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    match what {
        "renew" => json!({"worker": "w", "lease_ms": 60_000, "runs": [item]}),
        "progress" => json!({"progress": [item]}),
        "log" => json!({"log": [item]}),
        _ => json!({"outcomes": [item]}),
    }
}

/// A run of a job.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) number: u64,
    /// The job as it was leased.
    pub(crate) job: Value,
}

impl Run {
    pub(crate) fn of(job: &Value) -> Self {
        Self { id: job["id"].as_str().unwrap().to_owned(), number: job["run"].as_u64().unwrap(), job: job.clone() }
    }
}
