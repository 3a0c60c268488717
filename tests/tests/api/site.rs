//! A platform without workers: the test runs the jobs.

use std::time::Duration;

use fourmi_model::{JobId, State};
use fourmi_queue::{Outcome, Queues, Settlement, Transitions};
use fourmi_tests::Platform;
use serde_json::{Value, json};

pub(crate) struct Site {
    pub(crate) platform: Platform,
    pub(crate) queues: Queues,
    pub(crate) transitions: Transitions,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(settings: &[(&'static str, &str)]) -> Self {
        let platform = Platform::with(settings, 0).await;
        let queues = Queues::connect(&platform.redis.url()).await.unwrap();
        let transitions = Transitions::of(&queues, "media".parse().unwrap()).await.unwrap();
        Self { platform, queues, transitions }
    }

    /// Submits jobs and gives their ids; all must be accepted.
    pub(crate) async fn submit(&self, jobs: &[Value]) -> Vec<String> {
        let answer = self.platform.request("POST", "/jobs/bulk").json(&jobs).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["accepted"], jobs.len(), "{answer}");
        let results = answer["results"].as_array().unwrap();
        results.iter().map(|result| result["id"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.platform.request("POST", path).json(body).send().await.unwrap()
    }

    pub(crate) async fn state(&self, id: &str) -> String {
        self.platform.get(&format!("/jobs/{id}")).await["state"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn count(&self, state: State) -> u64 {
        self.queues.counts(self.transitions.queue()).await.unwrap().0[&state]
    }

    /// Starts up to so many jobs, and gives their ids.
    pub(crate) async fn start(&self, count: usize) -> Vec<JobId> {
        let fetched = self.transitions.fetch("w1", count, Duration::from_secs(60), false).await.unwrap();
        fetched.claims.into_iter().map(|claim| claim.id).collect()
    }

    /// Lets up to so many jobs succeed, and gives their ids.
    pub(crate) async fn run(&self, count: usize) -> Vec<JobId> {
        let fetched = self.transitions.fetch("w1", count, Duration::from_secs(60), false).await.unwrap();
        let outcome = || Outcome::Succeeded { result: "{}".into(), keep: Duration::from_secs(60) };
        let ends: Vec<_> =
            fetched.claims.iter().map(|claim| Settlement { run: claim.key(), outcome: outcome() }).collect();
        assert!(self.transitions.settle(&ends).await.unwrap().iter().all(|written| *written));
        fetched.claims.into_iter().map(|claim| claim.id).collect()
    }
}

/// A job, and what is said of it beside kind and payload.
pub(crate) fn job(more: Value) -> Value {
    let mut job = json!({"kind": "audio.extract", "payload": {"source": {"url": "https://example.org/a.mp4"}}});
    job.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    job
}
