//! The dead letter as a whole: replaying and purging what failed, by filter, in bounded steps.

use fourmi_model::{Job, JobId, QueueName, State};
use jiff::Timestamp;
use redis::Value;
use uuid::Uuid;

use crate::{
    JobFilter, QueueError,
    link::Link,
    list,
    read::{self, meta_key, number, text},
    scripts,
};

/// Entries that a step looks at, at most.
const ENTRIES_A_STEP: usize = 1_000;

/// Jobs that are read, and changed, at once.
const BATCH: usize = 200;

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

/// Where a step starts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The entry that was looked at last: until when it is kept, and its id.
    after: (String, Uuid),
    /// When the first step began, in ms: what failed later is none of ours, so that what is replayed and fails again is
    /// not replayed for ever.
    began: i64,
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let [time, id, began] = text.split('_').collect::<Vec<_>>().try_into().ok()?;
        time.parse::<f64>().ok().filter(|time| time.is_finite())?;
        Some(Self { after: (time.to_owned(), Uuid::try_parse(id).ok()?), began: began.parse().ok()? })
    }

    fn write(&self) -> String {
        format!("{}_{}_{}", self.after.0, self.after.1, self.began)
    }
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
        let (now, entries) = entries(link, queue, place.as_ref()).await?;
        let began = place.as_ref().map_or(now, |place| place.began);
        let ids: Vec<Uuid> = entries.iter().map(|(_, id)| *id).collect();
        let jobs = read::jobs(link, queue, &ids).await?.into_iter().flatten();
        let wanted: Vec<Job> = jobs.filter(|job| is_wanted(job, filter, began)).collect();
        step.matched += wanted.len() as u64;
        let targets: Vec<_> = wanted.iter().map(|job| (job.id.uuid(), Some(job.version))).collect();
        step.done += act(link, queue, action, &targets).await?;
        let end = entries.len() < BATCH;
        if let Some((time, id)) = entries.into_iter().next_back().filter(|_| !end) {
            place = Some(Place { after: (time, id), began });
        } else {
            return Ok(step);
        }
    }
    step.next = place.map(|place| place.write());
    Ok(step)
}

fn is_wanted(job: &Job, filter: &JobFilter, began: i64) -> bool {
    let before = |end: Timestamp| end.as_millisecond() <= began;
    job.state == State::Failed && job.finished_at.is_some_and(before) && list::matches(filter, job)
}

/// The time now, and the next entries.
async fn entries(
    link: &Link,
    queue: &QueueName,
    place: Option<&Place>,
) -> Result<(i64, Vec<(String, Uuid)>), QueueError> {
    let mut call = scripts::DEAD.key(meta_key(queue));
    call.arg(BATCH);
    match place {
        Some(Place { after: (time, id), .. }) => call.arg(time).arg(id.hyphenated().to_string()),
        None => call.arg("").arg(""),
    };
    let answer: Vec<Value> = link.invoke(&call).await?;
    let corrupt = || QueueError::Corrupt("the dead letter".into());
    let [now, entries @ ..] = answer.as_slice() else { return Err(corrupt()) };
    let entries = entries.chunks_exact(2).map(|entry| {
        let id = Uuid::try_parse(text(&entry[0])).map_err(|_| corrupt())?;
        Ok((text(&entry[1]).to_owned(), id))
    });
    Ok((number(now), entries.collect::<Result<_, QueueError>>()?))
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
