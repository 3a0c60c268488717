//! Submitting, reading and steering jobs: everything but running them.

use fourmi_model::{Job, JobId, KindName, QueueName, RunReport, State, Submission};

use crate::{QueueError, Refusal};

/// All queues of one Redis; cheap to clone.
#[derive(Clone)]
pub struct Queues;

/// An accepted job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Its id; not the one that was offered if the idempotency key was known.
    pub id: JobId,
    /// Whether it had been accepted before (idempotency key, or the same id again).
    pub existing: bool,
}

/// The answer to a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not started and will not.
    Now,
    /// Its run was asked to stop.
    Requested,
    /// It was over already, in this state.
    AlreadyOver(State),
    /// There is no such job.
    Unknown,
}

/// The answer to a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// It waits for a worker now, with a fresh budget of attempts.
    Waiting,
    /// It is in this state, from which it cannot be retried (`waiting`, `running`, `blocked`, `succeeded`).
    NotPossible(State),
    /// There is no such job.
    Unknown,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only these states; empty for all.
    pub states: Vec<State>,
    /// Only this kind.
    pub kind: Option<KindName>,
    /// Only jobs with this tag.
    pub tag: Option<String>,
}

/// A part of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// The jobs: live ones first, in the order in which they will run, then finished ones, newest first.
    pub jobs: Vec<Job>,
    /// Where the next page starts; `None` at the end. Opaque, URL-safe.
    pub next: Option<String>,
}

/// How many jobs of a queue are in each state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(pub std::collections::BTreeMap<State, u64>);

/// How Redis is.
#[derive(Debug, Clone)]
pub struct RedisHealth {
    /// Its version, such as `7.0.15`.
    pub version: String,
    /// Round trip of a PING.
    pub latency: std::time::Duration,
    /// Bytes in use.
    pub used_memory: u64,
    /// The limit in bytes, if one is set.
    pub max_memory: Option<u64>,
}

impl Queues {
    /// Connects, and checks that Redis can carry queues.
    ///
    /// # Errors
    /// If Redis does not answer or is not set up as it must be.
    pub async fn connect(_url: &str) -> Result<Self, QueueError> {
        todo!()
    }

    /// Puts a job into its queue. Concurrent calls are committed together.
    ///
    /// # Errors
    /// The outer one if Redis refused or did not answer, the inner one if the job was refused.
    pub async fn push(&self, _id: JobId, _submission: Submission) -> Result<Result<Pushed, Refusal>, QueueError> {
        todo!()
    }

    /// The job as it is now.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn get(&self, _id: &JobId) -> Result<Option<Job>, QueueError> {
        todo!()
    }

    /// The runs of a job that did not succeed, oldest first; the newest fifty are kept.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn runs(&self, _id: &JobId) -> Result<Vec<RunReport>, QueueError> {
        todo!()
    }

    /// Stops a job: at once if it has not started, else by asking its run.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn cancel(&self, _id: &JobId) -> Result<Cancelled, QueueError> {
        todo!()
    }

    /// Lets a job run now: one that failed or was cancelled again from the start, one that waits for its time or is
    /// parked without waiting any longer.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn retry(&self, _id: &JobId) -> Result<Retried, QueueError> {
        todo!()
    }

    /// A page of the jobs of a queue. `limit` is capped at 200.
    ///
    /// # Errors
    /// If Redis does not answer; [`QueueError::Corrupt`] if the cursor is none of ours.
    pub async fn list(
        &self,
        _queue: &QueueName,
        _filter: &JobFilter,
        _cursor: Option<&str>,
        _limit: usize,
    ) -> Result<Page, QueueError> {
        todo!()
    }

    /// How many jobs are in each state.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn counts(&self, _queue: &QueueName) -> Result<Counts, QueueError> {
        todo!()
    }

    /// How Redis is, asked now.
    ///
    /// # Errors
    /// If Redis does not answer within two seconds.
    pub async fn health(&self) -> Result<RedisHealth, QueueError> {
        todo!()
    }
}
