//! How jobs of a registered kind are treated, as its worker says.

use std::{ops::RangeInclusive, time::Duration};

use fourmi_model::{Backoff, History, Policy, Priority, Retention};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A day, in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// How jobs of a kind are treated; what is not said is as for every kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KindPolicy {
    /// Runs that may fail before a job is given up; `null` for an endless kind.
    #[schemars(range(min = 1, max = 100))]
    attempts: Option<u32>,
    /// The longest that one run may take, in milliseconds.
    #[schemars(range(min = 1, max = 604_800_000))]
    timeout_ms: u64,
    /// The mean wait after the first failed run is half of this, in milliseconds; it doubles with every further one.
    #[schemars(range(min = 1, max = 86_400_000))]
    backoff_ms: u64,
    /// The longest that it gets.
    #[schemars(range(min = 1, max = 86_400_000))]
    backoff_cap_ms: u64,
    /// How urgent a job is when its caller does not say.
    priority: Priority,
    /// How long a job is kept after it has succeeded or was cancelled, in seconds.
    #[schemars(range(min = 1, max = 31_536_000))]
    keep_done_s: u64,
    /// How long a job is kept after it has failed, in seconds.
    #[schemars(range(min = 1, max = 31_536_000))]
    keep_failed_s: u64,
    /// What is recorded of a job when it is over.
    history: History,
}

impl Default for KindPolicy {
    fn default() -> Self {
        let Policy { attempts, backoff, timeout, priority, retention, history, .. } = Policy::default();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            attempts,
            timeout_ms: ms(timeout),
            backoff_ms: ms(backoff.base),
            backoff_cap_ms: ms(backoff.cap),
            priority,
            keep_done_s: retention.done.as_secs(),
            keep_failed_s: retention.failed.as_secs(),
            history,
        }
    }
}

impl KindPolicy {
    /// The first value out of range: its field, and what it should be.
    pub(crate) fn problem(&self) -> Option<(&'static str, String)> {
        let attempts = self.attempts.unwrap_or(1).into();
        let year = 365 * 86_400;
        let ranges: [(&str, u64, RangeInclusive<u64>); 6] = [
            ("attempts", attempts, 1..=100),
            ("timeout_ms", self.timeout_ms, 1..=7 * DAY_MS),
            ("backoff_ms", self.backoff_ms, 1..=DAY_MS),
            ("backoff_cap_ms", self.backoff_cap_ms, 1..=DAY_MS),
            ("keep_done_s", self.keep_done_s, 1..=year),
            ("keep_failed_s", self.keep_failed_s, 1..=year),
        ];
        let (field, _, range) = ranges.into_iter().find(|(_, value, range)| !range.contains(value))?;
        Some((field, format!("must be between {} and {}", range.start(), range.end())))
    }
}

impl From<KindPolicy> for Policy {
    fn from(policy: KindPolicy) -> Self {
        let base = Duration::from_millis(policy.backoff_ms);
        Self {
            attempts: policy.attempts,
            backoff: Backoff { base, cap: Duration::from_millis(policy.backoff_cap_ms).max(base) },
            timeout: Duration::from_millis(policy.timeout_ms),
            priority: policy.priority,
            retention: Retention {
                done: Duration::from_secs(policy.keep_done_s),
                failed: Duration::from_secs(policy.keep_failed_s),
            },
            history: policy.history,
            ..Self::default()
        }
    }
}
