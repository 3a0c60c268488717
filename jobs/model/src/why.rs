//! Why a job does not run yet.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ErrorReport, JobId, KindName, LimitName, ParkReason, Priority, Rate, State, TenantName};

/// What keeps a job from running, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// The job.
    pub job: JobId,
    /// Its state.
    pub state: State,
    /// What blocks it, the most decisive first; nothing if it starts in this moment.
    pub blocks: Vec<Block>,
    /// When it may start. Missing where that cannot be told: `no_estimate` says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_start: Option<EstimatedStart>,
    /// Why there is no estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_estimate: Option<NoEstimate>,
}

/// One thing that keeps a job from running.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Block {
    /// It is over, in the state that is said.
    Finished,
    /// Nothing does: it runs.
    Running {
        /// The worker process.
        worker: String,
        /// Since when.
        #[schemars(with = "String", extend("format" = "date-time"))]
        since: Timestamp,
    },
    /// Its queue is paused.
    Paused,
    /// Its time has not come.
    NotDue {
        /// When it will have.
        #[schemars(with = "String", extend("format" = "date-time"))]
        until: Timestamp,
    },
    /// It has failed, and waits before it is tried again.
    Retrying {
        /// Until when.
        #[schemars(with = "String", extend("format" = "date-time"))]
        until: Timestamp,
        /// Why the last run failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorReport>,
    },
    /// It waits for other jobs.
    BlockedBy {
        /// How many.
        count: u64,
        /// Twenty of them at most.
        jobs: Vec<Awaited>,
    },
    /// It is parked until a cause goes away.
    Parked {
        /// Which.
        parked_reason: ParkReason,
        /// What releases it, for a person.
        released_by: String,
    },
    /// No live worker process can run it.
    NoWorker {
        /// Its kind.
        kind: KindName,
        /// The version of its payload's schema.
        schema_version: u32,
        /// What the live ones of its queue know of the kind, twenty of them at most; empty if none lives.
        workers: Vec<Knowledge>,
    },
    /// As many jobs of its queue run as may.
    CapReached {
        /// How many may.
        cap: u64,
        /// How many do.
        running: u64,
    },
    /// Every slot of the worker processes that can run it is taken.
    NoFreeSlot {
        /// All their slots.
        slots: u64,
        /// The processes, twenty at most.
        workers: Vec<Busy>,
    },
    /// A limit holds it back.
    LimitReached {
        /// Its name.
        limit: LimitName,
        /// Jobs that may run under it at the same time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        concurrency: Option<u32>,
        /// How many may start in a time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rate: Option<Rate>,
        /// Jobs that run under it; counted if there is a `concurrency`.
        running: u64,
        /// Those jobs, twenty at most.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        holders: Vec<JobId>,
        /// When it allows the next start.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>", extend("format" = "date-time"))]
        until: Option<Timestamp>,
    },
    /// Its last run may have taken its worker down: it waits for a process that runs nothing else.
    Suspect {
        /// Suspects before it.
        ahead: u64,
    },
    /// Others are before it in its lane.
    InLane {
        /// Whose lane.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<TenantName>,
        /// The lane's priority.
        priority: Priority,
        /// Jobs before it. Jobs that were cancelled there count until their turn comes.
        ahead: u64,
        /// Whether there are more: not the whole of a long lane is searched.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        or_more: bool,
        /// Other lanes that take turns with it now.
        lanes: u64,
    },
}

/// A job that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Awaited {
    /// The job.
    pub job: JobId,
    /// Its state; missing if its queue has forgotten it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// What a worker process knows of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Knowledge {
    /// The process.
    pub worker: String,
    /// The newest version of the payload's schema that it reads; missing if it does not know the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u32>,
}

/// How busy a worker process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Busy {
    /// The process.
    pub worker: String,
    /// Jobs that it may run at the same time.
    pub slots: u32,
    /// Jobs that it runs.
    pub busy: u32,
}

/// When a job may start: a guess from how many jobs of its queue have started lately and how many go before it. The times
/// lie further apart the more has to happen before, and the less has happened lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EstimatedStart {
    /// Most likely.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Hardly before.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub low: Timestamp,
    /// Hardly after.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub high: Timestamp,
}

/// Why it cannot be told when a job starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoEstimate {
    /// It has started.
    Started,
    /// It is over.
    Finished,
    /// Its queue is paused.
    Paused,
    /// It waits for other jobs.
    Blocked,
    /// It is parked.
    Parked,
    /// No live worker process can run it.
    NoWorker,
    /// A limit holds it back, and not the pace of its queue.
    Limited,
    /// It waits for a process that runs nothing else.
    Suspect,
    /// No job of its queue has started lately.
    NoRecentStarts,
}
