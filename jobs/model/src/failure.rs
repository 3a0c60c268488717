//! What a handler says when it could not do its work, and what a caller reads of it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ParkReason;

/// Why a run did not succeed, and what happens next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// What happens next.
    pub next: NextStep,
    /// A stable word that programs may rely on (`no_audio_stream`).
    pub code: String,
    /// The sort of failure.
    pub class: ErrorClass,
    /// For a person: what went wrong and, where there is something, what to do.
    pub message: String,
    /// The stage in which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Technical detail, such as the last lines that a library logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// What happens to a job after a run that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextStep {
    /// Try again, after this many milliseconds or else by the kind's backoff.
    Retry {
        /// What the other side asked for (`Retry-After`); it wins over the backoff.
        after_ms: Option<u64>,
    },
    /// Give up: trying again would fail again.
    GiveUp,
    /// Wait until a cause has gone away.
    Park {
        /// Which.
        reason: ParkReason,
    },
    /// The caller asked to stop, and the run did.
    Cancelled,
}

impl Failure {
    fn new(next: NextStep, class: ErrorClass, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { next, code: code.into(), class, message: message.into(), stage: None, cause: None }
    }

    /// Trying again may help: a network, a busy service.
    pub fn retry(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(NextStep::Retry { after_ms: None }, ErrorClass::Unavailable, code, message)
    }

    /// Trying again helps, but not before `after`.
    pub fn retry_after(after: Duration, code: impl Into<String>, message: impl Into<String>) -> Self {
        let after_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        Self::new(NextStep::Retry { after_ms }, ErrorClass::RateLimited, code, message)
    }

    /// Trying again would fail again: bad input.
    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(NextStep::GiveUp, ErrorClass::InvalidInput, code, message)
    }

    /// The job waits for `reason` to go away; this does not count as an attempt.
    pub fn park(reason: ParkReason, message: impl Into<String>) -> Self {
        let class = match reason {
            ParkReason::NotConfigured => ErrorClass::NotConfigured,
            ParkReason::Offline | ParkReason::ProviderDown | ParkReason::Uncertain => ErrorClass::Unavailable,
        };
        Self::new(NextStep::Park { reason }, class, reason.as_str(), message)
    }

    /// The run stopped because it was asked to.
    pub fn cancelled() -> Self {
        Self::new(NextStep::Cancelled, ErrorClass::Cancelled, "cancelled", "the job was cancelled")
    }

    /// The same failure of another class.
    #[must_use]
    pub fn class(mut self, class: ErrorClass) -> Self {
        self.class = class;
        self
    }

    /// The same failure, in a stage.
    #[must_use]
    pub fn in_stage(mut self, stage: impl Into<String>) -> Self {
        self.stage = Some(stage.into());
        self
    }

    /// The same failure with technical detail, of which the first 4,000 characters are kept.
    #[must_use]
    pub fn because(mut self, cause: impl std::fmt::Display) -> Self {
        self.cause = Some(cause.to_string().chars().take(4_000).collect());
        self
    }

    /// What a caller reads of it.
    pub fn report(&self) -> ErrorReport {
        let retry_after_ms = match self.next {
            NextStep::Retry { after_ms } => after_ms,
            _ => None,
        };
        ErrorReport {
            code: self.code.clone(),
            class: self.class,
            message: self.message.clone(),
            retryable: matches!(self.next, NextStep::Retry { .. }),
            retry_after_ms,
            stage: self.stage.clone(),
            cause: self.cause.clone(),
        }
    }
}

/// The sort of a failure: coarse, so that a caller can treat codes that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The caller's input is wrong.
    InvalidInput,
    /// The operator has not set something up.
    NotConfigured,
    /// Something that the job names does not exist.
    NotFound,
    /// The job may not do that.
    Forbidden,
    /// Something changed underneath.
    Conflict,
    /// The other side asked to slow down.
    RateLimited,
    /// The other side does not answer as it should.
    Unavailable,
    /// It took too long.
    Timeout,
    /// A quota is used up.
    QuotaExhausted,
    /// The input is of a sort that is not supported.
    Unsupported,
    /// The input is damaged.
    CorruptInput,
    /// The caller asked to stop.
    Cancelled,
    /// A fault of Fourmi's own.
    Internal,
}

/// Why a job or a run did not succeed, as callers read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorReport {
    /// A stable word that programs may rely on.
    pub code: String,
    /// The sort of failure.
    pub class: ErrorClass,
    /// For a person.
    pub message: String,
    /// Whether another run could succeed.
    pub retryable: bool,
    /// How long the other side asked to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The stage in which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Technical detail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}
