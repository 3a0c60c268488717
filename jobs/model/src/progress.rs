//! How far a run is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BlobId;

/// How far a run is: one shape for every kind of job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// What the run is doing, as a stable word of its kind (`encode`).
    pub stage: String,
    /// 0 to 100; never goes back inside a run.
    #[schemars(range(min = 0, max = 100))]
    pub percent: f32,
    /// The same for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Estimated time to the end of the run, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_ms: Option<u64>,
    /// Figures that the kind counts, with the unit in the name (`output_bytes`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, f64>,
    /// A file that grows while the run goes on and can be read already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<BlobId>,
}
