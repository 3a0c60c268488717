//! Random sequences of operations drive the real scripts and a model of them; after every step the two must agree, and
//! every promise must hold over all keys of the queue.
//!
//! **Time.** Scripts take the time of Redis, which cannot be set. So the test moves what the queue has noted into the
//! past instead (`advance.lua`), by whole hours, while all delays and leases are whole hours too and deadlines half
//! ones: the milliseconds that a sequence really takes never decide anything, and nothing ever sleeps.
//!
//! **Order.** Where several jobs of an index share a moment, Redis decides which is first; the model reads the order
//! from the index as it was before the step.
//!
//! `PROPTEST_CASES` says how many sequences, `PROPTEST_RNG_SEED` which ones; a failure prints the shortest sequence
//! that fails and its seed.

mod operation;
mod reference;
mod snapshot;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use fourmi_model::{
    JobId, JobRecord, Limit, LogEntry, LogLevel, ParkReason, Priority, QueueName, Rate, Retention, State, Submission,
    Unique, UniqueUntil,
};
use fourmi_queue::{
    ActionStep, Cancelled, Consumer, DeadAction, JobFilter, Lease, Outbox, OutboxConfig, Outcome, Pushed, QueueError,
    Queues, Refusal, Retried, Run, Settlement, Transitions,
};
use fourmi_tests::RedisServer;
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner},
};
use redis::Script;
use uuid::Uuid;

use crate::bench::{error, payload, submission};
use operation::{End, KEYS, LIMITS, NewJob, Operation, Until};
use reference::{Answer, Bound, Ended, Number, Reference, Submitted, Taken, limits_of};
use snapshot::Snapshot;

type Checked = Result<(), TestCaseError>;

/// Sequences in an ordinary run: under a minute.
const SEQUENCES: u32 = 4_000;

const HOUR_MS: i64 = 3_600_000;

/// The lease that those who take lost runs back assume: odd, see [`Reference::may_reclaim`].
const RECLAIM_LEASE: i64 = 3;

#[test]
fn random_sequences_of_operations_agree_with_the_model() {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { SEQUENCES };
    let rng_seed = match Config::default().rng_seed {
        RngSeed::Random => RngSeed::Fixed(u64::from_le_bytes(Uuid::new_v4().as_bytes()[..8].try_into().unwrap())),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    let config = Config { cases, rng_seed, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };

    // What is written is looked at at once: a log for a power cut would only cost time.
    let redis = RedisServer::with(&["--appendonly", "no"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let queues = runtime.block_on(Queues::connect(&redis.url())).unwrap();
    let outcome = TestRunner::new(config).run(&operation::sequences(), |operations| {
        runtime.block_on(async {
            let mut world = World::new(&redis, &queues).await;
            for operation in operations {
                world.step(operation).await?;
            }
            Ok(())
        })
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, operations)) => {
            panic!("{reason}\nPROPTEST_RNG_SEED={rng_seed} fails; the shortest such sequence is {operations:#?}")
        }
        Err(error) => panic!("{error}"),
    }
}

/// A queue and its model, side by side.
struct World {
    queues: Queues,
    transitions: Transitions,
    redis: redis::Connection,
    look: Script,
    advance: Script,
    model: Reference,
    /// The queue before the step.
    before: Snapshot,
    /// Jobs that were accepted and runs that were handed out, over or not.
    jobs: Vec<Number>,
    runs: Vec<(Number, u64)>,
    made: Number,
}

fn queue() -> QueueName {
    "test".parse().unwrap()
}

fn id(number: Number) -> JobId {
    JobId::from_parts(queue(), Uuid::from_u128(number.into()))
}

fn number(id: Uuid) -> Number {
    id.as_u128().try_into().unwrap()
}

fn read(id: &str) -> Number {
    number(Uuid::try_parse(id).unwrap())
}

fn run((job, number): (Number, u64)) -> Run {
    Run { job: id(job).uuid(), number }
}

fn hours(hours: i64) -> Duration {
    Duration::from_millis((hours * HOUR_MS).try_into().unwrap())
}

fn failed(error: QueueError) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// The element that is `back` places before the newest.
fn newest<T: Copy>(all: &[T], back: usize) -> Option<T> {
    all.len().checked_sub(1).map(|last| all[last - back % all.len()])
}

impl World {
    async fn new(redis: &RedisServer, queues: &Queues) -> Self {
        let mut redis = redis.connection();
        let () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
        let transitions = Transitions::of(queues, queue()).await.unwrap();
        Self {
            queues: queues.clone(),
            transitions,
            redis,
            look: Script::new(include_str!("snapshot.lua")),
            advance: Script::new(include_str!("advance.lua")),
            model: Reference::default(),
            before: Snapshot::default(),
            jobs: Vec::new(),
            runs: Vec::new(),
            made: 0,
        }
    }

    fn look(&mut self) -> Snapshot {
        Snapshot::take(&self.look, &mut self.redis)
    }

    async fn step(&mut self, operation: Operation) -> Checked {
        match operation {
            Operation::Push(new) => self.push(vec![new], false).await?,
            Operation::PushMany(new) => self.push(new, true).await?,
            Operation::Fetch { worker, want, lease, idle } => self.fetch(worker, want, lease, idle).await?,
            Operation::Renew { runs, lease } => self.renew(&runs, lease).await?,
            Operation::Settle(ends) => self.settle(&ends).await?,
            Operation::Progress { run } => self.progress(run).await?,
            Operation::Log { run, lines } => self.log(run, lines).await?,
            Operation::Cancel { job } => self.cancel(job).await?,
            Operation::Retry { job } => self.retry(job).await?,
            Operation::Unpark { reason } => self.unpark(reason).await?,
            Operation::Dead { jobs, purge } => self.dead(jobs.as_deref(), purge).await?,
            Operation::Promote { limit } => self.promote(limit).await?,
            Operation::Reclaim { limit } => self.reclaim(limit).await?,
            Operation::Expire { limit } => self.expire(limit).await?,
            Operation::Trim { limit, done, dead } => self.trim(limit, done, dead).await?,
            Operation::Record { limit } => self.record(limit).await?,
            Operation::Tick => {
                self.pass(1)?;
                self.reclaim(100).await?;
            }
            Operation::Away { hours } => self.pass(hours)?,
            Operation::Pause(paused) => {
                self.model.paused = paused;
                self.control("paused", paused.then_some(1));
            }
            Operation::Cap(cap) => {
                self.model.cap = cap;
                self.control("cap", cap);
            }
            Operation::Limit(limit) => {
                self.model.limit = limit;
                self.control("limit", limit);
            }
            Operation::Bound { limit, concurrency, burst } => self.bind(LIMITS[limit], concurrency, burst).await?,
        }
        let after = self.look();
        after.check()?;
        after.check_since(&self.before)?;
        self.model.fill_outbox();
        self.compare(&after)?;
        self.before = after;
        Ok(())
    }

    /// Hours pass.
    fn pass(&mut self, hours: i64) -> Checked {
        let () = self.advance.arg(hours * HOUR_MS).invoke(&mut self.redis).unwrap();
        self.model.clock += hours;
        self.before = self.look();
        self.compare(&self.before)
    }

    fn control(&mut self, field: &str, value: Option<usize>) {
        let mut command = redis::cmd(if value.is_some() { "HSET" } else { "HDEL" });
        command.arg("{test}:m").arg(field).arg(value);
        let () = command.query(&mut self.redis).unwrap();
    }

    /// Of a whole queue there is a rate only: how many may run at once is its cap.
    async fn bind(&mut self, name: &'static str, concurrency: Option<usize>, burst: Option<i64>) -> Checked {
        let concurrency = concurrency.filter(|_| name != "queue");
        let rate = burst.map(|burst| Rate { jobs: 1, per_s: 3_600, burst: Some(burst.try_into().unwrap()) });
        let limit = Limit { concurrency: concurrency.map(|jobs| jobs.try_into().unwrap()), rate };
        let limit = Some(limit).filter(|limit| *limit != Limit::default());
        prop_assert!(self.queues.set_limit(&queue(), &name.parse().unwrap(), limit).await.map_err(failed)?);
        match limit {
            Some(_) => self.model.bounds.insert(name, Bound { concurrency, burst }),
            None => self.model.bounds.remove(name),
        };
        Ok(())
    }

    async fn push(&mut self, new: Vec<NewJob>, many: bool) -> Checked {
        let (mut jobs, mut expected) = (Vec::new(), Vec::new());
        let clock = jiff::Timestamp::now();
        for new in new {
            let NewJob { again, priority, delay, parked, deadline, isolated, endless, key, history, keep, .. } = new;
            let known: Vec<Number> = self.model.jobs.keys().copied().collect();
            let number = again.and_then(|back| newest(&known, back)).unwrap_or_else(|| {
                self.made += 1;
                self.made
            });
            let mut submission: Submission = submission();
            submission.priority = Priority::ALL[priority];
            (submission.isolated, submission.endless) = (isolated, endless);
            submission.history = history;
            if let Some((done, failed)) = keep {
                submission.retention = Retention { done: hours(done), failed: hours(failed) };
            }
            submission.not_before = delay.map(|delay| clock + hours(delay));
            submission.parked = parked;
            // In the middle of an hour, so that it is never now.
            submission.envelope.deadline =
                deadline.map(|after| clock + jiff::SignedDuration::from_millis(after * HOUR_MS - HOUR_MS / 2));
            if let Some((name, contents, life)) = key {
                submission.key_life = hours(life);
                submission.idempotency_key = Some(name.to_string());
                submission.envelope.payload = payload(&contents.to_string());
            }
            submission.tenant = new.tenant.map(|tenant| format!("t{tenant}").parse().unwrap());
            submission.limits = new.limits.iter().map(|key| KEYS[*key].parse().unwrap()).collect();
            submission.unique = new.unique.map(|until| Unique {
                until: match until {
                    Until::Started => UniqueUntil::Started,
                    Until::Finished => UniqueUntil::Finished,
                    Until::Hours(hours) => UniqueUntil::ForS(u32::try_from(hours * HOUR_MS / 1_000).unwrap()),
                },
                by: Vec::new(),
            });
            let NewJob { tenant, limits, unique, .. } = new;
            let submitted = Submitted {
                number,
                priority,
                delay,
                parked,
                deadline,
                isolated,
                endless,
                key,
                history,
                keep,
                tenant,
                limits,
                unique,
            };
            let answer = self.model.push(&submitted);
            if answer == Answer::Accepted {
                self.jobs.push(number);
            }
            expected.push(match answer {
                Answer::Accepted => Ok((id(number), false, false)),
                Answer::Existing(other) => Ok((id(other), true, false)),
                Answer::Like(other) => Ok((id(other), true, true)),
                Answer::Conflict(other) => Err(Refusal::IdempotencyConflict(id(other))),
                Answer::Full => Err(Refusal::QueueFull { retry_after: Duration::from_secs(5) }),
            });
            jobs.push((id(number), submission));
        }
        let answers = if many {
            self.queues.push_many(&queue(), &jobs).await.map_err(failed)?
        } else {
            let (id, submission) = jobs.remove(0);
            vec![self.queues.push(id, submission).await.map_err(failed)?]
        };
        let said = |pushed: Pushed| (pushed.id.clone(), pushed.existing(), pushed.is_like);
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.map(said)).collect();
        prop_assert_eq!(answers, expected);
        Ok(())
    }

    async fn fetch(&mut self, worker: u8, want: usize, lease: i64, idle: bool) -> Checked {
        let name = format!("w{worker}");
        let fetched = self.transitions.fetch(&name, want, hours(lease), idle).await.map_err(failed)?;
        for number in self.due("later", 200) {
            self.model.wait(number, false);
        }
        let after = self.look();

        let running = self.model.in_state(State::Running);
        let room = self.model.cap.map_or(want, |cap| want.min(cap.saturating_sub(running)));
        let room = room.min(self.model.room_under("queue"));
        let (mut started, mut must_be_idle) = (Vec::new(), false);
        if !self.model.paused && room > 0 {
            must_be_idle = self.model.volunteers(worker, lease, idle);
            if idle {
                started.extend(self.model.take_suspect(worker, lease));
            }
            if !must_be_idle && started.is_empty() {
                started = self.fetch_from_lanes(&after, worker, lease)?;
                prop_assert!(started.len() <= room, "more jobs than there was room for");
                prop_assert!(started.len() == room || self.all_are_held_back(), "a slot is free and a job could start");
            }
            for _ in &started {
                self.model.spend("queue");
            }
        }
        prop_assert_eq!(fetched.must_be_idle, must_be_idle);

        let mut claimed = Vec::new();
        for claim in &fetched.claims {
            let number = number(claim.id.uuid());
            prop_assert!(started.contains(&number) && !claimed.contains(&number), "{number} was not to be fetched");
            let job = &self.model.jobs[&number];
            prop_assert_eq!(
                (claim.run, claim.attempts, claim.crashes, claim.alone),
                (job.run, job.attempts, job.crashes, job.alone)
            );
            prop_assert!(claim.envelope.is_ok());
            claimed.push(number);
            self.runs.push((number, claim.run));
        }
        prop_assert_eq!(claimed.len(), started.len());
        let next_due = fetched.next_due.map(|due| whole_hours(due.as_millis().try_into().unwrap()));
        let next_look = after.zset("asleep").into_iter().map(|(_, time)| whole_hours(time - after.now).max(0)).min();
        let next = [self.model.next_due(), next_look].into_iter().flatten().min();
        prop_assert_eq!(next_due, next, "when the next job is due, or the next limit may have room");
        Ok(())
    }

    /// Whether every lane that has jobs has a limit without room.
    fn all_are_held_back(&self) -> bool {
        let mut lanes = self.model.lanes.iter().filter(|(_, jobs)| !jobs.is_empty());
        lanes.all(|(lane, _)| limits_of(lane).any(|name| self.model.room_under(name) == 0))
    }

    /// Lanes are first in, first out: what a fetch has taken is the front of each. Strays stand at the end of the lane that
    /// is theirs, unless that had its turn after them.
    fn fetch_from_lanes(&mut self, after: &Snapshot, worker: u8, lease: i64) -> Result<Vec<Number>, TestCaseError> {
        let under = |model: &Reference| -> HashMap<&str, usize> {
            LIMITS.into_iter().map(|name| (name, model.running_under(name))).collect()
        };
        let before = under(&self.model);
        let mut started = Vec::new();
        let (mut strays, mut arrived) = (Vec::new(), BTreeSet::new());
        let known: Vec<String> = self.model.lanes.keys().cloned().chain(after.lanes()).collect();
        for lane in known.into_iter().collect::<BTreeSet<_>>() {
            let was = self.model.lanes.remove(&lane).unwrap_or_default();
            let is: Vec<Number> = after.lane(&lane).iter().map(|id| read(id)).collect();
            let taken = (0..=was.len()).find(|taken| is.starts_with(&was[*taken..])).unwrap_or(was.len());
            arrived.extend(is[was.len() - taken..].iter().map(|number| (*number, lane.clone())));
            self.model.lanes.insert(lane.clone(), is);
            for number in &was[..taken] {
                match self.model.take(*number, Some(&lane), worker, lease) {
                    Taken::Started => started.push(*number),
                    Taken::Stray(own) => strays.push((*number, own)),
                    Taken::Skipped => {}
                }
            }
        }
        for (number, own) in strays {
            if arrived.remove(&(number, own.clone())) {
                continue;
            }
            let taken = self.model.take(number, Some(&own), worker, lease);
            prop_assert_eq!(taken, Taken::Started, "job {} strayed and is not in {:?}", number, own);
            started.push(number);
        }
        prop_assert!(arrived.is_empty(), "{arrived:?} have come into lanes");
        self.model.lanes.retain(|_, jobs| !jobs.is_empty());
        for (name, now) in under(&self.model) {
            let most = self.model.bound(name).and_then(|bound| bound.concurrency);
            prop_assert!(now <= before[name].max(most.unwrap_or(usize::MAX)), "{now} run under {name}");
        }
        Ok(started)
    }

    /// Jobs of an index that are due, in the order of the index.
    fn due(&self, index: &str, limit: u64) -> Vec<Number> {
        let order: Vec<Number> = self.before.zset(index).into_iter().map(|(id, _)| read(id)).collect();
        self.model.due(&order, limit)
    }

    async fn renew(&mut self, picks: &[usize], lease: i64) -> Checked {
        let mut runs: Vec<_> = picks.iter().filter_map(|back| newest(&self.runs, *back)).collect();
        runs.dedup();
        let asked: Vec<Run> = runs.iter().copied().map(run).collect();
        let answers = self.transitions.renew(hours(lease), &asked).await.map_err(failed)?;
        let expected: Vec<Lease> = runs
            .into_iter()
            .map(|(number, run)| {
                if !self.model.holds(number, run) {
                    return Lease::Lost;
                }
                let due = self.model.clock + lease;
                let job = self.model.job(number);
                job.due = due;
                if job.cancel { Lease::StopRequested } else { Lease::Renewed }
            })
            .collect();
        prop_assert_eq!(answers, expected);
        Ok(())
    }

    async fn settle(&mut self, ends: &[(usize, End)]) -> Checked {
        let ends: Vec<_> = ends.iter().filter_map(|(back, end)| Some((newest(&self.runs, *back)?, end))).collect();
        let settlements: Vec<_> =
            ends.iter().map(|(of, end)| Settlement { run: run(*of), outcome: outcome(end) }).collect();
        let answers = self.transitions.settle(&settlements).await.map_err(failed)?;
        // What is given back is written after what is settled.
        let mut expected = vec![false; ends.len()];
        for released in [false, true] {
            for (n, (of, end)) in ends.iter().enumerate() {
                if matches!(end, End::Released { .. } | End::Misdirected { .. }) == released {
                    expected[n] = self.settle_in_model(*of, end);
                }
            }
        }
        prop_assert_eq!(answers, expected);
        Ok(())
    }

    fn settle_in_model(&mut self, (number, run): (Number, u64), end: &End) -> bool {
        if !self.model.holds(number, run) {
            return false;
        }
        let clock = self.model.clock;
        if let End::Released { delay } | End::Misdirected { delay } = end {
            let job = self.model.job(number);
            if matches!(end, End::Misdirected { .. }) {
                job.outcome = Some("busy".into());
            }
            job.attempts -= 1;
            if job.cancel {
                self.model.end_as_its_kind_says(number, State::Cancelled);
            } else if *delay > 0 {
                (job.state, job.due) = (State::Scheduled, clock + delay);
            } else {
                self.model.wait(number, true);
            }
            return true;
        }

        let job = self.model.job(number);
        job.alone = false;
        job.outcome = Some("busy".into());
        if !matches!(end, End::Succeeded { .. }) {
            job.tries.push(run);
        }
        match *end {
            End::Succeeded { result, keep } => {
                job.outcome = result.then(|| "{\"ok\":true}".into());
                self.model.end(number, State::Succeeded, keep);
            }
            End::Failed { keep } => self.model.end(number, State::Failed, keep),
            End::Cancelled { keep } => self.model.end(number, State::Cancelled, keep),
            End::Retrying { keep, .. } | End::Parked { keep, .. } if job.cancel => {
                self.model.end(number, State::Cancelled, keep);
            }
            End::Parked { reason, .. } => {
                (job.state, job.reason) = (State::Parked, reason.as_str());
                job.attempts -= 1;
            }
            End::Retrying { delay, .. } => (job.state, job.due) = (State::Retrying, clock + delay),
            End::Crashed { delay, keep } => {
                job.crash_after(clock - job.started);
                job.attempts -= 1;
                if job.crashes >= 3 {
                    job.outcome = Some("crashed".into());
                    self.model.end(number, State::Failed, keep);
                } else if job.cancel {
                    self.model.end(number, State::Cancelled, keep);
                } else {
                    (job.state, job.due) = (State::Retrying, clock + delay);
                }
            }
            End::Released { .. } | End::Misdirected { .. } => {}
        }
        true
    }

    async fn progress(&mut self, back: usize) -> Checked {
        let Some(of) = newest(&self.runs, back) else { return Ok(()) };
        let news = [(run(of), r#"{"stage":"x","percent":1}"#.to_owned())];
        let recorded = self.transitions.progress(&news).await.map_err(failed)?;
        let holds = self.model.holds(of.0, of.1);
        prop_assert_eq!(recorded, [holds]);
        if holds {
            self.model.job(of.0).progress = Some(of.1);
        }
        Ok(())
    }

    async fn cancel(&mut self, back: usize) -> Checked {
        let Some(number) = newest(&self.jobs, back) else { return Ok(()) };
        let answer = self.queues.cancel(&id(number)).await.map_err(failed)?;
        let expected = match self.model.cancel(number) {
            None => Cancelled::Unknown,
            Some(State::Running) => Cancelled::Requested,
            Some(state) if state.is_final() => Cancelled::AlreadyOver(state),
            Some(_) => Cancelled::Now,
        };
        prop_assert_eq!(answer, expected);
        Ok(())
    }

    async fn retry(&mut self, back: usize) -> Checked {
        let Some(number) = newest(&self.jobs, back) else { return Ok(()) };
        let answer = self.queues.retry(&id(number)).await.map_err(failed)?;
        let expected = match self.model.retry(number) {
            None => Retried::Unknown,
            Some((state, false)) => Retried::NotPossible(state),
            Some(_) => Retried::Waiting,
        };
        prop_assert_eq!(answer, expected);
        Ok(())
    }

    async fn log(&mut self, back: usize, lines: usize) -> Checked {
        let Some(of) = newest(&self.runs, back) else { return Ok(()) };
        let news = [(run(of), vec![LogEntry::new(LogLevel::Info, "a line"); lines])];
        let appended = self.transitions.log(&news).await.map_err(failed)?;
        let holds = self.model.holds(of.0, of.1);
        prop_assert_eq!(appended, [holds]);
        if holds {
            self.model.job(of.0).lines += lines;
        }
        Ok(())
    }

    async fn dead(&mut self, picks: Option<&[usize]>, purge: bool) -> Checked {
        let action = if purge { DeadAction::Purge } else { DeadAction::Replay };
        let (step, mut meant) = match picks {
            Some(picks) => {
                let mut picked: Vec<_> = picks.iter().filter_map(|back| newest(&self.jobs, *back)).collect();
                let ids: Vec<JobId> = picked.iter().copied().map(id).collect();
                let step = self.queues.dead_jobs(&queue(), action, &ids).await;
                picked.sort_unstable();
                picked.dedup();
                (step, picked)
            }
            None => {
                let step = self.queues.dead_step(&queue(), action, &JobFilter::default(), None).await;
                (step, self.before.zset("dead").into_iter().map(|(id, _)| read(id)).collect())
            }
        };
        meant.retain(|number| self.model.jobs.get(number).is_some_and(|job| job.state == State::Failed));
        let (matched, mut done) = (meant.len() as u64, 0);
        let mut deleted: Vec<_> = if purge { meant.iter().copied().map(id).collect() } else { Vec::new() };
        deleted.sort();
        for number in meant {
            let goes = if purge {
                self.model.jobs.remove(&number).is_some()
            } else {
                self.model.retry(number).is_some_and(|(_, waits)| waits)
            };
            done += u64::from(goes);
        }
        let expected = ActionStep { matched, done, deleted, next: None };
        let mut step = step.map_err(failed)?;
        step.deleted.sort();
        prop_assert_eq!(step, expected);
        Ok(())
    }

    async fn unpark(&mut self, reason: ParkReason) -> Checked {
        let moved = self.queues.unpark(&queue(), reason, None).await.map_err(failed)?.released;
        let parked: Vec<Number> =
            self.before.zset(&format!("parked:{reason}")).into_iter().map(|(id, _)| read(id)).collect();
        prop_assert_eq!(moved, parked.len() as u64);
        for number in parked {
            self.model.wait(number, false);
        }
        Ok(())
    }

    async fn promote(&mut self, limit: u64) -> Checked {
        let due = self.due("later", limit);
        let moved = self.transitions.promote(limit).await.map_err(failed)?;
        prop_assert_eq!(moved, due.len() as u64);
        for number in due {
            self.model.wait(number, false);
        }
        Ok(())
    }

    async fn reclaim(&mut self, limit: u64) -> Checked {
        let looked_at = self.transitions.reclaim(limit, hours(RECLAIM_LEASE)).await.map_err(failed)?;
        let lost = if self.model.may_reclaim(RECLAIM_LEASE) { self.due("lease", limit) } else { Vec::new() };
        prop_assert_eq!(looked_at, lost.len() as u64);
        for number in lost {
            self.model.reclaim(number, RECLAIM_LEASE);
        }
        Ok(())
    }

    async fn expire(&mut self, limit: u64) -> Checked {
        let looked_at = self.transitions.expire(limit).await.map_err(failed)?;
        let late = self.before.zset("expiry").into_iter().map(|(id, _)| read(id));
        let late: Vec<Number> = late.filter(|number| self.model.jobs[number].expiry <= self.model.clock).collect();
        let late = &late[..late.len().min(limit.try_into().unwrap())];
        prop_assert_eq!(looked_at, late.len() as u64);
        for number in late {
            self.model.expire(*number);
        }
        Ok(())
    }

    /// The first call opens the outbox.
    async fn record(&mut self, limit: u64) -> Checked {
        let outbox =
            Outbox::of(&self.queues, queue(), Consumer::Records, OutboxConfig::default()).await.map_err(failed)?;
        let batch = outbox.take(limit).await.map_err(failed)?;
        outbox.acknowledge(&batch).await.map_err(failed)?;
        self.model.consumed = true;
        let taken = outbox_of(&self.before).into_iter().take(limit.try_into().unwrap()).collect::<Vec<_>>();
        let records = batch.records.iter().map(|JobRecord { job, runs, .. }| {
            let outcome = job.result.as_ref().map(ToString::to_string);
            let outcome = outcome.or_else(|| job.error.as_ref().map(|error| error.code.clone()));
            let tries = runs.iter().map(|run| run.run).collect();
            (number(job.id.uuid()), job.state.to_string(), job.run, outcome, tries)
        });
        prop_assert_eq!(&records.collect::<Vec<_>>(), &taken, "the oldest entries");
        for entry in taken {
            let at = self.model.outbox.iter().position(|other| *other == entry).unwrap();
            self.model.outbox.remove(at);
        }
        Ok(())
    }

    /// Which of the two indexes is trimmed first is not said; of each, its front goes, and no more than has to.
    async fn trim(&mut self, limit: u64, done: u64, dead: u64) -> Checked {
        let looked_at = self.transitions.trim(limit, (done, dead)).await.map_err(failed)?;
        let after = self.look();
        let mut gone = 0;
        for (index, most) in [("done", done), ("dead", dead)] {
            let order: Vec<Number> = self.before.zset(index).into_iter().map(|(id, _)| read(id)).collect();
            let left = after.zset(index).len();
            let removed = &order[..order.len() - left];
            let excess = order.len().saturating_sub(most.try_into().unwrap());
            let due = self.model.due(&order, u64::MAX).len().max(excess);
            prop_assert!(removed.len() <= due, "{index}: {removed:?} are gone, {due} had to go");
            prop_assert!(looked_at == limit || removed.len() == due, "{index}: {due} had to go");
            gone += removed.len() as u64;
            for number in removed {
                self.model.jobs.remove(number);
            }
        }
        prop_assert_eq!(looked_at, gone);
        Ok(())
    }

    /// The queue is what the model says.
    fn compare(&self, real: &Snapshot) -> Checked {
        let jobs = real.jobs();
        let there: Vec<Number> = jobs.keys().map(|id| read(id)).collect();
        prop_assert_eq!(&there, &self.model.jobs.keys().copied().collect::<Vec<_>>(), "the jobs");
        for (name, job) in &jobs {
            let expected = &self.model.jobs[&read(name)];
            let text = |field: &str| job.get(field).copied().unwrap_or("0");
            let flags = ["iso", "endless", "alone", "left", "cancel", "deadline"].map(|field| job.contains_key(field));
            let expected_flags = [
                expected.isolated,
                expected.endless,
                expected.alone,
                expected.left,
                expected.cancel,
                expected.deadline.is_some(),
            ];
            let numbers = ["run", "att", "crash"].map(|field| text(field).parse::<u64>().unwrap());
            let priority = job.get("prio").map_or(2, |number| number.parse().unwrap());
            let expected_numbers = [expected.run, expected.attempts.into(), expected.crashes.into()];
            prop_assert_eq!(
                (text("state"), numbers, priority, flags),
                (expected.state.as_str(), expected_numbers, expected.priority, expected_flags),
                "job {}: state; run, attempts, crashes; priority; isolated, endless, alone, left, cancel, deadline",
                read(name)
            );
            if expected.state == State::Running {
                prop_assert_eq!(text("worker"), format!("w{}", expected.worker));
            }
            if expected.state == State::Parked {
                prop_assert_eq!(text("reason"), expected.reason);
            }
            let outcome = real.text(&format!("r:{name}")).map(code);
            prop_assert_eq!(&outcome, &expected.outcome, "the outcome of job {}", read(name));
            let progress = real.text(&format!("p:{name}")).and_then(|line| line.split(' ').next()?.parse().ok());
            prop_assert_eq!(progress, expected.progress, "the progress of job {}", read(name));
            let lines = (text("log").parse::<usize>().unwrap(), real.list(&format!("log:{name}")).len());
            prop_assert_eq!(lines, (expected.lines, expected.lines), "the log of job {}", read(name));
            let first = |line: &String| line.split(' ').next().unwrap().parse::<u64>().unwrap();
            let tries: Vec<u64> = real.list(&format!("tries:{name}")).iter().map(first).collect();
            prop_assert_eq!(&tries, &expected.tries, "the failed runs of job {}", read(name));
        }
        for (index, when) in [("later", false), ("lease", false), ("done", false), ("dead", false), ("expiry", true)] {
            for (name, time) in real.zset(index) {
                let expected = &self.model.jobs[&read(name)];
                let due = if when { expected.expiry } else { expected.due } - self.model.clock;
                prop_assert_eq!(whole_hours(time - real.now), due, "when job {} is due in {}", read(name), index);
            }
        }
        let suspects: Vec<Number> = real.list("suspects").iter().map(|id| read(id)).collect();
        prop_assert_eq!(&suspects, &self.model.suspects, "the suspects");
        let lanes = real.lanes().into_iter().map(|lane| {
            let jobs: Vec<Number> = real.lane(&lane).iter().map(|id| read(id)).collect();
            (lane, jobs)
        });
        let expected = self.model.lanes.iter().filter(|(_, jobs)| !jobs.is_empty());
        let expected = expected.map(|(lane, jobs)| (lane.clone(), jobs.clone()));
        prop_assert_eq!(lanes.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "the lanes");
        for name in LIMITS {
            let held = real.list(&format!("hold:{name}")).len();
            prop_assert_eq!(held, self.model.running_under(name), "how many run under {}", name);
            self.somebody_will_wake_lanes(real, name)?;
        }
        let (mut outbox, mut expected) = (outbox_of(real), self.model.outbox.clone());
        outbox.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(outbox, expected, "the outbox");
        Ok(())
    }
}

impl World {
    /// No lane sleeps for ever: its limit has no room, or a lane under it has its turn, or it is looked at in time.
    fn somebody_will_wake_lanes(&self, real: &Snapshot, name: &str) -> Checked {
        let sleeping = real.zset(&format!("sleep:{name}"));
        if sleeping.is_empty() {
            return Ok(());
        }
        let look = real.zset("asleep").into_iter().find(|(limit, _)| *limit == name);
        prop_assert!(look.is_some(), "nobody looks at {name} again");
        let in_time = look.is_some_and(|(_, time)| time - real.now <= HOUR_MS);
        let bound = self.model.bound(name);
        let full = bound.and_then(|bound| bound.concurrency).is_some_and(|most| self.model.running_under(name) >= most);
        if full {
            return Ok(());
        }
        if self.model.room_under(name) == 0 {
            prop_assert!(in_time, "{name} has its next token in an hour, and nobody looks then");
            return Ok(());
        }
        let due = look.is_some_and(|(_, time)| time <= real.now);
        let turns = real.lanes_in_turn().iter().any(|lane| limits_of(lane).any(|limit| limit == name));
        prop_assert!(due || turns, "{name} has room, and all its lanes sleep");
        Ok(())
    }
}

/// The entries of the outbox, oldest first.
fn outbox_of(real: &Snapshot) -> Vec<Ended> {
    let entries = real.stream("out").into_iter().map(|entry| {
        let text = |name: &str| entry.get(name).copied().unwrap_or("");
        let outcome = Some(text("outcome")).filter(|text| !text.is_empty()).map(code);
        let run = |line: &str| line.split(' ').next().unwrap().parse::<u64>().unwrap();
        let hash: Vec<&str> = entry["hash"].lines().collect();
        let hash: HashMap<&str, &str> = hash.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let newest = hash.get("run").map_or(0, |run| run.parse().unwrap());
        (read(entry["id"]), hash["state"].to_owned(), newest, outcome, text("tries").lines().map(run).collect())
    });
    entries.collect()
}

/// Less than an hour has really passed since the time was noted.
fn whole_hours(ms: i64) -> i64 {
    ms.div_euclid(HOUR_MS) + i64::from(ms.rem_euclid(HOUR_MS) > 0)
}

/// The code of an error, or a result as it is.
fn code(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    value["code"].as_str().unwrap_or(json).to_owned()
}

fn outcome(end: &End) -> Outcome {
    let error = error();
    match *end {
        End::Succeeded { result, keep } => Outcome::Succeeded {
            result: if result { "{\"ok\":true}".into() } else { String::new() },
            keep: hours(keep),
        },
        End::Failed { keep } => Outcome::Failed { error, keep: hours(keep) },
        End::Cancelled { keep } => Outcome::Cancelled { error, keep: hours(keep) },
        End::Retrying { delay, keep } => Outcome::Retrying { error, delay: hours(delay), keep: hours(keep) },
        End::Parked { reason, keep } => Outcome::Parked { error, reason, keep: hours(keep) },
        End::Crashed { delay, keep } => Outcome::Crashed { error, delay: hours(delay), keep: hours(keep) },
        End::Released { delay } => Outcome::Released { delay: hours(delay) },
        End::Misdirected { delay } => Outcome::Misdirected { error, delay: hours(delay) },
    }
}
