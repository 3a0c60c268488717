//! What keeps the platform itself in order: `maintenance.retention`, `stats.rollup`, `health.probe` and `host.metrics`.

use std::time::Duration;

use fourmi_model::{HealthStatus, Policy, Priority, Retention, RetentionClass};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Audience, InvalidPayload, JobKind};

/// The most days that can be asked for: a hundred years.
const MAX_DAYS: u32 = 36_500;

/// Deletes what is older than the settings say (`FOURMI_KEEP_…`), in steps that let others work between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceRetention {
    /// Only these; everything for which there is a rule, if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<RetentionClass>,
    /// What is older than so many days, whatever the settings say; `only` must say of what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36_500))]
    pub days: Option<u32>,
    /// Whether to count what would be deleted, and delete nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl JobKind for MaintenanceRetention {
    const NAME: &'static str = "maintenance.retention";
    const QUEUE: &'static str = "maintenance";
    const SUMMARY: &'static str = "Deletes records, files and sessions that are older than they are to be kept.";
    const AUDIENCE: Audience = Audience::Operators;
    type Output = RetentionReport;

    fn policy() -> Policy {
        Policy { attempts: Some(3), timeout: Duration::from_hours(6), ..chore() }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        if self.days.is_some_and(|days| !(1..=MAX_DAYS).contains(&days)) {
            return Err(InvalidPayload::new("days", format!("must be between 1 and {MAX_DAYS}")));
        }
        if self.days.is_some() && self.only.is_empty() {
            return Err(InvalidPayload::new("only", "must say of what, if days are given"));
        }
        Ok(())
    }
}

/// What `maintenance.retention` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RetentionReport {
    /// Whether nothing was deleted.
    pub dry_run: bool,
    /// What became of each class.
    pub classes: Vec<RetentionOutcome>,
}

/// What retention did about a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RetentionOutcome {
    /// The class.
    pub class: RetentionClass,
    /// What is older than this is deleted; absent if everything is kept for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub before: Option<Timestamp>,
    /// How many were deleted, or would be.
    pub deleted: u64,
    /// Their bytes, of what has files of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How many were old enough and stay: held by the tag `legal-hold`, or named by a job that is not over or by a schedule.
    pub held: u64,
}

/// Adds up the statistics of finished jobs: minutes, hours and days.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatsRollup {
    /// Counts again from this time on, as far as the records of the jobs are still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub from: Option<Timestamp>,
    /// Counts again up to this time; up to now, if only `from` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub to: Option<Timestamp>,
}

impl JobKind for StatsRollup {
    const NAME: &'static str = "stats.rollup";
    const QUEUE: &'static str = "maintenance";
    const SUMMARY: &'static str = "Adds up the statistics of finished jobs by minute, hour and day.";
    const AUDIENCE: Audience = Audience::Operators;
    type Output = RollupReport;

    fn policy() -> Policy {
        Policy { attempts: Some(3), timeout: Duration::from_mins(30), ..chore() }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        match (self.from, self.to) {
            (None, Some(_)) => Err(InvalidPayload::new("from", "must be given with to")),
            (Some(from), Some(to)) if from >= to => Err(InvalidPayload::new("to", "must be after from")),
            _ => Ok(()),
        }
    }
}

/// What `stats.rollup` gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RollupReport {
    /// Minutes that were counted.
    pub minutes: u64,
    /// Hours that were added up, each with its day.
    pub hours: u64,
    /// Minutes that came too late: their jobs or the minutes beside them are gone.
    pub too_late: u64,
}

/// Tries every part that the platform stands on: writes, reads and deletes something in each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthProbe {}

impl JobKind for HealthProbe {
    const NAME: &'static str = "health.probe";
    const QUEUE: &'static str = "maintenance";
    const SUMMARY: &'static str = "Tries Redis, the records, the files, the queues and the disk.";
    const AUDIENCE: Audience = Audience::Operators;
    type Output = HealthReport;

    fn policy() -> Policy {
        Policy { attempts: Some(1), timeout: Duration::from_secs(50), ..chore() }
    }
}

/// What `health.probe` gives. It succeeds whatever it finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HealthReport {
    /// As the part that is worst off.
    pub status: HealthStatus,
    /// The parts.
    pub parts: Vec<PartHealth>,
}

/// How a part was when it was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartHealth {
    /// Which: `redis`, `records`, `files`, `disk`, `memory`, or `queue:` and the name of a queue.
    pub name: String,
    /// How it was.
    pub status: HealthStatus,
    /// How long the trial took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// What is wrong, or how it is, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Measures the machine that the maintenance worker runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostMetrics {}

impl JobKind for HostMetrics {
    const NAME: &'static str = "host.metrics";
    const QUEUE: &'static str = "maintenance";
    const SUMMARY: &'static str = "Measures processors, memory, disks and temperatures of the machine.";
    const AUDIENCE: Audience = Audience::Operators;
    type Output = HostReport;

    fn policy() -> Policy {
        Policy { attempts: Some(1), timeout: Duration::from_secs(30), ..chore() }
    }
}

/// What `host.metrics` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostReport {
    /// The name of the machine.
    pub host: String,
    /// Seconds since it was started.
    pub uptime_s: u64,
    /// Processors.
    pub cores: u64,
    /// How busy they were in the last moment, in percent of all.
    pub cpu_percent: f64,
    /// How many programs wanted to run, over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Memory that there is, in bytes; what the container may use, if that is less.
    pub memory_bytes: u64,
    /// Memory that is used, in bytes.
    pub memory_used_bytes: u64,
    /// Swap space that is used, in bytes.
    pub swap_used_bytes: u64,
    /// Room on the disk of the data folder, in bytes.
    pub disk_bytes: u64,
    /// What of it is free for us, in bytes.
    pub disk_free_bytes: u64,
    /// Sensors, in degrees Celsius.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub temperatures: Vec<Temperature>,
}

/// A sensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Temperature {
    /// What it is called.
    pub name: String,
    /// Degrees Celsius.
    pub celsius: f64,
}

/// Chores come again and again: their queue need not keep them for long.
fn chore() -> Policy {
    Policy {
        priority: Priority::High,
        retention: Retention { done: Duration::from_mins(10), ..Retention::default() },
        ..Policy::default()
    }
}

#[cfg(test)]
mod tests {
    use crate::catalogue;

    #[test]
    fn days_are_given_of_something_that_is_named() {
        let kind = catalogue().get("maintenance.retention").unwrap();
        for (payload, path) in [
            (r#"{"days":30}"#, "only"),
            (r#"{"days":0,"only":["jobs"]}"#, "days"),
            (r#"{"only":["everything"]}"#, "only[0]"),
        ] {
            assert_eq!(kind.check(payload).unwrap_err().path, path, "{payload}");
        }
        assert_eq!(kind.check(r#"{"days":30,"only":["jobs"]}"#).unwrap().get(), r#"{"only":["jobs"],"days":30}"#);
        let kind = catalogue().get("stats.rollup").unwrap();
        assert_eq!(kind.check(r#"{"to":"2026-01-01T00:00:00Z"}"#).unwrap_err().path, "from");
    }
}
