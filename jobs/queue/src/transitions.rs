//! The transitions that workers make, one method each, each one script call. The loops of a worker use them; so does
//! whoever leases jobs in another way.

use std::time::Duration;

use fourmi_model::{
    Envelope, ErrorReport, Failure, JobId, LogEntry, MAX_LOG_LINES, NextStep, ParkReason, Policy, QueueName, Retention,
};
use redis::Value;
use uuid::Uuid;

use crate::{
    QueueError, Queues,
    link::Link,
    queues::{STEP, milliseconds},
    read::{meta_key, number, text},
    scripts::{self, Invocation, Script},
};

/// Runs that one script call handles at most (invariant 8): Lua cannot unpack more than some thousands.
const STEP_RUNS: usize = 1_000;

/// The transitions of one queue; cheap to clone.
#[derive(Clone)]
pub struct Transitions {
    link: Link,
    queue: QueueName,
}

/// A run: of which job, and its number, the fencing token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    /// The UUID of the job.
    pub job: Uuid,
    /// The number.
    pub number: u64,
}

/// What a fetch brought.
#[derive(Debug)]
pub struct Fetched {
    /// The runs, each with a lease.
    pub claims: Vec<Claim>,
    /// The time until the next delayed job is due.
    pub next_due: Option<Duration>,
    /// A suspect waits to run alone, and this worker was chosen to make itself idle for it.
    pub must_be_idle: bool,
}

/// A run that was fetched.
#[derive(Debug)]
pub struct Claim {
    /// The job.
    pub id: JobId,
    /// The number of the run.
    pub run: u64,
    /// Runs that count against the retry budget, this one included.
    pub attempts: u32,
    /// Earlier runs that took their process down.
    pub crashes: u32,
    /// Whether nothing else may run in the process meanwhile.
    pub alone: bool,
    /// How long it has waited since it could run.
    pub waited: Duration,
    /// The part of the job that never changes, or why it cannot be read.
    pub envelope: Result<Envelope, String>,
}

impl Claim {
    /// The run.
    pub fn key(&self) -> Run {
        Run { job: self.id.uuid(), number: self.run }
    }
}

/// How a lease is after its renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// It runs from now.
    Renewed,
    /// It runs from now, and a caller asked to stop the job.
    StopRequested,
    /// The run is somebody else's or over.
    Lost,
}

/// The outcome of a run, to be written.
#[derive(Debug)]
pub struct Settlement {
    /// The run.
    pub run: Run,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a run ended, as the queue writes it down.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The work is done; an empty result is not kept.
    Succeeded {
        /// JSON, or empty.
        result: String,
        /// How long to keep the job.
        keep: Duration,
    },
    /// Given up: the dead letter.
    Failed {
        /// Why.
        error: ErrorReport,
        /// How long to keep the job.
        keep: Duration,
    },
    /// Stopped because a caller asked.
    Cancelled {
        /// What the run said.
        error: ErrorReport,
        /// How long to keep the job.
        keep: Duration,
    },
    /// To be run again.
    Retrying {
        /// Why.
        error: ErrorReport,
        /// When.
        delay: Duration,
        /// How long to keep the job if a caller has cancelled it meanwhile.
        keep: Duration,
    },
    /// To wait until a cause goes away.
    Parked {
        /// Why.
        error: ErrorReport,
        /// Which cause.
        reason: ParkReason,
        /// How long to keep the job if a caller has cancelled it meanwhile.
        keep: Duration,
    },
    /// The run took its (child) process down; the third time the job fails.
    Crashed {
        /// Why.
        error: ErrorReport,
        /// When to run again.
        delay: Duration,
        /// How long to keep the job if that was the last time.
        keep: Duration,
    },
    /// Not run to its end for a reason that is not the job's; does not count as an attempt.
    Released {
        /// Not before this has passed; at once at the front of its lane if zero.
        delay: Duration,
    },
    /// Given back because this worker cannot run it and a newer one may; does not count as an attempt.
    Misdirected {
        /// Why: the job says it while it waits.
        error: ErrorReport,
        /// Not before this has passed.
        delay: Duration,
    },
}

impl Outcome {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
            Self::Retrying { .. } => "retrying",
            Self::Parked { .. } => "parked",
            Self::Crashed { .. } => "crashed",
            Self::Released { .. } => "released",
            Self::Misdirected { .. } => "misdirected",
        }
    }

    /// Why, if it is no success.
    pub const fn error(&self) -> Option<&ErrorReport> {
        match self {
            Self::Failed { error, .. }
            | Self::Cancelled { error, .. }
            | Self::Retrying { error, .. }
            | Self::Parked { error, .. }
            | Self::Crashed { error, .. }
            | Self::Misdirected { error, .. } => Some(error),
            Self::Succeeded { .. } | Self::Released { .. } => None,
        }
    }

    /// What comes of a run that failed so, after so many attempts, this one included.
    pub fn of_failure(failure: &Failure, policy: &Policy, attempts: u32) -> Self {
        let Retention { done, failed } = policy.retention;
        let error = failure.report();
        match failure.next {
            NextStep::Cancelled => Self::Cancelled { error, keep: done },
            NextStep::Park { reason } => Self::Parked { error, reason, keep: done },
            NextStep::Retry { after_ms } if policy.attempts.is_none_or(|most| attempts < most) => {
                let backoff = || policy.backoff.delay(attempts, rand::random());
                Self::Retrying { error, delay: after_ms.map_or_else(backoff, Duration::from_millis), keep: done }
            }
            NextStep::Retry { .. } | NextStep::GiveUp => Self::Failed { error, keep: failed },
        }
    }
}

impl Transitions {
    /// The transitions of `queue`.
    ///
    /// # Errors
    /// If Redis does not answer or keeps this queue in another layout.
    pub async fn of(queues: &Queues, queue: QueueName) -> Result<Self, QueueError> {
        queues.link().check_layout(&queue).await?;
        Ok(Self { link: queues.link().clone(), queue })
    }

    /// The queue.
    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn call<'a>(&self, script: &'a Script) -> Invocation<'a> {
        script.key(meta_key(&self.queue))
    }

    /// Takes up to `want` (at most 1,000) waiting jobs for `worker`. `idle` says that it runs nothing else now, so that it may get a
    /// suspect.
    ///
    /// # Errors
    /// If Redis does not answer; what it had handed out then goes back when the lease runs out.
    pub async fn fetch(&self, worker: &str, want: usize, lease: Duration, idle: bool) -> Result<Fetched, QueueError> {
        self.fetch_of(worker, want, lease, idle, &[]).await
    }

    /// The same; of external jobs those of these tenants and kinds.
    pub(crate) async fn fetch_of(
        &self,
        worker: &str,
        want: usize,
        lease: Duration,
        idle: bool,
        owners: &[String],
    ) -> Result<Fetched, QueueError> {
        let mut call = self.call(&scripts::FETCH);
        call.arg(worker)
            .arg(want.min(STEP_RUNS))
            .arg(milliseconds(lease))
            .arg(u8::from(idle))
            .arg(milliseconds(Retention::default().failed))
            .arg(owners);
        let answer: Vec<Value> = self.link.invoke(&call).await?;
        let [next_due, must_be_idle, jobs @ ..] = answer.as_slice() else {
            return Err(QueueError::Corrupt("the answer to a fetch".into()));
        };
        Ok(Fetched {
            claims: jobs.chunks_exact(7).filter_map(|job| self.claim(job)).collect(),
            next_due: u64::try_from(number(next_due)).ok().map(Duration::from_millis),
            must_be_idle: text(must_be_idle) == "1",
        })
    }

    fn claim(&self, job: &[Value]) -> Option<Claim> {
        let [id, run, attempts, crashes, alone, waited, envelope] = job else { return None };
        Some(Claim {
            id: JobId::from_parts(self.queue.clone(), Uuid::try_parse(text(id)).ok()?),
            run: u64::try_from(number(run)).ok()?,
            attempts: number(attempts).try_into().unwrap_or(u32::MAX),
            crashes: number(crashes).try_into().unwrap_or(u32::MAX),
            alone: text(alone) == "1",
            waited: Duration::from_millis(u64::try_from(number(waited)).unwrap_or(0)),
            envelope: serde_json::from_str(text(envelope)).map_err(|error| error.to_string()),
        })
    }

    /// Renews leases; one answer a run, in order.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn renew(&self, lease: Duration, runs: &[Run]) -> Result<Vec<Lease>, QueueError> {
        let mut answers: Vec<u8> = Vec::with_capacity(runs.len());
        for runs in runs.chunks(STEP_RUNS) {
            let mut call = self.call(&scripts::RENEW);
            call.arg(milliseconds(lease));
            for run in runs {
                call.arg(run.job.hyphenated().to_string()).arg(run.number);
            }
            answers.extend(self.link.invoke::<Vec<u8>>(&call).await?);
        }
        Ok(answers
            .into_iter()
            .map(|answer| match answer {
                0 => Lease::Lost,
                2 => Lease::StopRequested,
                _ => Lease::Renewed,
            })
            .collect())
    }

    /// Writes outcomes; for each run, in order, whether it was written. It is refused if the run is somebody else's or
    /// over.
    ///
    /// # Errors
    /// If Redis does not answer; the outcomes may have been written then.
    pub async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<bool>, QueueError> {
        let mut answers = Vec::with_capacity(settlements.len());
        for step in settlements.chunks(STEP_RUNS) {
            answers.extend(self.settle_step(step).await?);
        }
        Ok(answers)
    }

    async fn settle_step(&self, settlements: &[Settlement]) -> Result<Vec<bool>, QueueError> {
        let (mut settle, mut release) = (self.call(&scripts::SETTLE), self.call(&scripts::RELEASE));
        release.arg(milliseconds(Retention::default().done));
        let (mut settled, mut released) = (0, 0);
        for settlement in settlements {
            let count = if add(settlement, &mut settle, &mut release) { &mut settled } else { &mut released };
            *count += 1;
        }
        let settled: Vec<u8> = if settled > 0 { self.link.invoke(&settle).await? } else { Vec::new() };
        let released: Vec<u8> = if released > 0 { self.link.invoke(&release).await? } else { Vec::new() };

        let (mut settled, mut released) = (settled.into_iter(), released.into_iter());
        let answers = settlements.iter().map(|settlement| match settlement.outcome {
            Outcome::Released { .. } | Outcome::Misdirected { .. } => released.next() == Some(1),
            _ => settled.next() == Some(1),
        });
        Ok(answers.collect())
    }

    /// Takes back up to `limit` (at most 1,000) runs whose lease has run out; gives how many leases were looked at.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn reclaim(&self, limit: u64, lease: Duration) -> Result<u64, QueueError> {
        let lease = milliseconds(lease);
        // Half a lease without a call means that nobody could renew either.
        let gap = (lease / 2).max(2_000);
        let mut call = self.call(&scripts::RECLAIM);
        let Retention { done, failed } = Retention::default();
        call.arg(limit.min(STEP)).arg(lease).arg(gap).arg(milliseconds(failed)).arg(milliseconds(done));
        self.link.invoke(&call).await
    }

    /// Lets up to `limit` (at most 1,000) jobs run whose time has come; gives how many.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn promote(&self, limit: u64) -> Result<u64, QueueError> {
        Ok(self.promote_due(limit).await?.0)
    }

    /// The same, and the time until the next is due.
    pub(crate) async fn promote_due(&self, limit: u64) -> Result<(u64, Option<Duration>), QueueError> {
        let mut call = self.call(&scripts::PROMOTE);
        let (moved, next_due): (u64, i64) = self.link.invoke(call.arg(limit.min(STEP))).await?;
        Ok((moved, u64::try_from(next_due).ok().map(Duration::from_millis)))
    }

    /// What any process may do for all, each second: takes back expired leases, lets due jobs run, fails those that are
    /// too late, trims finished ones.
    pub(crate) async fn keep_house(&self, lease: Duration, kept: (u64, u64)) -> Result<(), QueueError> {
        while self.reclaim(STEP, lease).await? == STEP {}
        while self.promote(STEP).await? == STEP {}
        while self.expire(STEP).await? == STEP {}
        while self.trim(STEP, kept).await? == STEP {}
        Ok(())
    }

    /// Fails up to `limit` (at most 1,000) jobs whose deadline has passed before a run could start; gives how many were
    /// looked at.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn expire(&self, limit: u64) -> Result<u64, QueueError> {
        let mut call = self.call(&scripts::EXPIRE);
        self.link.invoke(call.arg(limit.min(STEP)).arg(milliseconds(Retention::default().failed))).await
    }

    /// Forgets up to `limit` (at most 1,000) finished jobs: those whose time is over, then the oldest above `kept`
    /// (succeeded and cancelled ones, failed ones); gives how many were looked at.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn trim(&self, limit: u64, kept: (u64, u64)) -> Result<u64, QueueError> {
        let mut call = self.call(&scripts::TRIM);
        self.link.invoke(call.arg(limit.min(STEP)).arg(kept.0).arg(kept.1)).await
    }

    /// Records how far runs are (progress as JSON); whether each was recorded. News of an older run is dropped.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn progress(&self, news: &[(Run, String)]) -> Result<Vec<bool>, QueueError> {
        let mut answers = Vec::with_capacity(news.len());
        for news in news.chunks(STEP_RUNS) {
            let mut call = self.call(&scripts::PROGRESS);
            for (run, json) in news {
                call.arg(run.job.hyphenated().to_string()).arg(run.number).arg(json);
            }
            let recorded: Vec<u8> = self.link.invoke(&call).await?;
            answers.extend(recorded.into_iter().map(|answer| answer == 1));
        }
        Ok(answers)
    }

    /// Appends lines to the logs of jobs; for each run, in order, whether they were appended. Lines of an older run are
    /// dropped.
    ///
    /// # Errors
    /// If Redis does not answer or has no memory left; the lines may have been appended then.
    pub async fn log(&self, news: &[(Run, Vec<LogEntry>)]) -> Result<Vec<bool>, QueueError> {
        let mut answers = vec![false; news.len()];
        let mut step = LogStep::new(self);
        for (at, (run, entries)) in news.iter().enumerate() {
            for entries in entries.chunks(LOG_STEP) {
                if step.lines + entries.len() > LOG_STEP {
                    std::mem::replace(&mut step, LogStep::new(self)).send(&self.link, &mut answers).await?;
                }
                step.add(at, *run, entries);
            }
        }
        step.send(&self.link, &mut answers).await?;
        Ok(answers)
    }
}

/// Lines that one script call appends at most: half a megabyte, if they are long.
const LOG_STEP: usize = 200;

/// The lines of one script call.
struct LogStep<'a> {
    call: Invocation<'a>,
    /// Which runs they are of.
    of: Vec<usize>,
    lines: usize,
}

impl LogStep<'_> {
    fn new(transitions: &Transitions) -> Self {
        let mut call = transitions.call(&scripts::LOG);
        call.arg(MAX_LOG_LINES);
        Self { call, of: Vec::new(), lines: 0 }
    }

    fn add(&mut self, at: usize, run: Run, entries: &[LogEntry]) {
        self.call.arg(run.job.hyphenated().to_string()).arg(run.number).arg(entries.len());
        for entry in entries {
            self.call.arg(entry.level().as_str()).arg(entry.text());
        }
        self.of.push(at);
        self.lines += entries.len();
    }

    async fn send(self, link: &Link, answers: &mut [bool]) -> Result<(), QueueError> {
        if self.of.is_empty() {
            return Ok(());
        }
        let appended: Vec<u8> = link.invoke(&self.call).await?;
        for (at, answer) in self.of.into_iter().zip(appended) {
            answers[at] = answer == 1;
        }
        Ok(())
    }
}

/// Adds the arguments of a settlement to the script that writes it; whether that is the first.
fn add(settlement: &Settlement, settle: &mut Invocation<'_>, release: &mut Invocation<'_>) -> bool {
    let mut uuid = Uuid::encode_buffer();
    let id = &*settlement.run.job.hyphenated().encode_lower(&mut uuid);
    let number = settlement.run.number;
    let mut write = |outcome: &str, time: Duration, text: &str, reason: &str| {
        settle.arg(id).arg(number).arg(outcome).arg(milliseconds(time)).arg(text).arg(reason);
    };
    match &settlement.outcome {
        Outcome::Succeeded { result, keep } => write("succeeded", *keep, result, ""),
        Outcome::Failed { error, keep } => write("failed", *keep, &json(error), ""),
        Outcome::Cancelled { error, keep } => write("cancelled", *keep, &json(error), ""),
        Outcome::Retrying { error, delay, keep } => {
            write("retrying", *delay, &json(error), &milliseconds(*keep).to_string());
        }
        Outcome::Parked { error, reason, keep } => write("parked", *keep, &json(error), reason.as_str()),
        Outcome::Crashed { error, delay, keep } => {
            write("crashed", *delay, &json(error), &milliseconds(*keep).to_string());
        }
        Outcome::Released { delay } => {
            release.arg(id).arg(number).arg(milliseconds(*delay)).arg("");
            return false;
        }
        Outcome::Misdirected { error, delay } => {
            release.arg(id).arg(number).arg(milliseconds(*delay)).arg(json(error));
            return false;
        }
    }
    true
}

fn json(error: &ErrorReport) -> String {
    // Strings, numbers and plain enums always become JSON.
    serde_json::to_string(error).unwrap_or_default()
}
