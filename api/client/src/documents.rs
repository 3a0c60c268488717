//! What the API answers, beside the documents of the model.

use std::collections::BTreeMap;

use fourmi_model::{BlobId, Job, KindName, ParkReason, QueueName, State, TenantName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A stored file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its id.
    pub id: BlobId,
    /// The name that it was given.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The SHA-256 of its content, in lower-case hexadecimal digits; empty while it grows.
    #[serde(default)]
    pub sha256: String,
    /// Its media type.
    pub media_type: String,
    /// When it was stored (RFC 3339).
    pub created_at: String,
    /// The tenant that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// The id of the key that sent it, or that submitted the job that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
    /// Whether a job still appends to it.
    #[serde(default)]
    pub growing: bool,
}

/// A link: whoever has it may read a file without a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLink {
    /// Its address.
    pub url: String,
    /// When it ends (RFC 3339).
    pub expires_at: String,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobQuery {
    /// Only these states; empty for all.
    pub states: Vec<State>,
    /// Only this kind.
    pub kind: Option<KindName>,
    /// Only this queue.
    pub queue: Option<QueueName>,
    /// Only jobs with this tag.
    pub tag: Option<String>,
    /// Only jobs of this tenant.
    pub tenant: Option<TenantName>,
    /// Only jobs that were submitted with the API key of this id.
    pub submitted_by: Option<String>,
    /// Only jobs whose newest error has this code.
    pub error: Option<String>,
    /// Only jobs that are parked for this reason.
    pub parked_reason: Option<ParkReason>,
    /// Only jobs that were accepted at this time (RFC 3339) or later.
    pub created_after: Option<String>,
    /// Only jobs that were accepted before this time (RFC 3339).
    pub created_before: Option<String>,
    /// Only jobs that were over at this time (RFC 3339) or later.
    pub finished_after: Option<String>,
    /// Only jobs that were over before this time (RFC 3339).
    pub finished_before: Option<String>,
    /// The most jobs of a page.
    pub limit: Option<usize>,
    /// Where the page starts: [`JobPage::next`] of the page before.
    pub cursor: Option<String>,
}

impl JobQuery {
    pub(crate) fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs: Vec<_> = self.states.iter().map(|state| ("state", state.to_string())).collect();
        let mut add = |name, value: Option<String>| pairs.extend(value.map(|value| (name, value)));
        add("kind", self.kind.as_ref().map(ToString::to_string));
        add("queue", self.queue.as_ref().map(ToString::to_string));
        add("tag", self.tag.clone());
        add("tenant", self.tenant.as_ref().map(ToString::to_string));
        add("submitted_by", self.submitted_by.clone());
        add("error", self.error.clone());
        add("parked_reason", self.parked_reason.map(|reason| reason.to_string()));
        add("created_after", self.created_after.clone());
        add("created_before", self.created_before.clone());
        add("finished_after", self.finished_after.clone());
        add("finished_before", self.finished_before.clone());
        add("limit", self.limit.map(|limit| limit.to_string()));
        add("cursor", self.cursor.clone());
        pairs
    }
}

/// A part of a list of jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<String>,
}

/// A kind as the API describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindDocument {
    /// The name.
    pub name: KindName,
    /// The queue that its jobs wait in.
    pub queue: QueueName,
    /// The version of the payload's schema.
    pub schema_version: u32,
    /// What it does, in one line.
    pub summary: String,
    /// Runs that may fail before a job is given up; `None` for an endless kind.
    pub attempts: Option<u32>,
    /// The longest that one run may take, in milliseconds.
    pub timeout_ms: u64,
    /// The priority when the caller names none.
    pub priority: fourmi_model::Priority,
    /// Whether it runs in a process of its own.
    pub isolated: bool,
    /// Whether only the platform itself submits its jobs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
    /// Whether only those submit its jobs who see the jobs of others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub staff_only: bool,
    /// Whether only those submit its jobs who steer the queues of the whole platform.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub operators_only: bool,
    /// JSON Schema of the payload.
    pub payload_schema: Value,
    /// JSON Schema of the result.
    pub result_schema: Value,
}

/// A queue as the API describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueDocument {
    /// The name.
    pub name: QueueName,
    /// How many of its jobs are in each state.
    pub counts: BTreeMap<State, u64>,
    /// How many of its parked jobs wait for what.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parked: BTreeMap<ParkReason, u64>,
    /// Whether no job of it is started.
    #[serde(default)]
    pub paused: bool,
    /// Its running jobs at most, of all worker processes together.
    #[serde(default)]
    pub cap: Option<u32>,
    /// The slots of all its worker processes together; each has its own number if there is none.
    #[serde(default)]
    pub slots: Option<u32>,
    /// Its waiting and scheduled jobs at most.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Its live worker processes.
    #[serde(default)]
    pub workers: u64,
    /// The slots that these have, those that drain left out.
    #[serde(default)]
    pub worker_slots: u64,
    /// When the oldest job was accepted (RFC 3339) that waits at the head of a lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_waiting_at: Option<String>,
    /// Its finished jobs on their way into the records.
    #[serde(default)]
    pub outbox: OutboxDocument,
}

/// Finished jobs on their way into the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxDocument {
    /// How many are not recorded yet.
    pub waiting: u64,
    /// How many were left unrecorded so far because too many waited.
    pub dropped: u64,
}

/// How the platform is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, `degraded` or `down`.
    pub status: String,
    /// What the API says beside that.
    #[serde(flatten)]
    pub details: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
pub(crate) struct Kinds {
    pub(crate) kinds: Vec<KindDocument>,
}

#[derive(Deserialize)]
pub(crate) struct Queues {
    pub(crate) queues: Vec<QueueDocument>,
}

#[derive(Deserialize)]
pub(crate) struct Runs {
    pub(crate) runs: Vec<fourmi_model::RunReport>,
}
