//! What a queue is, in the plainest words: the scripts must agree with it.

use std::collections::BTreeMap;

use fourmi_model::{History, ParkReason, State};

use super::operation::{KEYS, Until};

/// How long a cancelled and a failed job is kept when no run says it: a day and thirty days.
const KEEP_DONE: i64 = 24;
const KEEP_DEAD: i64 = 30 * 24;

/// The number of a job, in the order in which they were made.
pub(super) type Number = u64;

/// Times are in hours of the test's clock.
#[derive(Debug, Default)]
pub(super) struct Reference {
    pub(super) clock: i64,
    pub(super) jobs: BTreeMap<Number, Job>,
    /// By priority and name ('2 t0 host/a'), with the entries that cancelled jobs have left there.
    pub(super) lanes: BTreeMap<String, Vec<Number>>,
    pub(super) bounds: BTreeMap<&'static str, Bound>,
    /// By limit: the tokens that were in its bucket, and when.
    buckets: BTreeMap<String, (i64, i64)>,
    likes: BTreeMap<Like, (Until, Number, i64)>,
    pub(super) suspects: Vec<Number>,
    /// By tenant and name.
    keys: BTreeMap<(Option<u8>, u8), Key>,
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

/// Jobs at once; jobs that may start at once, and then one an hour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) concurrency: Option<usize>,
    pub(super) burst: Option<i64>,
}

/// What makes jobs alike: tenant and payload.
type Like = (Option<u8>, u8);

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
    /// Lines of its log.
    pub(super) lines: usize,
    /// Runs that did not succeed, the newest fifty.
    pub(super) tries: Vec<u64>,
    pub(super) history: History,
    pub(super) keep: Option<(i64, i64)>,
    pub(super) tenant: Option<u8>,
    pub(super) limits: Vec<usize>,
    pub(super) unique: Option<(Until, Like)>,
    /// The limits that its run holds.
    pub(super) held: Vec<String>,
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
    pub(super) parked: Option<ParkReason>,
    pub(super) deadline: Option<i64>,
    pub(super) isolated: bool,
    pub(super) endless: bool,
    pub(super) key: Option<(u8, u8, i64)>,
    pub(super) history: History,
    pub(super) keep: Option<(i64, i64)>,
    pub(super) tenant: Option<u8>,
    pub(super) limits: Vec<usize>,
    pub(super) unique: Option<Until>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    Existing(Number),
    Conflict(Number),
    Like(Number),
    Full,
}

/// What happens to an entry that a fetch takes out of its lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Started,
    Skipped,
    /// Limits have come or gone: it belongs into this lane.
    Stray(String),
}

/// The limits in the name of a lane.
pub(super) fn limits_of(lane: &str) -> impl Iterator<Item = &str> {
    lane.split(' ').skip(2)
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
        if let Some((name, payload, _)) = new.key
            && let Some(key) = self.keys.get(&(new.tenant, name)).filter(|key| key.until > self.clock)
            && self.jobs.contains_key(&key.job)
        {
            return if key.payload == payload { Answer::Existing(key.job) } else { Answer::Conflict(key.job) };
        }
        let like = (new.tenant, new.key.map_or(0, |(_, payload, _)| payload + 1));
        if new.unique.is_some()
            && let Some(holder) = self.like(&like)
            && !self.jobs.contains_key(&new.number)
        {
            return Answer::Like(holder);
        }
        if self.jobs.contains_key(&new.number) {
            return Answer::Existing(new.number);
        }
        if self.room() == 0 {
            return Answer::Full;
        }
        if let Some((name, payload, life)) = new.key {
            self.keys.insert((new.tenant, name), Key { job: new.number, payload, until: self.clock + life });
        }
        if let Some(until) = new.unique {
            let end = if let Until::Hours(hours) = until { self.clock + hours } else { i64::MAX };
            self.likes.insert(like, (until, new.number, end));
        }
        let delay = new.delay.filter(|delay| *delay > 0);
        let deadline = new.deadline.map(|hours| self.clock + hours);
        let state = match (new.parked, delay) {
            (Some(_), _) => State::Parked,
            (None, Some(_)) => State::Scheduled,
            (None, None) => State::Waiting,
        };
        let job = Job {
            state,
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
            reason: new.parked.map_or("", ParkReason::as_str),
            worker: 0,
            cancel: false,
            alone: false,
            left: false,
            outcome: None,
            progress: None,
            lines: 0,
            tries: Vec::new(),
            history: new.history,
            keep: new.keep,
            tenant: new.tenant,
            limits: new.limits.clone(),
            unique: new.unique.filter(|until| !matches!(until, Until::Hours(_))).map(|until| (until, like)),
            held: Vec::new(),
        };
        self.jobs.insert(new.number, job);
        if state == State::Waiting {
            self.line(new.number).push(new.number);
        }
        Answer::Accepted
    }

    /// Where the job waits.
    fn line(&mut self, number: Number) -> &mut Vec<Number> {
        if self.jobs[&number].alone {
            return &mut self.suspects;
        }
        let lane = self.lane_of(number);
        self.lanes.entry(lane).or_default()
    }

    /// The lane in which a job waits as limits are now.
    pub(super) fn lane_of(&self, number: Number) -> String {
        let job = &self.jobs[&number];
        let tenant = job.tenant.map_or_else(String::new, |tenant| format!("t{tenant}"));
        let mut lane = format!("{} {tenant}", job.priority);
        let mut names = Vec::new();
        if job.tenant.is_some() {
            names.push(format!("tenant/{tenant}"));
        }
        names.push("kind/test.echo".to_owned());
        names.extend(job.limits.iter().map(|key| KEYS[*key].to_owned()));
        for name in names.iter().filter(|name| self.bound(name).is_some()) {
            lane = format!("{lane} {name}");
        }
        lane
    }

    /// What binds: the limit itself, or that of its class.
    pub(super) fn bound(&self, name: &str) -> Option<Bound> {
        let class = name.split('/').next().map(|class| format!("{class}/*"));
        let found = self.bounds.get(name).or_else(|| self.bounds.get(class.as_deref().unwrap_or_default()));
        found.copied()
    }

    pub(super) fn tokens(&self, name: &str, burst: i64) -> i64 {
        self.buckets.get(name).map_or(burst, |(tokens, since)| (tokens + self.clock - since).min(burst))
    }

    pub(super) fn running_under(&self, name: &str) -> usize {
        let runs_under = |job: &&Job| job.state == State::Running && job.held.iter().any(|held| held == name);
        self.jobs.values().filter(runs_under).count()
    }

    /// How many more may start under a limit.
    pub(super) fn room_under(&self, name: &str) -> usize {
        let Some(bound) = self.bound(name) else { return usize::MAX };
        let slots = bound.concurrency.map_or(usize::MAX, |most| most.saturating_sub(self.running_under(name)));
        let tokens = bound.burst.map_or(usize::MAX, |burst| self.tokens(name, burst).try_into().unwrap_or(0));
        slots.min(tokens)
    }

    pub(super) fn spend(&mut self, name: &str) {
        if let Some(burst) = self.bound(name).and_then(|bound| bound.burst) {
            let tokens = self.tokens(name, burst);
            self.buckets.insert(name.to_owned(), (tokens - 1, self.clock));
        }
    }

    /// Who excludes its like.
    fn like(&self, like: &Like) -> Option<Number> {
        let (until, holder, end) = *self.likes.get(like)?;
        let holds = if matches!(until, Until::Hours(_)) { end > self.clock } else { self.jobs.contains_key(&holder) };
        holds.then_some(holder)
    }

    fn yield_like(&mut self, number: Number, starts: bool) {
        let Some((until, like)) = self.jobs[&number].unique else { return };
        if (!starts || until == Until::Started)
            && self.likes.get(&like).is_some_and(|held| (held.0, held.1) == (until, number))
        {
            self.likes.remove(&like);
        }
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
        self.yield_like(number, false);
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
        if idle || self.next_suspect().is_none() {
            return false;
        }
        let free = self.volunteer.is_none_or(|(who, until)| until <= self.clock || who == worker);
        if free {
            self.volunteer = Some((worker, self.clock + lease));
        }
        free
    }

    /// The place of the first suspect that no limit holds back, if it is one of the first sixteen.
    fn next_suspect(&self) -> Option<usize> {
        let free = |number: &Number| {
            !self.jobs.contains_key(number) || limits_of(&self.lane_of(*number)).all(|name| self.room_under(name) > 0)
        };
        self.suspects.iter().take(16).position(free)
    }

    /// What happens to an entry that a fetch takes out of this lane (`None`: of the suspects).
    pub(super) fn take(&mut self, number: Number, lane: Option<&str>, worker: u8, lease: i64) -> Taken {
        let clock = self.clock;
        let Some(job) = self.jobs.get_mut(&number) else { return Taken::Skipped };
        job.left = false;
        if job.state != State::Waiting {
            return Taken::Skipped;
        }
        if job.deadline.is_some_and(|deadline| deadline <= clock) {
            self.too_late(number);
            return Taken::Skipped;
        }
        let own = self.lane_of(number);
        if lane.is_some_and(|lane| lane != own) {
            return Taken::Stray(own);
        }
        let names: Vec<String> = limits_of(&own).map(str::to_owned).collect();
        for name in &names {
            self.spend(name);
        }
        let counted = |name: &String| self.bound(name).is_some_and(|bound| bound.concurrency.is_some());
        let held = names.into_iter().filter(counted).collect();
        let job = self.job(number);
        job.state = State::Running;
        job.run += 1;
        job.attempts += 1;
        job.worker = worker;
        job.started = clock;
        job.due = clock + lease;
        job.held = held;
        self.yield_like(number, true);
        Taken::Started
    }

    /// Takes suspects until one starts.
    pub(super) fn take_suspect(&mut self, worker: u8, lease: i64) -> Option<Number> {
        while let Some(place) = self.next_suspect() {
            let number = self.suspects.remove(place);
            if self.take(number, None, worker, lease) == Taken::Started {
                return Some(number);
            }
        }
        None
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

    /// Lets a job run now; the state before, and whether it waits.
    pub(super) fn retry(&mut self, number: Number) -> Option<(State, bool)> {
        let job = self.jobs.get(&number)?;
        let (state, unique) = (job.state, job.unique);
        if matches!(state, State::Failed | State::Cancelled)
            && let Some((until, like)) = unique
        {
            if self.like(&like).is_some() {
                return Some((state, false));
            }
            self.likes.insert(like, (until, number, i64::MAX));
        }
        let job = self.job(number);
        match state {
            State::Failed | State::Cancelled => {
                (job.attempts, job.crashes, job.cancel, job.deadline) = (0, 0, false, None);
                job.outcome = None;
                self.wait(number, false);
            }
            State::Scheduled | State::Retrying | State::Parked => self.wait(number, false),
            _ => return Some((state, false)),
        }
        Some((state, true))
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
