//! Why a job does not run yet: everything that blocks it, read at one moment and put into words.

use std::collections::HashMap;

use fourmi_model::{Block, Busy, Job, JobId, Knowledge, NoEstimate, Parent, State, Why, WorkerInfo};
use jiff::Timestamp;
use redis::Value;

use crate::{
    QueueError, Queues,
    estimate::{Pace, Turns, estimate},
    read::{self, meta_key, priority_number, timestamp},
    registry, scripts,
};

/// Entries of a lane that are searched for the job, at most.
const SEARCHED: u64 = 100_000;

/// Jobs and processes that are named, at most.
const NAMED: usize = 20;

impl Queues {
    /// What keeps a job from running, the most decisive first, and when it may start; `None` if there is no such job.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn why(&self, id: &JobId) -> Result<Option<Why>, QueueError> {
        let Some(seen) = self.look(id).await? else { return Ok(None) };
        let mut blocks = seen.own();
        match seen.job.state {
            State::Blocked => blocks.push(self.parents(&seen).await?),
            State::Waiting => {
                blocks.extend(seen.of_workers());
                blocks.extend(self.limits(&seen.job).await?);
                blocks.extend(seen.of_lane());
            }
            State::Scheduled | State::Retrying | State::Parked => blocks.extend(seen.no_worker()),
            _ => {}
        }
        let estimated = seen.estimate(&blocks);
        Ok(Some(Why {
            job: id.clone(),
            state: seen.job.state,
            estimated_start: estimated.ok(),
            no_estimate: estimated.err(),
            blocks,
        }))
    }

    async fn look(&self, id: &JobId) -> Result<Option<Seen>, QueueError> {
        let mut call = scripts::WHY.key(meta_key(id.queue()));
        call.arg(id.uuid().hyphenated().to_string()).arg(SEARCHED).arg(NAMED);
        let answer: Value = self.link().invoke(&call).await?;
        if matches!(&answer, Value::Array(parts) if parts.is_empty()) {
            return Ok(None);
        }
        let (now, hash, envelope, outcome, queue, parent_count, parents, ahead, lengths): Answer =
            redis::from_redis_value(answer)?;
        let Some(job) = read::document(id.clone(), (hash.clone(), envelope, outcome, None))? else { return Ok(None) };
        let (paused, cap, running, pace, started) = queue;
        let started = started.and_then(|count| count.try_into().ok()).unwrap_or(0);
        Ok(Some(Seen {
            now: timestamp(now).unwrap_or_default(),
            alone: hash.contains_key("alone"),
            job,
            paused: paused.is_some(),
            cap,
            running: running.and_then(|count| count.try_into().ok()).unwrap_or(0),
            pace: Pace::read(&pace.unwrap_or_default(), now, started),
            parent_count,
            parents: parents.iter().filter_map(|id| id.parse().ok()).collect(),
            ahead: ahead.try_into().ok(),
            lengths,
            workers: registry::workers(self.link(), id.queue()).await?,
        }))
    }

    /// The jobs that a blocked one waits for; they may be in other queues.
    async fn parents(&self, seen: &Seen) -> Result<Block, QueueError> {
        let mut ids = seen.parents.clone();
        ids.sort_unstable();
        let mut jobs = Vec::with_capacity(ids.len());
        for job in ids {
            let state = self.get(&job).await?.map(|parent| parent.state);
            jobs.push(Parent { job, state });
        }
        Ok(Block::BlockedBy { count: seen.parent_count, jobs })
    }

    /// The limits of a waiting job's own that hold it back now.
    #[expect(clippy::unused_async, reason = "limits are read from Redis")]
    async fn limits(&self, _job: &Job) -> Result<Vec<Block>, QueueError> {
        Ok(Vec::new())
    }
}

/// Time; hash, envelope, result or error of the job; paused, cap, running, pace and starts of the queue; number of parents,
/// some of them; place in the lane, lengths of the lanes.
type Answer = (
    u64,
    HashMap<String, String>,
    Option<String>,
    Option<String>,
    (Option<String>, Option<u64>, Option<i64>, Option<String>, Option<i64>),
    u64,
    Vec<String>,
    i64,
    [u64; 4],
);

/// A job and its surroundings at one moment.
struct Seen {
    now: Timestamp,
    job: Job,
    /// Whether it waits for a process that runs nothing else.
    alone: bool,
    paused: bool,
    cap: Option<u64>,
    running: u64,
    pace: Option<Pace>,
    parent_count: u64,
    parents: Vec<JobId>,
    /// Jobs before it in its lane; `None` if it was not found.
    ahead: Option<u64>,
    /// How many jobs wait, by priority.
    lengths: [u64; 4],
    workers: Vec<WorkerInfo>,
}

impl Seen {
    /// What the job's own state, and its queue, say.
    fn own(&self) -> Vec<Block> {
        let job = &self.job;
        let until = job.due_at.unwrap_or(self.now);
        let own = match job.state {
            State::Succeeded | State::Failed | State::Cancelled => return vec![Block::Finished],
            State::Running => {
                let worker = job.worker.clone().unwrap_or_default();
                return vec![Block::Running { worker, since: job.started_at.unwrap_or(self.now) }];
            }
            State::Scheduled => Some(Block::NotDue { until }),
            State::Retrying => Some(Block::Retrying { until, error: job.error.clone() }),
            State::Parked => job.parked_reason.map(|parked_reason| Block::Parked {
                parked_reason,
                released_by: parked_reason.released_by().to_owned(),
            }),
            State::Blocked | State::Waiting => None,
        };
        self.paused.then_some(Block::Paused).into_iter().chain(own).collect()
    }

    /// The processes that fetch jobs and know this one's kind.
    fn able(&self) -> impl Iterator<Item = &WorkerInfo> {
        let fetching = self.workers.iter().filter(|worker| !worker.draining);
        fetching.filter(|worker| worker.knows(&self.job.kind, self.job.schema_version))
    }

    fn free_slots(&self) -> u64 {
        let free: u64 = self.able().map(|worker| u64::from(worker.slots.saturating_sub(worker.busy))).sum();
        self.cap.map_or(free, |cap| free.min(cap.saturating_sub(self.running)))
    }

    fn no_worker(&self) -> Option<Block> {
        let mut workers: Vec<_> = self.workers.iter().filter(|worker| !worker.draining).collect();
        workers.truncate(NAMED);
        let knowledge = workers.into_iter().map(|worker| Knowledge {
            worker: worker.name.clone(),
            schema_version: worker.kinds.get(&self.job.kind).copied(),
        });
        self.able().next().is_none().then(|| Block::NoWorker {
            kind: self.job.kind.clone(),
            schema_version: self.job.schema_version,
            workers: knowledge.collect(),
        })
    }

    /// What the worker processes, and how many jobs may run, say to a waiting job.
    fn of_workers(&self) -> Vec<Block> {
        if let Some(none) = self.no_worker() {
            return vec![none];
        }
        let cap = self.cap.filter(|cap| self.running >= *cap);
        let mut blocks: Vec<_> = cap.map(|cap| Block::CapReached { cap, running: self.running }).into_iter().collect();
        if self.able().all(|worker| worker.busy >= worker.slots) {
            let slots = self.able().map(|worker| u64::from(worker.slots)).sum();
            let busy =
                self.able().map(|worker| Busy { worker: worker.name.clone(), slots: worker.slots, busy: worker.busy });
            blocks.push(Block::NoFreeSlot { slots, workers: busy.take(NAMED).collect() });
        }
        blocks
    }

    /// What a waiting job's place says.
    fn of_lane(&self) -> Option<Block> {
        let ahead = self.ahead.unwrap_or(SEARCHED);
        if self.alone {
            return Some(Block::Suspect { ahead });
        }
        let own = priority_number(self.job.priority);
        let others = self.lengths.iter().enumerate().filter(|(lane, length)| *lane != own && **length > 0);
        let lanes = others.count() as u64;
        (ahead > 0 || lanes > 0).then_some(Block::InLane {
            tenant: None,
            priority: self.job.priority,
            ahead,
            or_more: self.ahead.is_none(),
            lanes,
        })
    }

    fn estimate(&self, blocks: &[Block]) -> Result<fourmi_model::EstimatedStart, NoEstimate> {
        match blocks.iter().find_map(rules_out) {
            Some(reason) => Err(reason),
            None => {
                let own = priority_number(self.job.priority);
                // Who is not in a lane yet will be at its end.
                let behind_all = if self.job.state == State::Waiting { SEARCHED } else { 0 };
                let ahead = self.ahead.unwrap_or(self.lengths[own].max(behind_all));
                let turns =
                    Turns { priority: self.job.priority, ahead, lengths: self.lengths, free: self.free_slots() };
                let due = self.job.due_at.unwrap_or(self.now);
                estimate(self.now, due, turns, self.pace).ok_or(NoEstimate::NoRecentStarts)
            }
        }
    }
}

/// Why nobody can tell when a job starts that this blocks.
fn rules_out(block: &Block) -> Option<NoEstimate> {
    match block {
        Block::Finished => Some(NoEstimate::Finished),
        Block::Running { .. } => Some(NoEstimate::Started),
        Block::Paused => Some(NoEstimate::Paused),
        Block::BlockedBy { .. } => Some(NoEstimate::Blocked),
        Block::Parked { .. } => Some(NoEstimate::Parked),
        Block::NoWorker { .. } => Some(NoEstimate::NoWorker),
        Block::LimitReached { .. } => Some(NoEstimate::Limited),
        Block::Suspect { .. } => Some(NoEstimate::Suspect),
        _ => None,
    }
}
