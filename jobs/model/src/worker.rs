//! A worker process as everyone outside sees it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{JobId, KindName, QueueName};

/// The most current jobs that a worker names.
pub const MAX_WORKER_JOBS: usize = 200;

/// A live worker process, as it described itself a second ago.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerInfo {
    /// Its name, unique among those that live.
    pub name: String,
    /// The queue that it serves.
    pub queue: QueueName,
    /// The machine.
    pub host: String,
    /// The process id there.
    pub pid: u32,
    /// The version of the program.
    pub version: String,
    /// The kinds that it can run, each with the newest version of the payload's schema that it reads.
    pub kinds: BTreeMap<KindName, u32>,
    /// Jobs that it may run at the same time.
    pub slots: u32,
    /// Jobs that it runs now.
    pub busy: u32,
    /// The jobs that it holds, those that wait for a slot of it included; 200 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobId>,
    /// Resident memory in bytes, without child processes.
    pub memory_bytes: u64,
    /// Processor time since the description before, in percent of one core, without child processes.
    pub cpu_percent: f32,
    /// When it started.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub started_at: Timestamp,
    /// When it last said that it lives.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub last_seen: Timestamp,
    /// Whether it fetches no more jobs and ends when its runs have.
    pub draining: bool,
}

impl WorkerInfo {
    /// Whether it can run jobs of this kind with a payload of this version.
    pub fn knows(&self, kind: &KindName, schema_version: u32) -> bool {
        self.kinds.get(kind).is_some_and(|known| schema_version <= *known)
    }
}
