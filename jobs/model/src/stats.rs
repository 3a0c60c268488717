//! Statistics of finished jobs.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{StatDimension, StatStep};

impl StatStep {
    /// Its length in seconds.
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// The step that a time lies in, by its start. Days begin at midnight UTC.
    pub fn start_of(self, time: Timestamp) -> Timestamp {
        let second = time.as_second();
        // Only the first day that a timestamp can have starts before there are any.
        Timestamp::from_second(second - second.rem_euclid(self.seconds())).unwrap_or(time)
    }
}

/// What became of the jobs that ended in a span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobStats {
    /// The length of the points.
    pub step: StatStep,
    /// Where the first point starts.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub from: Timestamp,
    /// Where the last point ends; it may lie ahead.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub to: Timestamp,
    /// What the jobs are told apart by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<StatDimension>,
    /// Those with most jobs first, a hundred at most; one, if they are told apart by nothing.
    pub series: Vec<JobSeries>,
    /// Series with fewer jobs that are left out.
    #[serde(default, skip_serializing_if = "crate::job::is_zero")]
    pub left_out: u64,
    /// Minutes whose jobs are still counted one by one, more than there should be if no maintenance worker runs.
    pub unrolled_minutes: u64,
}

/// The jobs of one kind, queue or tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobSeries {
    /// Which; absent of the jobs of no tenant, and if they are told apart by nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All of them.
    pub total: JobFigures,
    /// The steps in which jobs ended, in order.
    pub points: Vec<JobPoint>,
}

/// The jobs that ended in one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobPoint {
    /// Where it starts.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// The figures.
    #[serde(flatten)]
    pub figures: JobFigures,
}

/// What became of jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobFigures {
    /// Jobs that ended.
    pub finished: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// Those that failed for good.
    pub failed: u64,
    /// Those that were cancelled.
    pub cancelled: u64,
    /// The share of those that succeeded among those that succeeded or failed, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<f64>,
    /// How long the newest runs waited since they could start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Percentiles>,
    /// How long the newest runs lasted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Percentiles>,
}

/// Times that so many of a hundred do not exceed, in milliseconds, right to 5 % or a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentiles {
    /// The middle one.
    pub p50_ms: f64,
    /// 90 of a hundred.
    pub p90_ms: f64,
    /// 95 of a hundred.
    pub p95_ms: f64,
    /// 99 of a hundred.
    pub p99_ms: f64,
}
