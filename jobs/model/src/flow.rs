//! Jobs that wait for other jobs, and what they learn of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ErrorReport, JobId, State};

/// The most jobs that one job may wait for.
pub const MAX_PARENTS: usize = 1_000;

/// The most jobs of a batch.
pub const MAX_BATCH: usize = 10_000;

/// The kind of the handle of a batch. No worker runs it: it ends when its members have.
pub const BATCH_KIND: &str = "flow.batch";

/// What became of a job that another one waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParentOutcome {
    /// How it ended.
    pub state: State,
    /// What it gave (`succeeded`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
    /// Whether its result is too large to be kept here: it is read from the job itself, as long as that is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_out: bool,
}

/// A job that another one waited for, as that one's handler sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    /// The job.
    pub id: JobId,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: ParentOutcome,
}

/// How a job is tied to others, beside the jobs that it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tie {
    /// It waits for the other.
    After,
    /// It is the batch that the other belongs to.
    Batch,
    /// The other made it.
    Child,
}
