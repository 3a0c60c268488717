//! Bringing jobs forward: letting delayed ones run now, and changing the priority of those that have not started.

use fourmi_model::{Job, JobId, Priority, QueueName, State};
use redis::Value;
use uuid::Uuid;

use crate::{
    JobFilter, QueueError, Queues,
    link::Link,
    list,
    queues::{STEP, state},
    read::{self, meta_key, number, priority_number, text},
    scripts,
    walk::{self, BATCH, ENTRIES_A_STEP, Place},
};

/// The states of jobs that can be promoted.
const DELAYED: [State; 2] = [State::Scheduled, State::Retrying];

/// What a step through the delayed jobs did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromoteStep {
    /// Delayed jobs that were meant.
    pub matched: u64,
    /// Those of them that wait for a worker now: all but those that somebody else has changed meanwhile.
    pub done: u64,
    /// Where the next step starts; `None` at the end. Opaque.
    pub next: Option<String>,
}

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
    /// Lets the delayed jobs (`scheduled`, `retrying`) that `filter` wants (its states do not matter) run now, in one step
    /// that looks at a thousand at most; or only counts them. A job is let run once, whatever becomes of it.
    ///
    /// # Errors
    /// If Redis does not answer: part of the step may have been done. [`QueueError::Corrupt`] if the cursor is none of
    /// ours.
    pub async fn promote_step(
        &self,
        queue: &QueueName,
        filter: &JobFilter,
        count_only: bool,
        cursor: Option<&str>,
    ) -> Result<PromoteStep, QueueError> {
        let filter = JobFilter { states: DELAYED.to_vec(), ..filter.clone() };
        let unreadable = || QueueError::Corrupt("the cursor is none of this queue's delayed jobs".into());
        let mut place = cursor.map(|text| Place::read(text).ok_or_else(unreadable)).transpose()?;
        let mut step = PromoteStep::default();
        for _ in 0..ENTRIES_A_STEP / BATCH {
            let entries = walk::entries(self.link(), queue, "later", place.as_ref()).await?;
            let mut jobs = read_jobs(self.link(), queue, &entries.ids).await?;
            jobs.retain(|job| list::matches(&filter, job) && is_of_before(job, entries.began));
            step.matched += jobs.len() as u64;
            step.done += if count_only { 0 } else { promote(self.link(), queue, &jobs).await? };
            place = entries.next;
            if place.is_none() {
                break;
            }
        }
        step.next = place.map(|place| place.write());
        Ok(step)
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
    ) -> Result<PromoteStep, QueueError> {
        let mut ids: Vec<Uuid> = ids.iter().filter(|id| id.queue() == queue).map(JobId::uuid).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut step = PromoteStep::default();
        for ids in ids.chunks(BATCH) {
            let mut jobs = read_jobs(self.link(), queue, ids).await?;
            jobs.retain(|job| DELAYED.contains(&job.state));
            step.matched += jobs.len() as u64;
            step.done += if count_only { 0 } else { promote(self.link(), queue, &jobs).await? };
        }
        Ok(step)
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
        for ids in ids.chunks(usize::try_from(STEP).unwrap_or(BATCH)) {
            let mut call = scripts::PRIORITIZE.key(meta_key(queue));
            call.arg(priority_number(priority));
            for id in ids {
                call.arg(id.uuid().hyphenated().to_string());
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

async fn read_jobs(link: &Link, queue: &QueueName, ids: &[Uuid]) -> Result<Vec<Job>, QueueError> {
    Ok(read::jobs(link, queue, ids).await?.into_iter().flatten().collect())
}

/// Whether a job was there, as it is, when the first step began (ms): else it was promoted already and has failed since, or
/// is new.
fn is_of_before(job: &Job, began: i64) -> bool {
    job.started_at.unwrap_or(job.created_at).as_millisecond() <= began
}

/// Lets delayed jobs run, each only as it was read; how many.
async fn promote(link: &Link, queue: &QueueName, jobs: &[Job]) -> Result<u64, QueueError> {
    let mut done = 0;
    for state in DELAYED {
        let mut call = scripts::RETRY.key(meta_key(queue));
        call.arg(state.as_str());
        let targets: Vec<&Job> = jobs.iter().filter(|job| job.state == state).collect();
        for job in &targets {
            call.arg(job.id.uuid().hyphenated().to_string()).arg(job.version);
        }
        if !targets.is_empty() {
            // For each job: the state before, and whether it was done.
            let answers: Vec<Value> = link.invoke(&call).await?;
            done += answers.chunks_exact(2).filter(|answer| number(&answer[1]) == 1).count() as u64;
        }
    }
    Ok(done)
}
