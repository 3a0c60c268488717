//! Workers of the test's own kinds, and the means to give them jobs.

use fourmi_kinds::JobKind;
use fourmi_model::{Job, JobId, QueueName, State, Submission};
use fourmi_queue::Queues;
use fourmi_tests::{Program, RedisServer, eventually_async, kinds::QUEUE};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A Redis, a data folder, and the means to start workers on them.
pub(crate) struct Yard {
    pub(crate) redis: RedisServer,
    pub(crate) data: TempDir,
    pub(crate) queues: Queues,
}

pub(crate) fn queue() -> QueueName {
    QUEUE.parse().unwrap()
}

impl Yard {
    pub(crate) async fn new() -> Self {
        // Another test of the process may have chosen one before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let redis = RedisServer::start();
        let queues = Queues::connect(&redis.url()).await.unwrap();
        Self { redis, data: TempDir::new().unwrap(), queues }
    }

    /// A worker with these settings.
    pub(crate) fn worker(&self, settings: &[(&str, &str)]) -> Program {
        let worker = self.starting(settings);
        worker.wait_for_line("ready");
        worker
    }

    /// A worker that may not be ready yet.
    pub(crate) fn starting(&self, settings: &[(&str, &str)]) -> Program {
        let mut environment = vec![
            ("REDIS_URL", self.redis.url()),
            ("FOURMI_DATA", self.data.path().display().to_string()),
            ("FOURMI_LEASE_MS", "1500".to_owned()),
            ("NO_COLOR", "1".to_owned()),
        ];
        environment.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Program::start("fourmi-test-worker", &[], environment)
    }

    pub(crate) async fn push<K: JobKind>(&self, job: &K) -> JobId {
        let mut submission = Submission::new(K::NAME.parse().unwrap(), serde_json::value::to_raw_value(job).unwrap());
        submission.envelope.schema_version = K::SCHEMA_VERSION;
        submission.note(&K::policy());
        self.push_as(submission).await
    }

    /// A job of a kind by its name, without a payload.
    pub(crate) async fn push_named(&self, kind: &str) -> JobId {
        let payload = serde_json::value::to_raw_value(&json!({})).unwrap();
        self.push_as(Submission::new(kind.parse().unwrap(), payload)).await
    }

    pub(crate) async fn push_as(&self, submission: Submission) -> JobId {
        self.queues.push(JobId::new(queue()), submission).await.unwrap().unwrap().id
    }

    /// Waits until a job is as it should be.
    pub(crate) async fn until(&self, id: &JobId, there: impl Fn(&Job) -> bool) -> Job {
        eventually_async(&format!("job {id}"), async || self.queues.get(id).await.unwrap().filter(|job| there(job)))
            .await
    }

    /// Waits for the end of a job, which must be this.
    pub(crate) async fn ends(&self, id: &JobId, state: State) -> Value {
        let job = self.until(id, |job| job.state.is_final()).await;
        assert_eq!(job.state, state, "{job:?}");
        job.result.unwrap_or_default()
    }
}
