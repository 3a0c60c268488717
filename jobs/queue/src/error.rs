//! What can go wrong between us and Redis.

use std::time::Duration;

use fourmi_model::JobId;

/// The queue could not do what it was asked to; nothing was changed unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// Redis does not answer. A push that was under way may have been accepted: send it again with the same id.
    #[error("Redis does not answer: {0}")]
    Unavailable(String),
    /// Redis has used 90 % of its memory limit, or all of it: it takes no new jobs.
    #[error("Redis has no memory to spare for new jobs; try again in {} s", .retry_after.as_secs())]
    Full {
        /// When to try again.
        retry_after: Duration,
    },
    /// Redis is not set up as it must be; the text says what to change.
    #[error("{0}")]
    Unsuitable(String),
    /// Redis holds something that this version cannot read.
    #[error("unexpected data in Redis: {0}")]
    Corrupt(String),
}

/// Why one job was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The idempotency key was used with another payload.
    #[error("the idempotency key belongs to {0}, which has another payload")]
    IdempotencyConflict(JobId),
    /// The queue holds as many waiting jobs as it may.
    #[error("the queue is full; try again in {} s", .retry_after.as_secs())]
    QueueFull {
        /// When to try again.
        retry_after: Duration,
    },
}
