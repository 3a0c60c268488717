//! What a caller hands in, and the part of a job that never changes.

use std::{ops::RangeInclusive, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    History, Isolation, JobId, KindName, LimitName, ParentFailure, ParentOutcome, ParkReason, Policy, PolicyOverrides,
    Priority, Retention, TenantName, Unique, WebhookTarget,
};

/// The largest payload, in bytes of JSON. Larger data is a blob that the payload names.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// The most tags that a job may carry.
pub const MAX_TAGS: usize = 16;

/// How long an idempotency key is remembered when nothing else is said.
pub const KEY_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long an idempotency key may be remembered: a second to thirty days.
pub const KEY_LIVES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);

/// The part of a job that never changes after it was accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// The type of the job.
    pub kind: KindName,
    /// The version of the payload's schema.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub schema_version: u32,
    /// The payload, exactly as the kind's type wrote it.
    pub payload: Box<RawValue>,
    /// What differs from the kind's policy.
    #[serde(default, skip_serializing_if = "PolicyOverrides::is_empty")]
    pub policy: PolicyOverrides,
    /// Labels for lists and streams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Runs through all logs and child jobs: the id of the request that it came with, unless the caller has chosen another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Where its runs belong in a trace: a `traceparent` of W3C Trace Context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// A run that would start after this does not; the job is then `failed` with `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The jobs that it waits for, of any queues; [`MAX_PARENTS`](crate::MAX_PARENTS) at most, none of them twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<JobId>,
    /// What becomes of it when one of them does not succeed.
    #[serde(default, skip_serializing_if = "ParentFailure::is_default")]
    pub on_parent_failure: ParentFailure,
    /// The job whose run made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<JobId>,
    /// The batch that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<JobId>,
    /// The id of the API key that it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
    /// Who is told of its end, beside those who are told of every job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTarget>,
}

fn first_version() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_first_version(version: &u32) -> bool {
    *version == 1
}

/// A job to be put into a queue.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The part that never changes.
    pub envelope: Envelope,
    /// How urgent it is.
    pub priority: Priority,
    /// Not before this time.
    pub not_before: Option<Timestamp>,
    /// What it waits for from the start, if that is known before it has ever run: then it is parked until somebody releases
    /// it, and does not look at `not_before`. One that waits for other jobs waits for those alone.
    pub parked: Option<ParkReason>,
    /// Whether the handler runs in a child process: then the death of a worker is not held against the job.
    pub isolated: bool,
    /// Whether it has no budget of attempts: then its crashes are forgotten after a run that went well for ten minutes.
    pub endless: bool,
    /// The same key and payload give the same job; the same key with another payload is refused.
    pub idempotency_key: Option<String>,
    /// How long that key is remembered, within [`KEY_LIVES`]; what lies outside is taken for the nearer end.
    pub key_life: Duration,
    /// What is recorded of it when it is over.
    pub history: History,
    /// How long it is kept in Redis when it is over.
    pub retention: Retention,
    /// Whose it is.
    pub tenant: Option<TenantName>,
    /// The limits that it names, [`crate::MAX_LIMITS`] at most; those of its tenant, kind and queue bind it anyway.
    pub limits: Vec<LimitName>,
    /// Whether it excludes its like.
    pub unique: Option<Unique>,
    /// Of the jobs that it waits for, those that are over already and that the queues have forgotten.
    pub known_parents: Vec<(JobId, ParentOutcome)>,
}

impl Submission {
    /// A job of `kind` to be run as soon as possible.
    pub fn new(kind: KindName, payload: Box<RawValue>) -> Self {
        Self {
            envelope: Envelope {
                kind,
                schema_version: 1,
                payload,
                policy: PolicyOverrides::default(),
                tags: Vec::new(),
                correlation_id: None,
                traceparent: None,
                deadline: None,
                after: Vec::new(),
                on_parent_failure: ParentFailure::default(),
                parent: None,
                batch: None,
                submitted_by: None,
                webhook: None,
            },
            priority: Priority::Normal,
            not_before: None,
            parked: None,
            isolated: false,
            endless: false,
            idempotency_key: None,
            key_life: KEY_LIFE,
            history: History::All,
            retention: Retention::default(),
            tenant: None,
            limits: Vec::new(),
            unique: None,
            known_parents: Vec::new(),
        }
    }

    /// Lets it run when this has passed, and not before.
    pub fn delay(&mut self, delay: Duration) {
        self.not_before = Timestamp::now().checked_add(delay).ok().filter(|_| !delay.is_zero());
    }

    /// Notes what the queue must know of the policy of its kind: what is recorded and kept of the job, whether it is
    /// isolated, whether it excludes its like unless the caller has said how, and whether it is endless, which it is not if
    /// the caller gives it attempts.
    pub fn note(&mut self, policy: &Policy) {
        self.history = policy.history;
        self.retention = policy.retention;
        self.isolated = policy.isolation != Isolation::InProcess;
        self.unique = self.unique.take().or_else(|| policy.unique.clone());
        self.endless = policy.attempts.is_none() && self.envelope.policy.attempts.is_none();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_endless_if_neither_its_kind_nor_its_caller_counts_attempts() {
        let payload = RawValue::from_string("{}".to_owned()).unwrap();
        for (of_kind, of_caller, endless) in [(None, None, true), (None, Some(3), false), (Some(3), None, false)] {
            let mut job = Submission::new("test.watch".parse().unwrap(), payload.clone());
            job.envelope.policy.attempts = of_caller;
            job.note(&Policy { attempts: of_kind, ..Policy::default() });
            assert_eq!((job.endless, job.isolated), (endless, false));
        }
    }
}
