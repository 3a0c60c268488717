//! Steering one job: stopping it, letting it run again, forgetting it.

use fourmi_model::{JobId, Retention, State};
use redis::Value;

use crate::{
    QueueError, Queues,
    queues::{milliseconds, state},
    read::{meta_key, number, text},
    scripts::{self, Invocation},
};

/// The answer to a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not started and will not.
    Now,
    /// Its run was asked to stop.
    Requested,
    /// It was over already, in this state.
    AlreadyOver(State),
    /// There is no such job.
    Unknown,
}

/// The answer to a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// It waits for a worker now, with a fresh budget of attempts.
    Waiting,
    /// It is in this state, from which it cannot be retried (`waiting`, `running`, `blocked`, `succeeded`), or it has failed
    /// or been cancelled, and another job of its like is there, which it would exclude.
    NotPossible(State),
    /// There is no such job.
    Unknown,
}

/// The answer to a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is forgotten now, with all that was known of it.
    Now,
    /// It is in this state, and not over.
    NotOver(State),
    /// There is no such job.
    Unknown,
}

impl Queues {
    /// Stops a job: at once if it has not started, else by asking its run.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn cancel(&self, id: &JobId) -> Result<Cancelled, QueueError> {
        let mut call = scripts::CANCEL.key(meta_key(id.queue()));
        call.arg(milliseconds(Retention::default().done));
        Ok(match self.steer(&mut call, id).await? {
            (None, _) => Cancelled::Unknown,
            (Some(State::Running), _) => Cancelled::Requested,
            (Some(state), false) => Cancelled::AlreadyOver(state),
            (Some(_), true) => Cancelled::Now,
        })
    }

    /// Lets a job run now: one that failed or was cancelled again from the start, one that waits for its time or is
    /// parked without waiting any longer.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn retry(&self, id: &JobId) -> Result<Retried, QueueError> {
        let mut call = scripts::RETRY.key(meta_key(id.queue()));
        call.arg("");
        Ok(match self.steer(&mut call, id).await? {
            (None, _) => Retried::Unknown,
            (Some(_), true) => Retried::Waiting,
            (Some(state), false) => Retried::NotPossible(state),
        })
    }

    /// Forgets a job that is over, with all that is known of it here: its log, its runs, its result. Jobs that wait for
    /// it still hear how it ended. What is recorded of it, or about to be, is the caller's to remove.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn delete(&self, id: &JobId) -> Result<Deleted, QueueError> {
        let mut call = scripts::PURGE.key(meta_key(id.queue()));
        Ok(match self.steer(&mut call, id).await? {
            (None, _) => Deleted::Unknown,
            (Some(_), true) => Deleted::Now,
            (Some(state), false) => Deleted::NotOver(state),
        })
    }

    /// Ends a call with one job, whatever its version; the state before, and whether it was done.
    async fn steer(&self, call: &mut Invocation<'_>, id: &JobId) -> Result<(Option<State>, bool), QueueError> {
        call.arg(id.uuid().hyphenated().to_string()).arg("");
        let answer: Vec<Value> = self.link().invoke(call).await?;
        match answer.as_slice() {
            [before, done] => Ok((state(text(before))?, number(done) == 1)),
            _ => Err(QueueError::Corrupt(format!("the answer to a transition of job {id}"))),
        }
    }
}
