//! Doing something with many jobs: by filter in bounded steps, or by their ids.

use std::collections::HashSet;

use fourmi_model::{BATCH_KIND, Job, JobId, Priority, QueueName, Retention, State};
use redis::Value;
use uuid::Uuid;

use crate::{
    JobFilter, QueueError, Queues, list,
    queues::milliseconds,
    read::{self, meta_key, number, priority_number},
    scripts,
    walk::{self, BATCH, Place, Way},
};

/// Entries that a step looks at, at most.
const ENTRIES_A_STEP: usize = 1_000;

/// What is to be done with jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAction {
    /// Stop those that are not over; those that run are asked to.
    Cancel,
    /// Let those run now that have failed or were cancelled, again from the start, and those that wait for a time or a
    /// cause.
    Retry,
    /// Let those run now that wait for their time (`scheduled`, `retrying`).
    Promote,
    /// Give those that have not started this priority.
    Prioritize(Priority),
    /// Forget those that are over, with all that is known of them here.
    Delete,
}

/// What a step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActionStep {
    /// Jobs that were meant: the filter wants them, and there is something to do with them.
    pub matched: u64,
    /// Those of them with which it was done: all but those that somebody else has changed meanwhile.
    pub done: u64,
    /// Of [`JobAction::Delete`], those that are forgotten now; what is recorded of them is the caller's to remove.
    pub deleted: Vec<JobId>,
    /// Where the next step starts; `None` at the end. Opaque.
    pub next: Option<String>,
}

impl JobAction {
    /// The states of the jobs that it is for.
    pub fn states(self) -> &'static [State] {
        use State::{Blocked, Cancelled, Failed, Parked, Retrying, Running, Scheduled, Succeeded, Waiting};
        match self {
            Self::Cancel => &[Running, Waiting, Scheduled, Retrying, Blocked, Parked],
            Self::Retry => &[Scheduled, Retrying, Parked, Failed, Cancelled],
            Self::Promote => &[Scheduled, Retrying],
            Self::Prioritize(_) => &[Waiting, Scheduled, Retrying, Blocked, Parked],
            Self::Delete => &[Failed, Succeeded, Cancelled],
        }
    }

    /// Whether there is something to do with a job.
    fn is_for(self, job: &Job) -> bool {
        let can_be = match self {
            Self::Cancel => !job.cancel_requested,
            // A batch ends with its members.
            Self::Retry => job.kind.as_str() != BATCH_KIND,
            Self::Prioritize(priority) => job.priority != priority,
            Self::Promote | Self::Delete => true,
        };
        can_be && self.states().contains(&job.state)
    }

    /// The filter that wants what this one wants and the action is for; `None` if that is nothing.
    fn narrow(self, filter: &JobFilter) -> Option<JobFilter> {
        let is_wanted = |state: &State| filter.states.is_empty() || filter.states.contains(state);
        let states: Vec<State> = self.states().iter().copied().filter(is_wanted).collect();
        (!states.is_empty()).then(|| JobFilter { states, ..filter.clone() })
    }
}

/// Where a step starts.
struct Start {
    place: Place,
    /// When the first step began, in ms: what has changed since is none of ours, so that what is let run and comes back is
    /// not let run for ever.
    began: Option<i64>,
}

impl Start {
    fn read(text: &str) -> Option<Self> {
        let (began, place) = text.split_once('_')?;
        Some(Self { place: Place::read(place)?, began: Some(began.parse().ok()?) })
    }
}

impl Queues {
    /// Does something with the jobs of a queue that `filter` wants and for which the action is, in one step that looks at
    /// a thousand at most; or only counts them. Each is met once: jobs that come, or start, or end after the first step
    /// began are not met by the following ones.
    ///
    /// # Errors
    /// If Redis does not answer: part of the step may have been done. [`QueueError::Corrupt`] if the cursor is none of
    /// ours.
    pub async fn act(
        &self,
        queue: &QueueName,
        action: JobAction,
        filter: &JobFilter,
        count_only: bool,
        cursor: Option<&str>,
    ) -> Result<ActionStep, QueueError> {
        let unreadable = || QueueError::Corrupt("the cursor is none of this action's".into());
        let begin = Start { place: Place::default(), began: None };
        let Start { mut place, mut began } = cursor.map_or(Some(begin), Start::read).ok_or_else(unreadable)?;
        let mut step = ActionStep::default();
        let Some(filter) = action.narrow(filter) else { return Ok(step) };
        let mut looked_at = 0;
        while let Some(index) = place.index(&filter) {
            if let Some(began) = began.filter(|_| looked_at >= ENTRIES_A_STEP) {
                step.next = Some(format!("{began}_{}", place.write()));
                break;
            }
            let mut entries = walk::entries(self.link(), queue, index, Way::OldestFirst, &place).await?;
            let began = *began.get_or_insert(entries.now);
            let ids: Vec<Uuid> = entries.found.iter().map(|entry| entry.id).collect();
            looked_at += ids.len();
            let mut jobs = self.read_many(queue, &ids).await?;
            jobs.retain(|job| index.states.contains(&job.state) && is_of_before(job, began));
            self.act_on(queue, action, &filter, count_only, jobs, &mut step).await?;
            match entries.found.pop().filter(|_| entries.more) {
                Some(last) => place.pass(last),
                None => place.leave_index(),
            }
        }
        Ok(step)
    }

    /// Does something with those of these jobs of a queue that `filter` wants and for which the action is; or only counts
    /// them.
    ///
    /// # Errors
    /// If Redis does not answer: some may have been done.
    pub async fn act_on_ids(
        &self,
        queue: &QueueName,
        action: JobAction,
        filter: &JobFilter,
        count_only: bool,
        ids: &[JobId],
    ) -> Result<ActionStep, QueueError> {
        let mut step = ActionStep::default();
        let Some(filter) = action.narrow(filter) else { return Ok(step) };
        let mut ids: Vec<Uuid> = ids.iter().filter(|id| id.queue() == queue).map(JobId::uuid).collect();
        ids.sort_unstable();
        ids.dedup();
        for ids in ids.chunks(BATCH) {
            let jobs = self.read_many(queue, ids).await?;
            self.act_on(queue, action, &filter, count_only, jobs, &mut step).await?;
        }
        Ok(step)
    }

    async fn read_many(&self, queue: &QueueName, ids: &[Uuid]) -> Result<Vec<Job>, QueueError> {
        Ok(read::jobs(self.link(), queue, ids).await?.into_iter().flatten().collect())
    }

    /// Does it with jobs, each only as it was read, and counts.
    async fn act_on(
        &self,
        queue: &QueueName,
        action: JobAction,
        filter: &JobFilter,
        count_only: bool,
        mut jobs: Vec<Job>,
        step: &mut ActionStep,
    ) -> Result<(), QueueError> {
        // A job that was taken back and let go again stands in its lane twice.
        let mut met = HashSet::new();
        jobs.retain(|job| action.is_for(job) && list::matches(filter, job) && met.insert(job.id.uuid()));
        step.matched += jobs.len() as u64;
        if count_only || jobs.is_empty() {
            return Ok(());
        }
        let meta = meta_key(queue);
        let mut call = match action {
            JobAction::Cancel => scripts::CANCEL.key(meta),
            JobAction::Retry | JobAction::Promote => scripts::RETRY.key(meta),
            JobAction::Prioritize(_) => scripts::PRIORITIZE.key(meta),
            JobAction::Delete => scripts::PURGE.key(meta),
        };
        match action {
            JobAction::Cancel => drop(call.arg(milliseconds(Retention::default().done))),
            // From any state: the version says which.
            JobAction::Retry | JobAction::Promote => drop(call.arg("")),
            JobAction::Prioritize(priority) => drop(call.arg(priority_number(priority))),
            JobAction::Delete => {}
        }
        for job in &jobs {
            call.arg(job.id.uuid().hyphenated().to_string()).arg(job.version);
        }
        // For each job: the state before, and whether it was done.
        let answers: Vec<Value> = self.link().invoke(&call).await?;
        let is_done = answers.chunks_exact(2).map(|answer| number(&answer[1]) == 1);
        let done: Vec<Job> = jobs.into_iter().zip(is_done).filter_map(|(job, done)| done.then_some(job)).collect();
        step.done += done.len() as u64;
        match action {
            JobAction::Cancel => self.cancel_members_of(&done).await?,
            JobAction::Delete => step.deleted.extend(done.into_iter().map(|job| job.id)),
            _ => {}
        }
        Ok(())
    }

    /// Cancels the members of those of these jobs that are batches.
    async fn cancel_members_of(&self, cancelled: &[Job]) -> Result<(), QueueError> {
        for batch in cancelled.iter().filter(|job| job.kind.as_str() == BATCH_KIND) {
            while self.cancel_members(&batch.id).await? {}
        }
        Ok(())
    }
}

/// Whether a job was there, as it is, when the first step began (ms): else it was met already, or is new.
fn is_of_before(job: &Job, began: i64) -> bool {
    let newest = [Some(job.created_at), job.started_at, job.finished_at].into_iter().flatten().max();
    newest.is_none_or(|time| time.as_millisecond() <= began)
}
