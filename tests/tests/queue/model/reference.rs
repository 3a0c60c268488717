//! What a queue is, in the plainest words: the scripts must agree with it.

use std::collections::BTreeMap;

use fourmi_model::{History, State};

/// How long a cancelled and a failed job is kept when no run says it: a day and thirty days.
const KEEP_DONE: i64 = 24;
const KEEP_DEAD: i64 = 30 * 24;

/// How long an idempotency key is remembered.
const KEY_LIFE: i64 = 24;

/// The number of a job, in the order in which they were made.
pub(super) type Number = u64;

/// Times are in hours of the test's clock.
#[derive(Debug, Default)]
pub(super) struct Reference {
    pub(super) clock: i64,
    pub(super) jobs: BTreeMap<Number, Job>,
    /// By priority, with the entries that cancelled jobs have left there.
    pub(super) lanes: [Vec<Number>; 4],
    pub(super) suspects: Vec<Number>,
    keys: BTreeMap<u8, Key>,
    /// When somebody last looked for lost leases, and until when nothing is taken back.
    reclaimed: Option<i64>,
    grace: i64,
    /// Who makes itself idle for a suspect, and until when.
    volunteer: Option<(u8, i64)>,
    pub(super) paused: bool,
    pub(super) cap: Option<usize>,
    pub(super) limit: Option<usize>,
    /// Whether somebody consumes the outbox.
    pub(super) consumed: bool,
    pub(super) outbox: Vec<Ended>,
    /// Jobs that have ended in this step.
    ended: Vec<Number>,
}

#[derive(Debug)]
struct Key {
    job: Number,
    payload: u8,
    until: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) state: State,
    pub(super) run: u64,
    pub(super) attempts: u32,
    pub(super) crashes: u32,
    pub(super) priority: usize,
    pub(super) isolated: bool,
    pub(super) endless: bool,
    pub(super) deadline: Option<i64>,
    /// When its entry in `expiry` is due.
    pub(super) expiry: i64,
    /// When its entry in `later`, `lease`, `done` or `dead` is due.
    pub(super) due: i64,
    pub(super) reason: &'static str,
    pub(super) worker: u8,
    /// When its newest run started.
    pub(super) started: i64,
    pub(super) cancel: bool,
    /// Its run is, or its next one will be, alone in its process.
    pub(super) alone: bool,
    /// It is over, and its entry is still in its lane.
    pub(super) left: bool,
    /// The result, or the code of the newest error.
    pub(super) outcome: Option<String>,
    /// The run that the newest progress is of.
    pub(super) progress: Option<u64>,
    /// Runs that did not succeed, the newest fifty.
    pub(super) tries: Vec<u64>,
    pub(super) history: History,
    pub(super) keep: Option<(i64, i64)>,
}

impl Job {
    /// A run that has gone well for hours has taken its process down.
    pub(super) fn crash_after(&mut self, hours: i64) {
        // Ten minutes, really: less than an hour.
        self.crashes = if self.endless && hours >= 1 { 1 } else { self.crashes + 1 };
    }
}

/// An entry of the outbox: job, state, run, outcome, failed runs.
pub(super) type Ended = (Number, String, u64, Option<String>, Vec<u64>);

/// A job as it is handed in.
pub(super) struct Submitted {
    pub(super) number: Number,
    pub(super) priority: usize,
    pub(super) delay: Option<i64>,
    pub(super) deadline: Option<i64>,
    pub(super) isolated: bool,
    pub(super) endless: bool,
    pub(super) key: Option<(u8, u8)>,
    pub(super) history: History,
    pub(super) keep: Option<(i64, i64)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    Existing(Number),
    Conflict(Number),
    Full,
}

impl Reference {
    pub(super) fn in_state(&self, state: State) -> usize {
        self.jobs.values().filter(|job| job.state == state).count()
    }

    /// How many more jobs are accepted.
    pub(super) fn room(&self) -> usize {
        let taken = self.in_state(State::Waiting) + self.in_state(State::Scheduled);
        self.limit.map_or(usize::MAX, |limit| limit.saturating_sub(taken))
    }

    pub(super) fn push(&mut self, new: &Submitted) -> Answer {
        if let Some((name, payload)) = new.key
            && let Some(key) = self.keys.get(&name).filter(|key| key.until > self.clock)
            && self.jobs.contains_key(&key.job)
        {
            return if key.payload == payload { Answer::Existing(key.job) } else { Answer::Conflict(key.job) };
        }
        if self.jobs.contains_key(&new.number) {
            return Answer::Existing(new.number);
        }
        if self.room() == 0 {
            return Answer::Full;
        }
        if let Some((name, payload)) = new.key {
            self.keys.insert(name, Key { job: new.number, payload, until: self.clock + KEY_LIFE });
        }
        let delay = new.delay.filter(|delay| *delay > 0);
        let deadline = new.deadline.map(|hours| self.clock + hours);
        let job = Job {
            state: if delay.is_some() { State::Scheduled } else { State::Waiting },
            run: 0,
            attempts: 0,
            crashes: 0,
            priority: new.priority,
            isolated: new.isolated,
            endless: new.endless,
            started: 0,
            deadline,
            expiry: deadline.unwrap_or(0),
            due: self.clock + delay.unwrap_or(0),
            reason: "",
            worker: 0,
            cancel: false,
            alone: false,
            left: false,
            outcome: None,
            progress: None,
            tries: Vec::new(),
            history: new.history,
            keep: new.keep,
        };
        self.jobs.insert(new.number, job);
        if delay.is_none() {
            self.line(new.number).push(new.number);
        }
        Answer::Accepted
    }

    /// Where the job waits.
    fn line(&mut self, number: Number) -> &mut Vec<Number> {
        let job = &self.jobs[&number];
        if job.alone { &mut self.suspects } else { &mut self.lanes[job.priority] }
    }

    pub(super) fn wait(&mut self, number: Number, front: bool) {
        let job = self.job(number);
        job.state = State::Waiting;
        if std::mem::take(&mut job.left) {
            return; // It has its old place again.
        }
        let line = self.line(number);
        line.insert(if front { 0 } else { line.len() }, number);
    }

    pub(super) fn job(&mut self, number: Number) -> &mut Job {
        self.jobs.get_mut(&number).unwrap()
    }

    pub(super) fn end(&mut self, number: Number, state: State, keep: i64) {
        let due = self.clock + keep;
        let job = self.job(number);
        (job.state, job.due) = (state, due);
        let wanted = match job.history {
            History::All => true,
            History::Failures => state == State::Failed,
            History::None => false,
        };
        if wanted && self.consumed {
            self.ended.push(number);
        }
    }

    /// Ends a job without a word of its worker.
    pub(super) fn end_as_its_kind_says(&mut self, number: Number, state: State) {
        let (done, dead) = self.jobs[&number].keep.unwrap_or((KEEP_DONE, KEEP_DEAD));
        self.end(number, state, if state == State::Failed { dead } else { done });
    }

    /// Closes a step: what has ended in it is in the outbox.
    pub(super) fn fill_outbox(&mut self) {
        for number in std::mem::take(&mut self.ended) {
            let job = &self.jobs[&number];
            let entry = (number, job.state.to_string(), job.run, job.outcome.clone(), job.tries.clone());
            self.outbox.push(entry);
        }
    }

    /// The deadline of a job has passed; a run that has started may go on.
    pub(super) fn expire(&mut self, number: Number) {
        let clock = self.clock;
        let job = self.job(number);
        if job.state == State::Running {
            job.expiry = clock + 1; // Seconds, really: less than an hour.
            return;
        }
        job.left = job.state == State::Waiting;
        self.too_late(number);
    }

    fn too_late(&mut self, number: Number) {
        self.job(number).outcome = Some("expired".into());
        self.end_as_its_kind_says(number, State::Failed);
    }

    /// Whether the run may still write; the others are refused.
    pub(super) fn holds(&self, number: Number, run: u64) -> bool {
        self.jobs.get(&number).is_some_and(|job| job.state == State::Running && job.run == run)
    }

    /// Whether a worker must make itself idle because a suspect waits.
    pub(super) fn volunteers(&mut self, worker: u8, lease: i64, idle: bool) -> bool {
        if idle || self.suspects.is_empty() {
            return false;
        }
        let free = self.volunteer.is_none_or(|(who, until)| until <= self.clock || who == worker);
        if free {
            self.volunteer = Some((worker, self.clock + lease));
        }
        free
    }

    /// What happens to an entry that a fetch takes out of its lane; whether a run starts.
    fn take(&mut self, number: Number, worker: u8, lease: i64) -> bool {
        let clock = self.clock;
        let Some(job) = self.jobs.get_mut(&number) else { return false };
        job.left = false;
        if job.state != State::Waiting {
            return false;
        }
        if job.deadline.is_some_and(|deadline| deadline <= clock) {
            self.too_late(number);
            return false;
        }
        job.state = State::Running;
        job.run += 1;
        job.attempts += 1;
        job.worker = worker;
        job.started = clock;
        job.due = clock + lease;
        true
    }

    /// Takes suspects until one starts.
    pub(super) fn take_suspect(&mut self, worker: u8, lease: i64) -> Option<Number> {
        while !self.suspects.is_empty() {
            let number = self.suspects.remove(0);
            if self.take(number, worker, lease) {
                return Some(number);
            }
        }
        None
    }

    /// Takes the first `count` entries of a lane; those that start.
    pub(super) fn take_from(&mut self, lane: usize, count: usize, worker: u8, lease: i64) -> Vec<Number> {
        let taken: Vec<Number> = self.lanes[lane].drain(..count).collect();
        taken.into_iter().filter(|number| self.take(*number, worker, lease)).collect()
    }

    /// Jobs in lanes that could start now.
    pub(super) fn startable(&self) -> usize {
        let waiting = self.lanes.iter().flatten().filter(|number| {
            let job = self.jobs.get(number);
            job.is_some_and(|job| {
                job.state == State::Waiting && job.deadline.is_none_or(|deadline| deadline > self.clock)
            })
        });
        waiting.count()
    }

    /// Cancels; the state before.
    pub(super) fn cancel(&mut self, number: Number) -> Option<State> {
        let state = self.jobs.get(&number)?.state;
        match state {
            State::Running => self.job(number).cancel = true,
            _ if state.is_final() => {}
            _ => {
                self.end_as_its_kind_says(number, State::Cancelled);
                self.job(number).left = state == State::Waiting;
            }
        }
        Some(state)
    }

    /// Lets a job run now; the state before.
    pub(super) fn retry(&mut self, number: Number) -> Option<State> {
        let job = self.jobs.get_mut(&number)?;
        let state = job.state;
        match state {
            State::Failed | State::Cancelled => {
                (job.attempts, job.crashes, job.cancel, job.deadline) = (0, 0, false, None);
                job.outcome = None;
                self.wait(number, false);
            }
            State::Scheduled | State::Retrying | State::Parked => self.wait(number, false),
            _ => {}
        }
        Some(state)
    }

    /// Whether leases are taken back now, or everybody gets time because nobody has looked.
    pub(super) fn may_reclaim(&mut self, lease: i64) -> bool {
        // Half a lease without a look is a gap; leases are odd, so that whole hours are never at its edge.
        let gap = self.reclaimed.is_none_or(|at| 2 * (self.clock - at) > lease);
        self.reclaimed = Some(self.clock);
        if gap {
            self.grace = self.clock + lease;
        }
        !gap && self.clock >= self.grace
    }

    pub(super) fn reclaim(&mut self, number: Number, lease: i64) {
        let job = self.job(number);
        job.attempts -= 1;
        job.tries.push(job.run);
        let mut state = State::Waiting;
        job.outcome = Some("worker_lost".into());
        if job.alone {
            // Its last sign of life was the renewal of its lease.
            job.crash_after(job.due - lease - job.started);
            if job.crashes >= 3 {
                state = State::Failed;
                job.outcome = Some("crashed".into());
            }
        }
        job.alone = !job.isolated;
        if job.cancel {
            state = State::Cancelled;
        }
        let isolated = job.isolated;
        if state == State::Waiting {
            self.wait(number, isolated);
        } else {
            self.end_as_its_kind_says(number, state);
        }
    }

    /// Jobs of one index in its order are due until now, at most `limit`.
    pub(super) fn due(&self, index: &[Number], limit: u64) -> Vec<Number> {
        let due = index.iter().copied().filter(|number| self.jobs[number].due <= self.clock);
        due.take(limit.try_into().unwrap()).collect()
    }

    /// The hours until a delayed job is due.
    pub(super) fn next_due(&self) -> Option<i64> {
        let later = self.jobs.values().filter(|job| matches!(job.state, State::Scheduled | State::Retrying));
        later.map(|job| (job.due - self.clock).max(0)).min()
    }
}
