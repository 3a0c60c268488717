//! Bringing jobs forward: letting delayed ones run now, and changing the priority of those that have not started.

use fourmi_model::{JobId, Priority, QueueName, State};
use redis::Value;

use crate::{
    ActionStep, JobAction, JobFilter, QueueError, Queues,
    queues::state,
    read::{meta_key, number, priority_number, text},
    scripts,
};

/// Jobs whose priority one script call changes at most.
const STEP: usize = 1_000;

/// The answer to a change of priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prioritized {
    /// It has that priority now.
    Changed,
    /// It is in this state, in which a priority means nothing any more.
    NotPossible(State),
    /// There is no such job.
    Unknown,
}

impl Queues {
    /// Lets the delayed jobs (`scheduled`, `retrying`) that `filter` wants run now, in one step that looks at a thousand at
    /// most; or only counts them. A job is let run once, whatever becomes of it.
    ///
    /// # Errors
    /// As [`Queues::act`].
    pub async fn promote_step(
        &self,
        queue: &QueueName,
        filter: &JobFilter,
        count_only: bool,
        cursor: Option<&str>,
    ) -> Result<ActionStep, QueueError> {
        self.act(queue, JobAction::Promote, filter, count_only, cursor).await
    }

    /// Lets those of these jobs of a queue run now that are delayed (`scheduled`, `retrying`); or only counts them.
    ///
    /// # Errors
    /// If Redis does not answer: some may have been done.
    pub async fn promote_jobs(
        &self,
        queue: &QueueName,
        ids: &[JobId],
        count_only: bool,
    ) -> Result<ActionStep, QueueError> {
        self.act_on_ids(queue, JobAction::Promote, &JobFilter::default(), count_only, ids).await
    }

    /// Gives jobs of a queue that have not started another priority; one answer a job, in order.
    ///
    /// # Errors
    /// If Redis does not answer: some may have been changed.
    pub async fn set_priority(
        &self,
        queue: &QueueName,
        ids: &[JobId],
        priority: Priority,
    ) -> Result<Vec<Prioritized>, QueueError> {
        let mut answers = Vec::with_capacity(ids.len());
        for ids in ids.chunks(STEP) {
            let mut call = scripts::PRIORITIZE.key(meta_key(queue));
            call.arg(priority_number(priority));
            for id in ids {
                call.arg(id.uuid().hyphenated().to_string()).arg("");
            }
            let changed: Vec<Value> = self.link().invoke(&call).await?;
            for answer in changed.chunks_exact(2) {
                answers.push(match state(text(&answer[0]))? {
                    None => Prioritized::Unknown,
                    Some(_) if number(&answer[1]) == 1 => Prioritized::Changed,
                    Some(state) => Prioritized::NotPossible(state),
                });
            }
        }
        Ok(answers)
    }
}
