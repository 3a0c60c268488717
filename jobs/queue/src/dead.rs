//! The dead letter as a whole: replaying and purging what failed, by filter, in bounded steps.

use fourmi_model::{Job, JobId, QueueName, State};
use jiff::Timestamp;
use redis::Value;
use uuid::Uuid;

use crate::{
    JobFilter, QueueError,
    link::Link,
    list,
    read::{self, meta_key, number},
    scripts,
    walk::{self, BATCH, ENTRIES_A_STEP, Place},
};

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

/// What a step through the dead letter did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadStep {
    /// Jobs that the filter wants.
    pub matched: u64,
    /// Those of them that were replayed or purged: all but those that somebody else has changed meanwhile.
    pub done: u64,
    /// Where the next step starts; `None` at the end. Opaque.
    pub next: Option<String>,
}

/// One step over the failed jobs that `filter` wants.
pub(crate) async fn step(
    link: &Link,
    queue: &QueueName,
    action: DeadAction,
    filter: &JobFilter,
    cursor: Option<&str>,
) -> Result<DeadStep, QueueError> {
    let unreadable = || QueueError::Corrupt("the cursor is none of this queue's dead letter".into());
    let mut place = cursor.map(|text| Place::read(text).ok_or_else(unreadable)).transpose()?;
    let mut step = DeadStep::default();
    for _ in 0..ENTRIES_A_STEP / BATCH {
        let entries = walk::entries(link, queue, "dead", place.as_ref()).await?;
        let jobs = read::jobs(link, queue, &entries.ids).await?.into_iter().flatten();
        let wanted: Vec<Job> = jobs.filter(|job| is_wanted(job, filter, entries.began)).collect();
        step.matched += wanted.len() as u64;
        let targets: Vec<_> = wanted.iter().map(|job| (job.id.uuid(), Some(job.version))).collect();
        step.done += act(link, queue, action, &targets).await?;
        place = entries.next;
        if place.is_none() {
            break;
        }
    }
    step.next = place.map(|place| place.write());
    Ok(step)
}

fn is_wanted(job: &Job, filter: &JobFilter, began: i64) -> bool {
    let before = |end: Timestamp| end.as_millisecond() <= began;
    job.state == State::Failed && job.finished_at.is_some_and(before) && list::matches(filter, job)
}

/// Replays or purges failed jobs, each only if it has that version still; how many.
async fn act(
    link: &Link,
    queue: &QueueName,
    action: DeadAction,
    targets: &[(Uuid, Option<u64>)],
) -> Result<u64, QueueError> {
    let mut done = 0;
    for targets in targets.chunks(BATCH) {
        let mut call = match action {
            DeadAction::Count => return Ok(0),
            DeadAction::Purge => scripts::PURGE.key(meta_key(queue)),
            DeadAction::Replay => scripts::RETRY.key(meta_key(queue)),
        };
        if action == DeadAction::Replay {
            call.arg(State::Failed.as_str());
        }
        for (id, version) in targets {
            call.arg(id.hyphenated().to_string()).arg(version.map(|version| version.to_string()).unwrap_or_default());
        }
        // For each job: the state before, and whether it was done.
        let answers: Vec<Value> = link.invoke(&call).await?;
        done += answers.chunks_exact(2).filter(|answer| number(&answer[1]) == 1).count() as u64;
    }
    Ok(done)
}

/// What is done with these jobs, those of them that have failed.
pub(crate) async fn each(
    link: &Link,
    queue: &QueueName,
    action: DeadAction,
    ids: &[JobId],
) -> Result<DeadStep, QueueError> {
    let mut ids: Vec<Uuid> = ids.iter().filter(|id| id.queue() == queue).map(JobId::uuid).collect();
    ids.sort_unstable();
    ids.dedup();
    let jobs = read::jobs(link, queue, &ids).await?.into_iter().flatten();
    let failed: Vec<_> = jobs.filter(|job| job.state == State::Failed).map(|job| (job.id.uuid(), None)).collect();
    let done = act(link, queue, action, &failed).await?;
    Ok(DeadStep { matched: failed.len() as u64, done, next: None })
}
