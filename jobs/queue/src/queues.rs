//! Submitting, reading and steering jobs: everything but running them.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fourmi_model::{Job, JobId, KindName, LogPage, ParkReason, QueueName, RunReport, State, Submission, TenantName};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    Consumer, OutboxState, Pushed, QueueError, Refusal,
    link::Link,
    list, outbox,
    push::{Pusher, Row},
    read, scripts,
};

/// All queues of one Redis; cheap to clone.
#[derive(Clone)]
pub struct Queues {
    link: Link,
    pushers: Arc<Mutex<HashMap<QueueName, Pusher>>>,
}

/// What a step of releasing parked jobs did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unparked {
    /// Jobs that wait for a worker now.
    pub released: u64,
    /// Where the next step starts; `None` at the end. Opaque.
    pub next: Option<String>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only these states; empty for all.
    pub states: Vec<State>,
    /// Only this kind.
    pub kind: Option<KindName>,
    /// Only jobs with this tag.
    pub tag: Option<String>,
    /// Only jobs of this tenant.
    pub tenant: Option<TenantName>,
    /// Only jobs that were submitted with the API key of this id.
    pub submitted_by: Option<String>,
    /// Only jobs whose newest error has this code.
    pub error: Option<String>,
    /// Only jobs that are parked for this reason.
    pub parked_reason: Option<ParkReason>,
    /// Only jobs that were accepted at this time or later.
    pub created_after: Option<Timestamp>,
    /// Only jobs that were accepted before this time.
    pub created_before: Option<Timestamp>,
    /// Only jobs that were over at this time or later.
    pub finished_after: Option<Timestamp>,
    /// Only jobs that were over before this time.
    pub finished_before: Option<Timestamp>,
}

impl JobFilter {
    /// Whether it wants a job.
    pub fn wants(&self, job: &Job) -> bool {
        list::matches(self, job)
    }
}

/// A part of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// The jobs: live ones first, in the order in which they will run, then finished ones, newest first.
    pub jobs: Vec<Job>,
    /// Where the next page starts; `None` at the end. Opaque, URL-safe.
    pub next: Option<String>,
    /// How many entries of indexes were looked at.
    pub looked_at: usize,
}

/// How many jobs of a queue are in each state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<State, u64>);

/// How Redis is.
#[derive(Debug, Clone)]
pub struct RedisHealth {
    /// Its version, such as `7.0.15`.
    pub version: String,
    /// Round trip of a PING.
    pub latency: std::time::Duration,
    /// Bytes in use.
    pub used_memory: u64,
    /// The limit in bytes, if one is set.
    pub max_memory: Option<u64>,
}

impl Queues {
    /// Connects, and checks that Redis can carry queues.
    ///
    /// # Errors
    /// If Redis does not answer or is not set up as it must be.
    pub async fn connect(url: &str) -> Result<Self, QueueError> {
        Self::connect_trusting(url, None).await
    }

    /// Connects as [`Queues::connect`] does. With TLS, only certificates are accepted that the authorities in this file
    /// (PEM) have signed; without a file, those that the system trusts.
    ///
    /// # Errors
    /// Also if the file cannot be used.
    pub async fn connect_trusting(url: &str, authorities: Option<&Path>) -> Result<Self, QueueError> {
        Ok(Self { link: Link::connect(url, authorities).await?, pushers: Arc::default() })
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Puts a job into its queue. Concurrent calls are committed together.
    ///
    /// # Errors
    /// The outer one if Redis refused or did not answer, the inner one if the job was refused. After
    /// [`QueueError::Unavailable`] the job may have been accepted: pushing the same id again is safe.
    pub async fn push(&self, id: JobId, submission: Submission) -> Result<Result<Pushed, Refusal>, QueueError> {
        let row = Row::new(id.clone(), &submission)?;
        let answer = self.pusher(id.queue()).await?.push(row).await?;
        if answer.as_ref().is_ok_and(|pushed| pushed.id == id) {
            let ties: Vec<_> = submission.envelope.after.iter().map(|parent| (parent, &id)).collect();
            self.follow_or_leave(&ties).await;
        }
        Ok(answer)
    }

    /// Puts any number of jobs into one queue, in steps; one answer a job, in order.
    ///
    /// # Errors
    /// As [`Queues::push`]; some of the jobs may have been accepted then.
    pub async fn push_many(
        &self,
        queue: &QueueName,
        jobs: &[(JobId, Submission)],
    ) -> Result<Vec<Result<Pushed, Refusal>>, QueueError> {
        let pusher = self.pusher(queue).await?;
        let rows = jobs.iter().map(|(id, submission)| Row::new(id.clone(), submission));
        let answers = pusher.push_many(&rows.collect::<Result<Vec<_>, _>>()?).await?;
        let is_own = |id: &JobId, answer: &Result<Pushed, _>| answer.as_ref().is_ok_and(|pushed| pushed.id == *id);
        let accepted = jobs.iter().zip(&answers).filter(|((id, _), answer)| is_own(id, answer));
        let ties = accepted.flat_map(|((id, job), _)| job.envelope.after.iter().map(move |parent| (parent, id)));
        self.follow_or_leave(&ties.collect::<Vec<_>>()).await;
        Ok(answers)
    }

    pub(crate) async fn pusher(&self, queue: &QueueName) -> Result<Pusher, QueueError> {
        if let Some(pusher) = self.pushers().get(queue) {
            return Ok(pusher.clone());
        }
        self.link.check_layout(queue).await?;
        let mut pushers = self.pushers();
        let start = || Pusher::start(self.link.clone(), queue.clone());
        Ok(pushers.entry(queue.clone()).or_insert_with(start).clone())
    }

    fn pushers(&self) -> std::sync::MutexGuard<'_, HashMap<QueueName, Pusher>> {
        self.pushers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job as it is now.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn get(&self, id: &JobId) -> Result<Option<Job>, QueueError> {
        Ok(read::jobs(&self.link, id.queue(), &[id.uuid()]).await?.pop().flatten())
    }

    /// Whose the job is; `None` if it is not there.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn tenant(&self, id: &JobId) -> Result<Option<Option<TenantName>>, QueueError> {
        let mut command = redis::cmd("HMGET");
        command.arg(read::key(id.queue(), format_args!("j:{}", id.uuid().hyphenated()))).arg("state").arg("grp");
        let (state, tenant): (Option<String>, Option<String>) = self.link.query(&command).await?;
        // What is there was checked when it was accepted.
        Ok(state.map(|_| tenant.and_then(|name| name.parse().ok())))
    }

    /// Which of these jobs, of any queues, are there.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn are_there(&self, ids: &[JobId]) -> Result<Vec<bool>, QueueError> {
        Ok(self.versions(ids).await?.iter().map(Option::is_some).collect())
    }

    /// The versions of jobs of any queues, each with the number of the newest line of its log; `None` for one that is not
    /// there.
    pub(crate) async fn versions(&self, ids: &[JobId]) -> Result<Vec<Option<(u64, u64)>>, QueueError> {
        read::versions(&self.link, ids).await
    }

    /// The runs of a job that did not succeed, oldest first; the newest fifty are kept.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn runs(&self, id: &JobId) -> Result<Vec<RunReport>, QueueError> {
        read::runs(&self.link, id).await
    }

    /// The lines of a job's log after the line of that number (0: from the beginning), `limit` (at most 1,000) of them;
    /// `None` if there is no such job.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn log(&self, id: &JobId, after: u64, limit: usize) -> Result<Option<LogPage>, QueueError> {
        read::log(&self.link, id, after, limit).await
    }

    /// Lets jobs of a queue run that are parked for `reason`, the oldest thousand at most. Jobs that are parked again after
    /// the first step began are not released by the following ones.
    ///
    /// # Errors
    /// If Redis does not answer; [`QueueError::Corrupt`] if the cursor is none of ours.
    pub async fn unpark(
        &self,
        queue: &QueueName,
        reason: ParkReason,
        cursor: Option<&str>,
    ) -> Result<Unparked, QueueError> {
        if cursor.is_some_and(|latest| latest.parse::<u64>().is_err()) {
            return Err(QueueError::Corrupt("the cursor is none of this queue's parked jobs".into()));
        }
        let (released, latest) = self.unpark_step(queue, reason, STEP, cursor.unwrap_or_default()).await?;
        Ok(Unparked { released, next: (released == STEP).then(|| latest.to_string()) })
    }

    /// Lets some jobs of a queue run that are parked for `reason`, those that are parked longest; gives how many.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn unpark_some(&self, queue: &QueueName, reason: ParkReason, most: u64) -> Result<u64, QueueError> {
        Ok(self.unpark_step(queue, reason, most.min(STEP), "").await?.0)
    }

    async fn unpark_step(
        &self,
        queue: &QueueName,
        reason: ParkReason,
        most: u64,
        until: &str,
    ) -> Result<(u64, u64), QueueError> {
        let mut call = scripts::UNPARK.key(read::meta_key(queue));
        self.link.invoke(call.arg(reason.as_str()).arg(most).arg(until)).await
    }

    /// How many jobs are parked for each reason; reasons without jobs are left out.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn parked(&self, queue: &QueueName) -> Result<BTreeMap<ParkReason, u64>, QueueError> {
        read::parked(&self.link, queue).await
    }

    /// A page of the jobs of a queue. `limit` is capped at 200; a page may hold fewer and still have a next one.
    ///
    /// # Errors
    /// If Redis does not answer; [`QueueError::Corrupt`] if the cursor is none of ours.
    pub async fn list(
        &self,
        queue: &QueueName,
        filter: &JobFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, QueueError> {
        list::list(&self.link, queue, filter, cursor, limit).await
    }

    /// How many jobs are in each state.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn counts(&self, queue: &QueueName) -> Result<Counts, QueueError> {
        read::counts(&self.link, queue).await
    }

    /// When the oldest of the jobs was accepted that stand at the head of their lanes; `None` if none waits.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn oldest_waiting(&self, queue: &QueueName) -> Result<Option<Timestamp>, QueueError> {
        let ms: i64 = self.link.invoke(&scripts::OLDEST.key(read::meta_key(queue))).await?;
        Ok(u64::try_from(ms).ok().and_then(read::timestamp))
    }

    /// How full an outbox of a queue is; `None` if nobody consumes it.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn outbox(&self, queue: &QueueName, consumer: Consumer) -> Result<Option<OutboxState>, QueueError> {
        outbox::state(&self.link, queue, consumer).await
    }

    /// The time by the clock of Redis, which is that of every queue.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn time(&self) -> Result<Timestamp, QueueError> {
        let (seconds, microseconds): (i64, i32) = self.link.query(&redis::cmd("TIME")).await?;
        Timestamp::new(seconds, microseconds.saturating_mul(1_000))
            .map_err(|error| QueueError::Corrupt(format!("the time: {error}")))
    }

    /// How Redis is, asked now.
    ///
    /// # Errors
    /// If Redis does not answer within two seconds.
    pub async fn health(&self) -> Result<RedisHealth, QueueError> {
        self.link.health().await
    }

    /// Writes, reads and deletes a key: Redis may answer and yet take nothing. Whether it gave back what it was given.
    ///
    /// # Errors
    /// If Redis does not answer, or refuses.
    pub async fn try_out(&self) -> Result<bool, QueueError> {
        let mark = Uuid::new_v4().simple().to_string();
        let key = format!("fourmi:canary:{mark}");
        let () = self.link.query(redis::cmd("SET").arg(&key).arg(&mark).arg("EX").arg(60)).await?;
        let read: Option<String> = self.link.query(redis::cmd("GET").arg(&key)).await?;
        let deleted: u64 = self.link.query(redis::cmd("DEL").arg(&key)).await?;
        Ok(read == Some(mark) && deleted == 1)
    }
}

/// The state that a script names; `None` if there is no such job.
pub(crate) fn state(word: &str) -> Result<Option<State>, QueueError> {
    match word {
        "" => Ok(None),
        word => word.parse().map(Some).map_err(|error| QueueError::Corrupt(format!("a job's state: {error}"))),
    }
}

/// Elements that one script call handles at most (invariant 8).
pub(crate) const STEP: u64 = 1_000;

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
