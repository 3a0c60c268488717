//! A platform without workers, whose jobs the test runs itself.

use std::time::Duration;

use fourmi_model::{JobId, State, Submission};
use fourmi_queue::{Claim, Outcome, Queues, Settlement, Transitions};
use fourmi_tests::{Block, EventReader, Platform};
use serde_json::{Value, json, value::RawValue};
use tokio::time::timeout;

const LEASE: Duration = Duration::from_secs(60);
const KEEP: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    pub(crate) platform: Platform,
    pub(crate) queues: Queues,
    pub(crate) transitions: Transitions,
}

impl Site {
    pub(crate) async fn new(settings: &[(&'static str, &str)]) -> Self {
        let platform = Platform::with(settings, 0).await;
        let queues = Queues::connect(&platform.redis.url()).await.unwrap();
        let transitions = Transitions::of(&queues, "media".parse().unwrap()).await.unwrap();
        Self { platform, queues, transitions }
    }

    pub(crate) fn job(&self, kind: &str, tag: &str, payload: &Value) -> (JobId, Submission) {
        let payload = RawValue::from_string(payload.to_string()).unwrap();
        let mut submission = Submission::new(kind.parse().unwrap(), payload);
        submission.envelope.tags = vec![tag.to_owned()];
        (JobId::new(self.transitions.queue().clone()), submission)
    }

    pub(crate) async fn push(&self, kind: &str, tag: &str, payload: &Value) -> JobId {
        let (id, submission) = self.job(kind, tag, payload);
        self.queues.push(id, submission).await.unwrap().unwrap().id
    }

    pub(crate) async fn probe(&self, tag: &str) -> JobId {
        self.push("media.probe", tag, &json!({})).await
    }

    /// Lets all jobs run that wait.
    pub(crate) async fn fetch(&self) -> Vec<Claim> {
        self.transitions.fetch("w1", 1_000, LEASE, false).await.unwrap().claims
    }

    /// Ends runs, however often Redis must be asked.
    pub(crate) async fn settle(&self, claims: &[Claim], outcome: &Outcome) {
        let settlements: Vec<_> =
            claims.iter().map(|claim| Settlement { run: claim.key(), outcome: outcome.clone() }).collect();
        while self.transitions.settle(&settlements).await.is_err() {}
    }

    /// Submits a batch of this many jobs; gives its id and those of its members.
    pub(crate) async fn batch(&self, members: usize) -> (String, Vec<String>) {
        let file = self.platform.upload_bytes("a.mp4", "not a film").await;
        let payload = json!({"source": {"upload": file}});
        let jobs: Vec<_> = (0..members)
            .map(|n| json!({"name": format!("job{n}"), "kind": "media.probe", "payload": payload}))
            .collect();
        let flow = json!({"batch": true, "jobs": jobs});
        let answer = self.platform.request("POST", "/flows").json(&flow).send().await.unwrap();
        let accepted: Value = answer.json().await.unwrap();
        let ids = accepted["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned());
        (accepted["batch"].as_str().unwrap().to_owned(), ids.collect())
    }

    pub(crate) async fn follow(&self, path: &str) -> Followed {
        self.follow_since(path, None).await
    }

    pub(crate) async fn follow_since(&self, path: &str, last: Option<&str>) -> Followed {
        let (url, key) = (self.platform.url(), self.platform.key());
        Followed(EventReader::open(url, path, key, last).await.unwrap())
    }

    pub(crate) async fn follow_with(&self, key: &str, path: &str) -> Followed {
        Followed(EventReader::open(self.platform.url(), path, key, None).await.unwrap())
    }
}

/// A stream that is read with patience.
pub(crate) struct Followed(pub(crate) EventReader);

impl Followed {
    pub(crate) async fn event(&mut self) -> Option<Block> {
        timeout(PATIENCE, self.0.event()).await.expect("an event comes")
    }

    pub(crate) async fn block(&mut self) -> Option<Block> {
        timeout(PATIENCE, self.0.next()).await.expect("something comes")
    }

    /// The events up to and with one of this name.
    pub(crate) async fn until(&mut self, name: &str) -> Vec<Block> {
        let mut events = Vec::new();
        loop {
            let event = self.event().await.expect("the stream goes on");
            events.push(event);
            if events.last().unwrap().name == name {
                return events;
            }
        }
    }

    /// The next event, as `name state`.
    pub(crate) async fn told(&mut self) -> String {
        let event = self.event().await.expect("the stream goes on");
        told(&event)
    }

    /// Reads on until a job is in this state.
    pub(crate) async fn until_state(&mut self, id: &str, state: State) -> Block {
        loop {
            let event = self.event().await.expect("the stream goes on");
            let job = event.json();
            if ["state", "snapshot"].contains(&event.name.as_str()) && job["id"] == id && job["state"] == state.as_str()
            {
                return event;
            }
        }
    }
}

pub(crate) fn told(event: &Block) -> String {
    let job = event.json();
    format!("{} {}", event.name, job["state"].as_str().unwrap_or_default()).trim().to_owned()
}

pub(crate) fn succeeded() -> Outcome {
    Outcome::Succeeded { result: r#"{"explanations":["a","b"]}"#.into(), keep: KEEP }
}

pub(crate) fn failed() -> Outcome {
    Outcome::Failed { error: fourmi_model::Failure::permanent("bad", "it is bad").report(), keep: KEEP }
}
