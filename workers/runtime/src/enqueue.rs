//! Jobs that a run makes.

use std::time::Duration;

use fourmi_kinds::JobKind;
use fourmi_model::{
    Envelope, ErrorClass, Failure, History, Isolation, JobId, KindName, MAX_PARENTS, MAX_PAYLOAD_BYTES, MAX_TAGS,
    ParentFailure, Priority, QueueName, Retention, Submission, Unique,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Context;

/// A job about to be made by a run. Nothing happens before [`send`](Self::send).
#[must_use = "a job is made by send()"]
pub struct ChildJob<'a> {
    context: &'a Context,
    job: Result<NewJob, Failure>,
}

/// A job as a run hands it to its host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NewJob {
    /// The name under which its parent makes it.
    name: String,
    kind: KindName,
    queue: QueueName,
    schema_version: u32,
    payload: Box<RawValue>,
    isolated: bool,
    endless: bool,
    history: History,
    unique: Option<Unique>,
    keep_done_ms: u64,
    keep_failed_ms: u64,
    priority: Priority,
    delay_ms: u64,
    tags: Vec<String>,
    after: Vec<JobId>,
    on_parent_failure: ParentFailure,
}

impl<'a> ChildJob<'a> {
    pub(crate) fn new<K: JobKind>(context: &'a Context, name: &str, payload: &K) -> Self {
        Self { context, job: NewJob::of(name, payload) }
    }

    fn with(mut self, change: impl FnOnce(&mut NewJob)) -> Self {
        if let Ok(job) = &mut self.job {
            change(job);
        }
        self
    }

    /// How urgent it is; by default what its kind says.
    pub fn priority(self, priority: Priority) -> Self {
        self.with(|job| job.priority = priority)
    }

    /// Not before this has passed.
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|job| job.delay_ms = milliseconds(delay))
    }

    /// A label more.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.with(|job| job.tags.push(tag.into()))
    }

    /// Not before these jobs, of any queues, are over; may be called several times.
    pub fn after(self, ids: impl IntoIterator<Item = JobId>) -> Self {
        self.with(|job| job.after.extend(ids))
    }

    /// What becomes of it when one of those does not succeed; without this it is cancelled.
    pub fn on_parent_failure(self, policy: ParentFailure) -> Self {
        self.with(|job| job.on_parent_failure = policy)
    }

    /// Makes the job and gives its id. A run that does it again under the same name makes no second one.
    ///
    /// # Errors
    /// A permanent failure `invalid_child` if the job cannot be; a retryable one `queue_unavailable` or `queue_full`;
    /// `lease_lost` if another run may be at work already.
    pub async fn send(self) -> Result<JobId, Failure> {
        let job = self.job?;
        job.check()?;
        self.context.host().enqueue(job).await
    }
}

impl NewJob {
    fn of<K: JobKind>(name: &str, payload: &K) -> Result<Self, Failure> {
        payload.validate().map_err(|mistake| invalid(mistake.to_string()))?;
        let policy = K::policy();
        let wrong = |error: fourmi_model::InvalidName| invalid(error.to_string());
        Ok(Self {
            name: name.to_owned(),
            kind: K::NAME.parse().map_err(wrong)?,
            queue: K::QUEUE.parse().map_err(wrong)?,
            schema_version: K::SCHEMA_VERSION,
            payload: serde_json::value::to_raw_value(payload).map_err(|error| invalid(error.to_string()))?,
            isolated: policy.isolation != Isolation::InProcess,
            endless: policy.attempts.is_none(),
            history: policy.history,
            unique: policy.unique,
            keep_done_ms: milliseconds(policy.retention.done),
            keep_failed_ms: milliseconds(policy.retention.failed),
            priority: policy.priority,
            delay_ms: 0,
            tags: Vec::new(),
            after: Vec::new(),
            on_parent_failure: ParentFailure::default(),
        })
    }

    fn check(&self) -> Result<(), Failure> {
        let mut after: Vec<_> = self.after.iter().collect();
        after.sort_unstable();
        after.dedup();
        if self.name.is_empty() {
            Err(invalid("it needs a name, by which it is known again"))
        } else if self.payload.get().len() > MAX_PAYLOAD_BYTES {
            Err(invalid(format!("its payload has more than {MAX_PAYLOAD_BYTES} bytes")))
        } else if self.tags.len() > MAX_TAGS {
            Err(invalid(format!("it has more than {MAX_TAGS} tags")))
        } else if after.len() != self.after.len() || after.len() > MAX_PARENTS {
            Err(invalid(format!("it waits for a job twice, or for more than {MAX_PARENTS}")))
        } else {
            Ok(())
        }
    }

    /// The job as the queue takes it, made by `parent`.
    pub(crate) fn submission(self, parent: &JobId, of_parent: &Envelope) -> (JobId, Submission) {
        let mut submission = Submission::new(self.kind, self.payload);
        submission.priority = self.priority;
        submission.delay(Duration::from_millis(self.delay_ms));
        (submission.isolated, submission.endless, submission.history) = (self.isolated, self.endless, self.history);
        submission.retention = Retention {
            done: Duration::from_millis(self.keep_done_ms),
            failed: Duration::from_millis(self.keep_failed_ms),
        };
        submission.unique = self.unique;
        let envelope = &mut submission.envelope;
        envelope.schema_version = self.schema_version;
        envelope.tags = self.tags;
        envelope.correlation_id.clone_from(&of_parent.correlation_id);
        envelope.traceparent.clone_from(&of_parent.traceparent);
        envelope.submitted_by.clone_from(&of_parent.submitted_by);
        envelope.after = self.after;
        envelope.on_parent_failure = self.on_parent_failure;
        envelope.parent = Some(parent.clone());
        (parent.child(self.queue, &self.name), submission)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn invalid(message: impl Into<String>) -> Failure {
    let message = format!("a job that the run wanted to make cannot be: {}", message.into());
    Failure::permanent("invalid_child", message).class(ErrorClass::Internal)
}
