//! How many processes and slots a queue has, should have and needs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::QueueName;

/// The most processes that may be asked for.
pub const MAX_PROCESSES: u32 = 64;

/// What a scaler must know of a queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleSignal {
    /// The queue.
    pub queue: QueueName,
    /// Jobs that wait for a worker.
    pub waiting: u64,
    /// Jobs that run.
    pub running: u64,
    /// Both together: one number for scalers that take one.
    pub load: u64,
    /// Since when, in milliseconds, the oldest of the jobs at the heads of the lanes (a thousand of them at most) has been
    /// in the queue, times in which it could not run included; `null` if none waits.
    pub oldest_waiting_ms: Option<u64>,
    /// Runs that have started so far; grows for ever.
    pub started: u64,
    /// Runs that started in a second, over the last minute or half of it; `null` if none did.
    pub starts_per_second: Option<f64>,
    /// In how many milliseconds the waiting jobs will have started at this pace; `null` if that is unknown.
    pub estimated_drain_ms: Option<u64>,
    /// The worker processes.
    pub processes: ScaleProcesses,
    /// Their slots.
    pub slots: ScaleSlots,
    /// Who autoscales the queue lets it have processes within these bounds; `null` if nobody does.
    pub autoscale: Option<ScaleBounds>,
}

/// The worker processes of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleProcesses {
    /// How many each supervisor (`fourmi up`) keeps running; `null`: one.
    pub wanted: Option<u32>,
    /// How many live, those that drain left out.
    pub live: u32,
    /// How many end once their jobs have.
    pub draining: u32,
    /// Those that run jobs, also while they drain: stopping one costs time.
    pub busy: Vec<BusyProcess>,
    /// Those that run nothing.
    pub idle: Vec<String>,
}

/// A worker process that runs jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BusyProcess {
    /// Its name.
    pub name: String,
    /// How many jobs it runs.
    pub busy: u32,
}

/// The slots of a queue's worker processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleSlots {
    /// How many all processes share; `null`: each has its own number.
    pub wanted: Option<u32>,
    /// How many there are, those of processes that drain left out.
    pub live: u32,
    /// How many jobs are in slots.
    pub busy: u32,
}

/// The fewest and the most processes that an autoscaler asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleBounds {
    /// The fewest.
    pub min: u32,
    /// The most: 64 at most.
    pub max: u32,
}

impl std::fmt::Display for ScaleBounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.min, self.max)
    }
}
