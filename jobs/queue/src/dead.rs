//! The dead letter as a whole: replaying and purging what failed, by filter, in bounded steps.

use fourmi_model::{JobId, QueueName, State};

use crate::{ActionStep, JobAction, JobFilter, QueueError, Queues};

/// What to do with failed jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadAction {
    /// Count them.
    Count,
    /// Let them run again from the start.
    Replay,
    /// Forget them at once, with all that is known of them.
    Purge,
}

impl DeadAction {
    fn action(self) -> JobAction {
        match self {
            Self::Count | Self::Purge => JobAction::Delete,
            Self::Replay => JobAction::Retry,
        }
    }
}

impl Queues {
    /// Does something with the failed jobs that `filter` wants (its states do not matter), in one step that looks at a
    /// thousand at most. Jobs that fail after the first step began are not met by the following ones.
    ///
    /// # Errors
    /// If Redis does not answer: part of the step may have been done. [`QueueError::Corrupt`] if the cursor is none of
    /// ours.
    pub async fn dead_step(
        &self,
        queue: &QueueName,
        action: DeadAction,
        filter: &JobFilter,
        cursor: Option<&str>,
    ) -> Result<ActionStep, QueueError> {
        let filter = JobFilter { states: vec![State::Failed], ..filter.clone() };
        self.act(queue, action.action(), &filter, action == DeadAction::Count, cursor).await
    }

    /// Does something with those of these jobs of a queue that have failed.
    ///
    /// # Errors
    /// If Redis does not answer: some may have been done.
    pub async fn dead_jobs(
        &self,
        queue: &QueueName,
        action: DeadAction,
        ids: &[JobId],
    ) -> Result<ActionStep, QueueError> {
        let filter = JobFilter { states: vec![State::Failed], ..JobFilter::default() };
        self.act_on_ids(queue, action.action(), &filter, action == DeadAction::Count, ids).await
    }
}
