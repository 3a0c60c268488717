//! What the tests of the queue share: a queue of its own to try things on, and the jobs to try them with.

use std::{sync::Arc, time::Duration};

use fourmi_model::{ErrorReport, Failure, Job, JobId, LogEntry, LogLevel, QueueName, State, Submission};
use fourmi_queue::{Consumer, Outbox, OutboxConfig, Outcome, Queues, Run, Settlement, Transitions};
use fourmi_tests::Topology;
use serde_json::value::RawValue;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const SHORT: Duration = Duration::from_millis(50);
pub(crate) const KEEP: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// A queue of its own on a Redis that may have others.
pub(crate) struct Bench {
    pub(crate) redis: Arc<Topology>,
    pub(crate) name: QueueName,
    pub(crate) queues: Queues,
    pub(crate) transitions: Transitions,
}

impl Bench {
    /// On a Redis of its own.
    pub(crate) async fn new() -> Self {
        Self::on(Arc::new(Topology::one_server()), "test").await
    }

    pub(crate) async fn on(redis: Arc<Topology>, name: &str) -> Self {
        let name: QueueName = name.parse().unwrap();
        let queues = redis.connect().await.unwrap();
        let transitions = Transitions::of(&queues, name.clone()).await.unwrap();
        Self { redis, name, queues, transitions }
    }

    pub(crate) fn new_id(&self) -> JobId {
        JobId::new(self.name.clone())
    }

    pub(crate) fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.name)
    }

    /// All keys of the queue.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut command = redis::cmd("EVAL");
        command.arg("return redis.call('KEYS', ARGV[1])").arg(1).arg(self.key("m")).arg(self.key("*"));
        self.redis.ask(&command)
    }

    pub(crate) async fn push(&self, submission: Submission) -> JobId {
        self.queues.push(self.new_id(), submission).await.unwrap().unwrap().id
    }

    pub(crate) async fn push_plain(&self) -> JobId {
        self.push(submission()).await
    }

    pub(crate) async fn fetch(&self, want: usize) -> Vec<(JobId, Run)> {
        self.fetch_for(want, LEASE).await
    }

    pub(crate) async fn fetch_for(&self, want: usize, lease: Duration) -> Vec<(JobId, Run)> {
        let fetched = self.transitions.fetch("w1", want, lease, false).await.unwrap();
        fetched.claims.into_iter().map(|claim| (claim.id.clone(), claim.key())).collect()
    }

    pub(crate) async fn fetch_one(&self) -> (JobId, Run) {
        let mut fetched = self.fetch(1).await;
        assert_eq!(fetched.len(), 1);
        fetched.remove(0)
    }

    pub(crate) async fn settle(&self, run: Run, outcome: Outcome) -> bool {
        self.transitions.settle(&[Settlement { run, outcome }]).await.unwrap()[0]
    }

    /// The queue's outbox, opened.
    pub(crate) async fn outbox(&self, config: OutboxConfig) -> Outbox {
        let outbox = Outbox::of(&self.queues, self.name.clone(), Consumer::Records, config).await.unwrap();
        assert!(outbox.take(1).await.unwrap().is_empty());
        outbox
    }

    pub(crate) async fn job(&self, id: &JobId) -> Job {
        self.queues.get(id).await.unwrap().expect("the job is there")
    }

    pub(crate) async fn state(&self, id: &JobId) -> State {
        self.job(id).await.state
    }

    pub(crate) async fn count(&self, state: State) -> u64 {
        self.queues.counts(&self.name).await.unwrap().0[&state]
    }

    /// Lets the lease of a run be over now, and nobody have been away.
    pub(crate) fn expire(&self, run: Run) {
        self.redis.ask(redis::cmd("ZADD").arg(self.key("lease")).arg(1).arg(run.job.to_string()))
    }

    /// Lets a run have started and been renewed for the last time so long ago.
    pub(crate) fn rewind(&self, run: Run, started: Duration, renewed: Duration) {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap();
        let now = jiff::Timestamp::now().as_millisecond();
        let hash = self.key(&format!("j:{}", run.job));
        let () = self.redis.ask(redis::cmd("HSET").arg(hash).arg("start").arg(now - ms(started)));
        let until = now - ms(renewed) + ms(LEASE);
        self.redis.ask(redis::cmd("ZADD").arg(self.key("lease")).arg(until).arg(run.job.to_string()))
    }

    /// Reclaims as a process that has looked all the time.
    pub(crate) async fn reclaim(&self) -> u64 {
        let now = jiff::Timestamp::now().as_millisecond();
        let () = self.redis.ask(redis::cmd("HDEL").arg(self.key("m")).arg("grace"));
        let () = self.redis.ask(redis::cmd("HSET").arg(self.key("m")).arg("reclaimed").arg(now));
        self.transitions.reclaim(100, LEASE).await.unwrap()
    }
}

pub(crate) fn submission() -> Submission {
    Submission::new("test.echo".parse().unwrap(), payload("{}"))
}

pub(crate) fn payload(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

pub(crate) fn keyed(key: &str, json: &str) -> Submission {
    let mut submission = submission();
    submission.envelope.payload = payload(json);
    submission.idempotency_key = Some(key.to_owned());
    submission
}

pub(crate) fn succeeded() -> Outcome {
    Outcome::Succeeded { result: r#"{"ok":true}"#.into(), keep: KEEP }
}

pub(crate) fn error() -> ErrorReport {
    Failure::retry("busy", "come back later").report()
}

pub(crate) fn retrying(delay: Duration) -> Outcome {
    Outcome::Retrying { error: error(), delay, keep: KEEP }
}

pub(crate) fn entries(texts: &[&str]) -> Vec<LogEntry> {
    texts.iter().map(|text| LogEntry::new(LogLevel::Info, text)).collect()
}
