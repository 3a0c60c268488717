//! What the kinds of the media queue share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A named part of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chapter {
    /// Where it starts, in milliseconds from the start of the recording.
    pub start_ms: u64,
    /// Where it ends, in milliseconds from the start of the recording.
    pub end_ms: u64,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
}

/// Something worth knowing about a recording that did not stop the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MediaNote {
    /// A stable word, such as `damaged_packets`.
    pub code: String,
    /// The same for a person.
    pub message: String,
}
