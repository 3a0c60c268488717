//! Following jobs: snapshot, then tail.

use fourmi_model::{Job, JobId, Progress, QueueName};

use crate::{QueueError, Queues};

/// Follows any number of jobs over one subscription; cheap to clone.
#[derive(Clone)]
pub struct Watcher;

impl Watcher {
    /// Subscribes to the events of `names` and keeps the subscription over restarts of Redis.
    pub fn start(_queues: Queues, _names: Vec<QueueName>) -> Self {
        Self
    }

    /// The job as it is now, and what happens to it from now on; `None` if there is no such job.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn watch(&self, _id: &JobId) -> Result<Option<(Job, Watch)>, QueueError> {
        todo!()
    }
}

/// What happens to one job from a snapshot on.
pub struct Watch;

/// Something that happened to a job.
#[derive(Debug, Clone)]
pub enum Update {
    /// It has entered another state.
    State(Box<Job>),
    /// Its run has come further.
    Progress {
        /// The job's version with this progress.
        version: u64,
        /// The run.
        run: u64,
        /// How far it is.
        progress: Progress,
    },
}

impl Watch {
    /// The next thing that happens; `None` once the job is over and that was given out.
    ///
    /// Progress is coalesced: a slow reader gets the newest, not all. The final state is always given.
    pub async fn next(&mut self) -> Option<Update> {
        todo!()
    }
}
