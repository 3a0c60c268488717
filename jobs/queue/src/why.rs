//! Why a job does not run yet: everything that blocks it, read at one moment and put into words.

use std::{collections::HashMap, time::Duration};

use fourmi_model::{
    Awaited, Block, Busy, EstimatedStart, Job, JobId, Knowledge, Limit, LimitState, NoEstimate, QueueName, State, Why,
    WorkerInfo,
};
use jiff::Timestamp;
use redis::Value;

use crate::{
    QueueError, Queues, WorkerName,
    estimate::{Pace, Rival, Turns, estimate, float},
    read::{self, meta_key, priority_number, timestamp},
    registry, scripts,
};

/// Entries of a lane that are searched for the job, at most.
const SEARCHED: u64 = 100_000;

/// Of 15 turns, how many each priority has (see fetch.lua).
const TURNS: [f64; 4] = [8.0, 4.0, 2.0, 1.0];

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
            State::Blocked => blocks.push(self.awaited(&seen).await?),
            State::Waiting => {
                blocks.extend(seen.of_workers());
                blocks.extend(self.limits_reached(&seen).await?);
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
        let (now, hash, envelope, outcome, queue, parent_count, parents, length, ahead, steered, lanes, rivals): Answer =
            redis::from_redis_value(answer)?;
        let alone = hash.contains_key("alone");
        let Some(job) = read::document(id.clone(), (hash, envelope, outcome, None))? else { return Ok(None) };
        let or_more = ahead < 0 && job.state == State::Waiting && length > SEARCHED;
        let (paused, cap, running, pace, started, waiting) = queue;
        let count = |number: Option<i64>| number.and_then(|number| number.try_into().ok()).unwrap_or(0);
        let mut workers = registry::workers(self.link(), id.queue()).await?;
        if *id.queue() == QueueName::external() {
            workers.retain(|worker| WorkerName::is_of(&worker.name, job.tenant.as_ref()));
        }
        Ok(Some(Seen {
            now: timestamp(now).unwrap_or_default(),
            alone,
            job,
            paused: paused.is_some(),
            cap,
            running: count(running),
            waiting: count(waiting),
            pace: Pace::read(&pace.unwrap_or_default(), now, count(started)),
            parent_count,
            parents: parents.iter().filter_map(|id| id.parse().ok()).collect(),
            // Who is not found stands far behind, or will be put at the end.
            ahead: ahead.try_into().unwrap_or(if or_more { SEARCHED } else { length }),
            or_more,
            steered: steered == 1,
            lanes: lanes.max(1),
            rivals,
            workers,
        }))
    }

    /// The jobs that a blocked one waits for; they may be in other queues.
    async fn awaited(&self, seen: &Seen) -> Result<Block, QueueError> {
        let mut ids = seen.parents.clone();
        ids.sort_unstable();
        let mut jobs = Vec::with_capacity(ids.len());
        for job in ids {
            let state = self.get(&job).await?.map(|parent| parent.state);
            jobs.push(Awaited { job, state });
        }
        Ok(Block::BlockedBy { count: seen.parent_count, jobs })
    }

    /// The limits that hold a waiting job back now.
    async fn limits_reached(&self, seen: &Seen) -> Result<Vec<Block>, QueueError> {
        let limits = self.limits_of(&seen.job.id).await?.into_iter();
        Ok(limits.filter_map(|limit| limit_reached(limit, seen.now)).collect())
    }
}

/// Says so of a limit that lets no job start now.
fn limit_reached(state: LimitState, now: Timestamp) -> Option<Block> {
    let Limit { concurrency, rate } = state.limit;
    let held = concurrency.is_some_and(|most| state.running >= most.into());
    let missing = state.tokens.map(|tokens| 1.0 - tokens).filter(|missing| *missing > 0.0);
    let wait =
        missing.zip(rate).and_then(|(missing, rate)| Duration::try_from_secs_f64(missing / rate.per_second()).ok());
    (held || missing.is_some()).then(|| Block::LimitReached {
        limit: state.name,
        concurrency,
        rate,
        running: state.running,
        holders: state.holders,
        until: wait.and_then(|wait| now.checked_add(wait).ok()),
    })
}

/// What `why.lua` answers; see there.
type Answer = (
    u64,
    HashMap<String, String>,
    Option<String>,
    Option<String>,
    Queue,
    u64,
    Vec<String>,
    u64,
    i64,
    u8,
    u64,
    [u64; 4],
);

/// Paused, cap, running jobs, pace, starts, waiting jobs.
type Queue = (Option<String>, Option<u64>, Option<i64>, Option<String>, Option<i64>, Option<i64>);

/// A job and its surroundings at one moment.
struct Seen {
    now: Timestamp,
    job: Job,
    /// Whether it waits for a process that runs nothing else.
    alone: bool,
    paused: bool,
    cap: Option<u64>,
    running: u64,
    waiting: u64,
    pace: Option<Pace>,
    parent_count: u64,
    parents: Vec<JobId>,
    /// Jobs before it in its lane, and whether there are more.
    ahead: u64,
    or_more: bool,
    /// Whether tenants take turns; else there is one lane a priority.
    steered: bool,
    /// Lanes that its tenant has.
    lanes: u64,
    /// By priority: tenants that take turns, or waiting jobs if the queue is not steered.
    rivals: [u64; 4],
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
        if self.alone {
            return Some(Block::Suspect { ahead: self.ahead });
        }
        let lanes = if self.steered {
            (self.rivals.iter().sum::<u64>() + self.lanes).saturating_sub(2)
        } else {
            self.others().filter(|lane| self.rivals[*lane] > 0).count() as u64
        };
        (self.ahead > 0 || lanes > 0).then(|| Block::InLane {
            tenant: self.job.tenant.clone(),
            priority: self.job.priority,
            ahead: self.ahead,
            or_more: self.or_more,
            lanes,
        })
    }

    /// The other priorities, by number.
    fn others(&self) -> impl Iterator<Item = usize> {
        let own = priority_number(self.job.priority);
        (0..TURNS.len()).filter(move |priority| *priority != own)
    }

    fn turns(&self) -> Turns {
        let own = priority_number(self.job.priority);
        let of = |priority: usize| TURNS[priority] / TURNS[own];
        let all: f64 = (0..TURNS.len()).map(of).sum();
        let (rivals, worst) = if self.steered {
            // How many jobs others have is not known: some of all that wait. Lanes of a priority count alike.
            let siblings = float(self.rivals[own].max(1)) * float(self.lanes);
            let filled: f64 = self.others().filter(|lane| self.rivals[*lane] > 0).map(of).sum();
            let turns = siblings * (1.0 + filled) - 1.0;
            (vec![Rival { turns, waiting: self.waiting.saturating_sub(self.ahead + 1) }], siblings * all)
        } else {
            (self.others().map(|lane| Rival { turns: of(lane), waiting: self.rivals[lane] }).collect(), all)
        };
        Turns { ahead: self.ahead, rivals, worst, free: self.free_slots() }
    }

    fn estimate(&self, blocks: &[Block]) -> Result<EstimatedStart, NoEstimate> {
        if let Some(reason) = blocks.iter().find_map(rules_out) {
            return Err(reason);
        }
        let due = self.job.due_at.unwrap_or(self.now);
        estimate(self.now, due, &self.turns(), self.pace).ok_or(NoEstimate::NoRecentStarts)
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
