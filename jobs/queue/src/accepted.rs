//! Jobs as they are when they have just been accepted.

use fourmi_model::{Job, JobId, State, Submission};
use jiff::Timestamp;

use crate::{
    QueueError,
    push::{limits, unmet},
};

/// An accepted job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Its id; not the one that was offered if the idempotency key was known, or a job that excludes its like is there.
    pub id: JobId,
    /// When it was accepted, by the clock of Redis; `None` if that was before (idempotency key, the same id again, or its
    /// like).
    pub accepted_at: Option<Timestamp>,
    /// Whether it is another job, which excludes its like ([`Submission::unique`]).
    pub is_like: bool,
}

impl Pushed {
    /// Whether it had been accepted before.
    pub fn existing(&self) -> bool {
        self.accepted_at.is_none()
    }

    /// The job as it was when this submission was accepted. Of one that had been accepted before, that is a guess.
    ///
    /// # Errors
    /// [`QueueError::Corrupt`] if the payload is no JSON.
    pub fn job(&self, submission: &Submission) -> Result<Job, QueueError> {
        let envelope = &submission.envelope;
        let payload = serde_json::from_str(envelope.payload.get());
        let payload = payload.map_err(|_| QueueError::Corrupt(format!("payload of job {}", self.id)))?;
        let created_at = self.accepted_at.unwrap_or_else(Timestamp::now);
        // Redis counts milliseconds.
        let due_at = submission.not_before.and_then(|time| Timestamp::from_millisecond(time.as_millisecond()).ok());
        let is_due = due_at.is_none_or(|time| time <= created_at);
        let state = match unmet(submission).is_empty() {
            false => State::Blocked,
            true if submission.parked.is_some() => State::Parked,
            true if is_due => State::Waiting,
            true => State::Scheduled,
        };
        let limits = limits(submission).unwrap_or_default();
        Ok(Job {
            id: self.id.clone(),
            kind: envelope.kind.clone(),
            schema_version: envelope.schema_version,
            queue: self.id.queue().clone(),
            state,
            version: 1,
            priority: submission.priority,
            tenant: submission.tenant.clone(),
            limits: limits.split_whitespace().filter_map(|name| name.parse().ok()).collect(),
            tags: envelope.tags.clone(),
            correlation_id: envelope.correlation_id.clone(),
            run: 0,
            attempts: 0,
            crashes: 0,
            created_at,
            due_at: due_at.filter(|_| matches!(state, State::Scheduled | State::Blocked)),
            started_at: None,
            finished_at: None,
            deadline: envelope.deadline,
            after: envelope.after.clone(),
            on_parent_failure: envelope.on_parent_failure,
            parent: envelope.parent.clone(),
            batch: envelope.batch.clone(),
            submitted_by: envelope.submitted_by.clone(),
            webhook: envelope.webhook.clone(),
            worker: None,
            parked_reason: submission.parked.filter(|_| state == State::Parked),
            cancel_requested: false,
            log_lines: 0,
            progress: None,
            result: None,
            error: None,
            payload,
            archived: false,
        })
    }
}
