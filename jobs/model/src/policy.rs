//! How a kind of job is treated: attempts, delays, limits, retention.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Priority, Unique};

/// How a job is treated when nothing else is said; every kind has one (see `JobKind` in the crate `kinds`).
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Runs that may fail before the job is given up; `None` for an endless kind such as a camera,
    /// whose crashes are forgotten after a run that went well for ten minutes.
    pub attempts: Option<u32>,
    /// The wait between a failed run and the next one.
    pub backoff: Backoff,
    /// The longest that one run may take.
    pub timeout: Duration,
    /// How long a run that was asked to stop may take before it is stopped by force.
    pub stop_grace: Duration,
    /// The priority when the caller names none.
    pub priority: Priority,
    /// How long a finished job is kept.
    pub retention: Retention,
    /// Where the handler runs.
    pub isolation: Isolation,
    /// What is recorded when the job is over, to be read after it has left Redis.
    pub history: History,
    /// Whether a job excludes its like when the caller says nothing of it.
    pub unique: Option<Unique>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts: Some(10),
            backoff: Backoff::default(),
            timeout: Duration::from_secs(30 * 60),
            stop_grace: Duration::from_secs(3),
            priority: Priority::Normal,
            retention: Retention::default(),
            isolation: Isolation::InProcess,
            history: History::All,
            unique: None,
        }
    }
}

impl Policy {
    /// This policy with what one submission asked to be different.
    pub fn with(mut self, overrides: &PolicyOverrides) -> Self {
        if let Some(attempts) = overrides.attempts {
            self.attempts = Some(attempts);
        }
        if let Some(timeout) = overrides.timeout_ms {
            self.timeout = Duration::from_millis(timeout);
        }
        if let Some(base) = overrides.backoff_ms {
            self.backoff.base = Duration::from_millis(base);
            self.backoff.cap = self.backoff.cap.max(self.backoff.base);
        }
        self
    }
}

/// What one submission may change of its kind's policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyOverrides {
    /// Runs that may fail before the job is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub attempts: Option<u32>,
    /// The longest that one run may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800_000))]
    pub timeout_ms: Option<u64>,
    /// The mean wait after the first failed run is half of this, in milliseconds; it doubles with every further one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub backoff_ms: Option<u64>,
}

impl PolicyOverrides {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The first value out of range, in words.
    pub fn problem(&self) -> Option<&'static str> {
        if self.attempts.is_some_and(|n| !(1..=100).contains(&n)) {
            Some("policy.attempts must be between 1 and 100")
        } else if self.timeout_ms.is_some_and(|ms| !(1..=604_800_000).contains(&ms)) {
            Some("policy.timeout_ms must be between 1 and 604800000 (seven days)")
        } else if self.backoff_ms.is_some_and(|ms| !(1..=86_400_000).contains(&ms)) {
            Some("policy.backoff_ms must be between 1 and 86400000 (one day)")
        } else {
            None
        }
    }
}

/// Exponential backoff with full jitter: the wait before attempt *n* + 1 is uniform in 0 … min(cap, base · 2ⁿ⁻¹).
///
/// Full jitter spreads retries best (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failure.
    pub base: Duration,
    /// The longest wait after any failure.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(10), cap: Duration::from_secs(60 * 60) }
    }
}

impl Backoff {
    /// The wait after `failures` failed attempts (1 after the first), where `random` is uniform in 0 … 1.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.base.saturating_mul(1 << doublings).min(self.cap);
        longest.mul_f64(random.clamp(0.0, 1.0))
    }
}

/// How long a finished job is kept in Redis, by how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// After success or cancellation.
    pub done: Duration,
    /// After failure: the dead letter.
    pub failed: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { done: Duration::from_secs(24 * 3600), failed: Duration::from_secs(30 * 24 * 3600) }
    }
}

/// Where a handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// In the worker process.
    InProcess,
    /// In a child process of its own, killed when it takes more memory than this: for native code on foreign input.
    Process {
        /// Resident memory that the child may take, in bytes.
        memory_bytes: u64,
    },
}

/// What is recorded when a job is over, to be read after it has left Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum History {
    /// Every finished job.
    All,
    /// Failed jobs only.
    Failures,
    /// Nothing.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_cap_and_jitters_over_the_whole_range() {
        let backoff = Backoff { base: Duration::from_secs(10), cap: Duration::from_secs(60) };
        let longest: Vec<u64> = (1..=5).map(|n| backoff.delay(n, 1.0).as_secs()).collect();
        assert_eq!(longest, [10, 20, 40, 60, 60]);
        assert_eq!(backoff.delay(3, 0.0), Duration::ZERO);
        assert_eq!(backoff.delay(u32::MAX, 0.5), Duration::from_secs(30));
    }
}
