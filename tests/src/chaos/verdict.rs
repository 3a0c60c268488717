//! Whether the promises held. Nothing here asks the queue's own counters: what was accepted comes from the submitters, what
//! was done from the handlers, what became of it from the log of Redis.

use std::collections::{BTreeMap, BTreeSet};

use fourmi_model::State;
use serde::Serialize;
use uuid::Uuid;

use super::{
    faults::{Fault, Happened, Trouble},
    history::{End, History, Report},
    submitter::{MOST_AT_ONCE, Order},
    transitions::Transition,
    work::Deed,
};

/// A promise that was broken.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Violation {
    pub(super) promise: Promise,
    pub(super) job: Option<Uuid>,
    pub(super) run: Option<u64>,
    pub(super) what: String,
    /// What is known of the job, and what happened in its time.
    pub(super) around: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Promise {
    /// An accepted job comes to an end.
    NothingLost,
    /// A job ends once, step by step.
    SettledOnce,
    /// Only the newest run writes an outcome.
    NoStaleRun,
    /// A run that is followed by another was ended by something.
    RepeatsExplained,
    /// Jobs end as they were meant to: retries, budgets, times, cancellations, idempotency keys.
    AsMeant,
    /// No more jobs run at the same time than a limit says.
    LimitsHold,
    /// Nothing is left of jobs that are forgotten.
    NoLeftovers,
    /// Processes do not die by themselves.
    NobodyDies,
}

#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) violations: Vec<Violation>,
    /// Runs that another followed, by their cause.
    pub(super) repeated: BTreeMap<&'static str, u64>,
    /// The times from the death of a worker until what it ran was taken back, and until that started again, in
    /// milliseconds, in order.
    pub(super) taken_back_ms: Vec<i64>,
    pub(super) reclaims_ms: Vec<i64>,
}

pub(super) fn judge(history: &History) -> Verdict {
    let mut judge = Judge { history, verdict: Verdict::default() };
    judge.submissions();
    for (id, transitions) in &history.transitions {
        judge.job(*id, transitions);
    }
    judge.rest();
    judge.verdict.taken_back_ms.sort_unstable();
    judge.verdict.reclaims_ms.sort_unstable();
    judge.verdict
}

struct Judge<'a> {
    history: &'a History,
    verdict: Verdict,
}

/// A run, from its start to the transition that ended it.
struct RunOf<'a> {
    number: u64,
    attempts: u32,
    worker: &'a str,
    /// By the clock of the journals.
    started: i64,
    /// The place of its start in the log.
    place: usize,
    /// What the job was afterwards.
    then: Option<&'a Transition>,
    report: Option<&'a Report>,
    /// When the job started again.
    next_start: Option<i64>,
}

impl Judge<'_> {
    fn blame(&mut self, promise: Promise, job: Option<Uuid>, run: Option<u64>, what: impl Into<String>) {
        let around = job.map(|job| self.around(job, run)).unwrap_or_default();
        self.verdict.violations.push(Violation { promise, job, run, what: what.into(), around });
    }

    /// What is known of a job, and what happened while it, or one run of it, was there.
    fn around(&self, id: Uuid, run: Option<u64>) -> Vec<String> {
        let mut lines = Vec::new();
        let of_run = |number: u64| run.is_none_or(|run| number.abs_diff(run) <= 1);
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        let mut note = |at: i64| (first, last) = (first.min(at), last.max(at));
        if let Some(order) = self.history.orders.get(&id) {
            lines.push(format!("ordered: {}", json(order)));
        }
        for step in self.history.transitions.get(&id).into_iter().flatten().filter(|step| of_run(step.run)) {
            step.started.into_iter().for_each(|at| note(at - self.history.clock));
            lines.push(format!("transition: {}", json(step)));
        }
        for effect in self.history.effects.iter().filter(|((job, run), _)| *job == id && of_run(*run)) {
            for effect in effect.1 {
                note(effect.at);
                lines.push(format!("effect: {}", json(effect)));
            }
        }
        if let Some(end) = self.history.ends.get(&id) {
            for report in end.reports.iter().filter(|report| of_run(report.run)) {
                note(report.ended - self.history.clock);
            }
            lines.push(format!("end: {}", json(end)));
        }
        let near = |trouble: &&Happened| trouble.at <= last.saturating_add(2_000) && trouble.until >= first - 2_000;
        lines.extend(self.history.troubles.iter().filter(near).map(|trouble| format!("trouble: {}", json(trouble))));
        lines
    }

    fn submissions(&mut self) {
        let history = self.history;
        // One idempotency key may have been accepted as the same job several times.
        for id in history.accepted.values().collect::<BTreeSet<_>>() {
            let end = history.ends.get(id);
            if end.is_none_or(|end| !end.state.is_final()) {
                let state = end.map_or("gone".to_owned(), |end| end.state.to_string());
                self.blame(Promise::NothingLost, Some(*id), None, format!("it was accepted and is {state}"));
            }
        }
        for (id, order) in &history.orders {
            let known = history.accepted.contains_key(id) || history.refused.iter().any(|(refused, _)| refused == id);
            if !known {
                self.blame(Promise::NothingLost, Some(*id), None, "its submission was never answered");
            }
            if let (Some(key), Some(as_job)) = (&order.key, history.accepted.get(id)) {
                let same = history.orders.values().filter(|other| other.key.as_ref() == Some(key));
                if same.filter_map(|other| history.accepted.get(&other.id)).any(|other| other != as_job) {
                    self.blame(Promise::AsMeant, Some(*id), None, "its idempotency key has made two jobs");
                }
            }
        }
        for (id, why) in &history.refused {
            self.blame(Promise::AsMeant, Some(*id), None, format!("it was refused: {why}"));
        }
        for id in history.ends.keys().filter(|id| !history.orders.contains_key(id)) {
            self.blame(Promise::AsMeant, Some(*id), None, "nobody has submitted it");
        }
    }

    fn job(&mut self, id: Uuid, transitions: &[Transition]) {
        let history = self.history;
        self.steps(id, transitions);
        let (Some(order), Some(end)) = (history.orders.get(&id), history.ends.get(&id)) else { return };
        if !end.state.is_final() && !history.accepted.contains_key(&id) {
            self.blame(
                Promise::NothingLost,
                Some(id),
                None,
                format!("it was taken, without an answer, and is {}", end.state),
            );
        }
        let runs = self.runs(transitions, end);
        for run in &runs {
            self.run(id, order, run);
        }
        self.end(id, order, end, transitions, &runs);
    }

    /// A job goes from one state to another as the queue's diagram says, and ends once.
    fn steps(&mut self, id: Uuid, transitions: &[Transition]) {
        for pair in transitions.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            if before.state.is_final() {
                let what = format!("it was {} and became {} (run {})", before.state, after.state, after.run);
                self.blame(Promise::SettledOnce, Some(id), Some(after.run), what);
            }
            let starts = u64::from(after.state == State::Running);
            if after.run != before.run + starts || (starts == 1 && before.state != State::Waiting) {
                let what =
                    format!("run {}, {} was followed by run {}, {}", before.run, before.state, after.run, after.state);
                self.blame(Promise::NoStaleRun, Some(id), Some(after.run), what);
            }
            if after.version <= before.version {
                self.blame(Promise::SettledOnce, Some(id), Some(after.run), "its version did not grow");
            }
        }
    }

    fn runs<'b>(&self, transitions: &'b [Transition], end: &'b End) -> Vec<RunOf<'b>> {
        let local = |at: i64| at - self.history.clock;
        let starts = |step: &&Transition| step.state == State::Running;
        let runs = transitions.iter().enumerate().filter(|(_, step)| starts(step)).map(|(n, step)| RunOf {
            number: step.run,
            attempts: step.attempts,
            worker: step.worker.as_deref().unwrap_or_default(),
            started: local(step.started.unwrap_or_default()),
            place: step.place,
            then: transitions.get(n + 1),
            report: end.reports.iter().find(|report| report.run == step.run),
            next_start: transitions[n + 1..].iter().find(starts).and_then(|step| step.started).map(local),
        });
        runs.collect()
    }

    fn run(&mut self, id: Uuid, order: &Order, run: &RunOf<'_>) {
        let wall = run.started + self.history.clock;
        if order.not_before.is_some_and(|time| wall < time.as_millisecond()) {
            self.blame(Promise::AsMeant, Some(id), Some(run.number), "it started before its time");
        }
        if order.deadline.is_some_and(|time| wall > time.as_millisecond()) {
            self.blame(Promise::AsMeant, Some(id), Some(run.number), "it started after its deadline");
        }
        if let Some(parent) = order.after {
            let last = self.history.transitions.get(&parent).and_then(|steps| steps.last());
            if last.is_none_or(|last| last.state != State::Succeeded || last.place > run.place) {
                self.blame(
                    Promise::AsMeant,
                    Some(id),
                    Some(run.number),
                    "it started before what it waits for succeeded",
                );
            }
        }
        if run.then.is_none_or(|then| then.state.is_final()) && run.report.is_none() {
            return;
        }
        match self.cause(id, order, run) {
            Ok(_) if run.then.is_none_or(|then| then.state.is_final()) => {}
            Ok(cause) => *self.verdict.repeated.entry(cause).or_default() += 1,
            Err(what) => self.blame(Promise::RepeatsExplained, Some(id), Some(run.number), what),
        }
    }

    /// What has ended a run before it could end by itself.
    fn cause(&mut self, id: Uuid, order: &Order, run: &RunOf<'_>) -> Result<&'static str, String> {
        let Some(report) = run.report else {
            let drained = self.find(run, run.next_start.unwrap_or(i64::MAX), |fault, pid, _| {
                matches!(fault, Fault::DrainWorker { .. }) && pid == Some(pid_of(run.worker))
            });
            return drained.ok_or_else(|| "it was given back, and its worker was not asked to stop".to_owned());
        };
        let ended = report.ended - self.history.clock;
        match report.code.as_str() {
            "told_to" if report.message != format!("run {} fails as it was told", run.number) => {
                self.blame(Promise::NoStaleRun, Some(id), Some(run.number), "the outcome is of another run");
                Ok("failed as it was told")
            }
            "told_to" if run.attempts <= order.work.fail => Ok("failed as it was told"),
            "worker_lost" => self.lost(run, ended),
            "process_died" if order.in_child && run.number <= order.work.crash => Ok("crashed as it was told"),
            "process_died" => {
                let effects = self.history.effects.get(&(id, run.number));
                let child_of_run = effects.and_then(|effects| effects.first()).map(|effect| effect.pid);
                let killed = self.find(run, ended, |fault, pid, child| {
                    let is_it = child_of_run.map_or(pid == Some(pid_of(run.worker)), |it| child == Some(it));
                    matches!(fault, Fault::KillChild { .. }) && is_it
                });
                killed.ok_or_else(|| format!("its process died, and nobody has killed it: {}", report.message))
            }
            "cancelled" if self.history.cancels.contains(&id) => Ok("cancelled"),
            code => Err(format!("it ended with {code}, which nobody wanted: {}", report.message)),
        }
    }

    /// What has made a worker lose a run.
    fn lost(&mut self, run: &RunOf<'_>, ended: i64) -> Result<&'static str, String> {
        let worker = pid_of(run.worker);
        let death = self.history.troubles.iter().find(|trouble| {
            let kill = matches!(&trouble.what, Trouble::Fault { fault: Fault::KillWorker { .. }, pid, .. } if *pid == Some(worker));
            kill && self.touches(trouble, run, ended)
        });
        if let Some(death) = death {
            self.verdict.taken_back_ms.push(ended - death.at);
            self.verdict.reclaims_ms.extend(run.next_start.map(|start| start - death.at));
            return Ok("kill -9 of a worker");
        }
        let of_worker =
            self.find(run, ended, |fault, pid, _| !matches!(fault, Fault::KillChild { .. }) && pid == Some(worker));
        let of_redis =
            || self.find(run, ended, |fault, _, _| matches!(fault, Fault::KillRedis { .. } | Fault::PauseRedis { .. }));
        let stall = || {
            let stall = |it: &&Happened| it.what == Trouble::Stall && self.touches(it, run, ended);
            self.history.troubles.iter().find(stall).map(|_| "this machine stood still")
        };
        let cause = of_worker.or_else(of_redis).or_else(stall);
        cause.ok_or_else(|| format!("{} lost it, and nothing had happened to it", run.worker))
    }

    /// A fault of the plan in the time of a run.
    fn find(
        &self,
        run: &RunOf<'_>,
        ended: i64,
        is_it: impl Fn(&Fault, Option<u32>, Option<u32>) -> bool,
    ) -> Option<&'static str> {
        self.history.troubles.iter().filter(|trouble| self.touches(trouble, run, ended)).find_map(|trouble| {
            match &trouble.what {
                Trouble::Fault { fault, pid, child } if is_it(fault, *pid, *child) => Some(fault.name()),
                _ => None,
            }
        })
    }

    /// Whether something happened while a run was there. What was on its way to Redis may have arrived there when its
    /// sender was hit already, and a line that was half open is left for another after a lease at the latest.
    fn touches(&self, trouble: &Happened, run: &RunOf<'_>, ended: i64) -> bool {
        trouble.at <= ended && trouble.until + 2 * self.history.lease_ms >= run.started
    }

    fn end(&mut self, id: Uuid, order: &Order, end: &End, transitions: &[Transition], runs: &[RunOf<'_>]) {
        let Some(last) = transitions.last() else { return };
        let run = Some(last.run);
        if last.state != end.state {
            let what = format!("its log ends with {}, and it is {}", last.state, end.state);
            self.blame(Promise::SettledOnce, Some(id), run, what);
        }
        match end.state {
            State::Succeeded => {
                if end.result_run != run {
                    let what = format!(
                        "the result is of run {:?}, and run {} was written as the last",
                        end.result_run, last.run
                    );
                    self.blame(Promise::NoStaleRun, Some(id), run, what);
                }
                let effects = self.history.effects.get(&(id, last.run)).into_iter().flatten();
                if effects.filter(|effect| effect.what == Deed::Ended).count() != 1 {
                    self.blame(
                        Promise::NoStaleRun,
                        Some(id),
                        run,
                        "it has succeeded, and that run has not done the work",
                    );
                }
                if last.attempts != order.work.fail + 1 {
                    let what = format!("it took {} attempts instead of {}", last.attempts, order.work.fail + 1);
                    self.blame(Promise::AsMeant, Some(id), run, what);
                }
            }
            State::Failed => match end.code.as_deref() {
                Some("expired") => {
                    let late = order.deadline.zip(end.finished).is_some_and(|(time, end)| end >= time.as_millisecond());
                    if !late {
                        self.blame(Promise::AsMeant, Some(id), run, "it has expired before its deadline");
                    }
                }
                // Each of them has been explained.
                Some("crashed") if runs.iter().filter(|run| run.report.is_some()).count() >= 3 => {}
                code => self.blame(Promise::AsMeant, Some(id), run, format!("it has failed: {code:?}")),
            },
            State::Cancelled if end.code.as_deref() == Some("parent_failed") => {
                let parent = order.after.and_then(|parent| self.history.ends.get(&parent));
                if parent.is_none_or(|parent| parent.state == State::Succeeded) {
                    self.blame(
                        Promise::AsMeant,
                        Some(id),
                        run,
                        "it is cancelled, and what it waited for has succeeded",
                    );
                }
            }
            State::Cancelled if !self.history.cancels.contains(&id) => {
                self.blame(Promise::AsMeant, Some(id), run, "it is cancelled, and nobody has asked for that");
            }
            _ => {}
        }
        if self.history.cancelled_at_once.contains(&id) && end.state != State::Cancelled {
            self.blame(Promise::AsMeant, Some(id), run, "it was cancelled before it started, and did not stay so");
        }
    }

    fn rest(&mut self) {
        let history = self.history;
        if let Some(why) = &history.stuck {
            self.blame(Promise::NothingLost, None, None, why);
        }
        if history.most_under_a_limit > MOST_AT_ONCE {
            let what = format!("{} jobs ran under the limit at the same time", history.most_under_a_limit);
            self.blame(Promise::LimitsHold, None, None, what);
        }
        for key in &history.keys {
            self.blame(Promise::NoLeftovers, None, None, format!("the key {key} is left"));
        }
        for trouble in &history.troubles {
            if let Trouble::UnexpectedExit { pid, process, how } = &trouble.what {
                self.blame(Promise::NobodyDies, None, None, format!("{process} ({pid}) ended by itself: {how}"));
            }
        }
    }
}

/// `queue.host.pid.random`
fn pid_of(worker: &str) -> u32 {
    worker.rsplit('.').nth(1).and_then(|pid| pid.parse().ok()).unwrap_or(0)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::chaos::work::{Effect, Work};

    const LEASE: i64 = 1_000;

    /// A job whose runs each end as it is said here, half a second after they started.
    struct Story {
        history: History,
        id: Uuid,
        at: i64,
        run: u64,
    }

    impl Story {
        fn new() -> Self {
            let (id, mut history) = (Uuid::from_u128(1), History { lease_ms: LEASE, ..History::default() });
            let work = Work { effects: PathBuf::new(), ms: 1, fail: 0, crash: 0 };
            let order = Order {
                id,
                in_child: false,
                work,
                priority: 2,
                not_before: None,
                deadline: None,
                key: None,
                tenant: None,
                limited: false,
                unique: false,
                after: None,
            };
            history.orders.insert(id, order);
            history.accepted.insert(id, id);
            let end =
                End { id, state: State::Waiting, code: None, result_run: None, finished: None, reports: Vec::new() };
            history.ends.insert(id, end);
            let mut story = Self { history, id, at: 10_000, run: 0 };
            story.become_(State::Waiting, 0);
            story
        }

        fn become_(&mut self, state: State, attempts: u32) {
            let steps = self.history.transitions.entry(self.id).or_default();
            let started =
                if state == State::Running { Some(self.at) } else { steps.last().and_then(|step| step.started) };
            let worker = Some("chaos.host.77.abcd".to_owned());
            let version = steps.len() as u64 + 1;
            let place = steps.len();
            steps.push(Transition { state, run: self.run, version, attempts, crashes: 0, started, worker, place });
            self.end().state = state;
        }

        fn end(&mut self) -> &mut End {
            self.history.ends.get_mut(&self.id).unwrap()
        }

        /// A run that ends so.
        fn run(mut self, then: State, report: Option<&str>) -> Self {
            self.run += 1;
            self.become_(State::Running, 1);
            self.at += 500;
            let (run, started) = (self.run, self.at - 500);
            if let Some(code) = report {
                let worker = "chaos.host.77.abcd".to_owned();
                let (code, message) = (code.to_owned(), String::new());
                self.end().reports.push(Report { run, worker, started, ended: started + 500, code, message });
            }
            let effect = Effect { at: self.at, job: self.id, run, pid: 78, what: Deed::Ended };
            if then == State::Succeeded {
                self.history.add_effects(vec![effect]);
                self.end().result_run = Some(run);
            }
            self.become_(then, 1);
            self.at += 100;
            self
        }

        /// A fault at a time of the first run, which starts at 10,000 and ends at 10,500.
        fn with_fault(mut self, fault: Fault, at: i64, pid: u32) -> Self {
            let what = Trouble::Fault { fault, pid: Some(pid), child: None };
            self.history.troubles.push(Happened { at, until: at, what });
            self
        }

        fn broken(&self) -> Vec<Promise> {
            let mut broken: Vec<_> = judge(&self.history).violations.iter().map(|it| it.promise).collect();
            broken.sort();
            broken.dedup();
            broken
        }
    }

    fn kill() -> Fault {
        Fault::KillWorker { worker: 0 }
    }

    #[test]
    fn a_job_that_went_well_breaks_nothing() {
        assert_eq!(Story::new().run(State::Succeeded, None).broken(), []);
    }

    #[test]
    fn an_accepted_job_that_is_gone_or_never_ends_is_lost() {
        let waiting = Story::new();
        assert_eq!(waiting.broken(), [Promise::NothingLost]);
        let mut gone = Story::new();
        gone.history.ends.clear();
        gone.history.transitions.clear();
        assert_eq!(gone.broken(), [Promise::NothingLost]);
        let mut unanswered = Story::new().run(State::Succeeded, None);
        unanswered.history.accepted.clear();
        assert_eq!(unanswered.broken(), [Promise::NothingLost]);
    }

    #[test]
    fn a_job_that_ends_twice_is_settled_twice() {
        let mut twice = Story::new().run(State::Succeeded, None);
        twice.become_(State::Succeeded, 1);
        assert_eq!(twice.broken(), [Promise::SettledOnce]);
        let mut other = Story::new().run(State::Succeeded, None);
        other.end().state = State::Failed;
        assert!(other.broken().contains(&Promise::SettledOnce));
    }

    #[test]
    fn a_run_that_is_not_the_newest_and_is_believed_is_stale() {
        let lost = || Story::new().with_fault(kill(), 10_200, 77).run(State::Waiting, Some("worker_lost"));
        assert_eq!(lost().run(State::Succeeded, None).broken(), []);
        let mut by_another = lost().run(State::Succeeded, None);
        by_another.end().result_run = Some(1);
        assert_eq!(by_another.broken(), [Promise::NoStaleRun]);
        let mut not_done = lost().run(State::Succeeded, None);
        not_done.history.effects.clear();
        assert_eq!(not_done.broken(), [Promise::NoStaleRun]);
        let mut backwards = lost().run(State::Succeeded, None);
        backwards.history.transitions.get_mut(&backwards.id).unwrap().last_mut().unwrap().run = 1;
        assert!(backwards.broken().contains(&Promise::NoStaleRun));
    }

    #[test]
    fn a_repeated_run_needs_a_cause_of_its_own_worker_and_time() {
        let repeated = |story: Story| story.run(State::Waiting, Some("worker_lost")).run(State::Succeeded, None);
        assert_eq!(repeated(Story::new()).broken(), [Promise::RepeatsExplained]);
        for (at, pid, broken) in [
            (10_200, 77, vec![]),
            (10_200, 79, vec![Promise::RepeatsExplained]),
            (10_501, 77, vec![Promise::RepeatsExplained]),
            (10_000 - 2 * LEASE - 1, 77, vec![Promise::RepeatsExplained]),
        ] {
            assert_eq!(repeated(Story::new().with_fault(kill(), at, pid)).broken(), broken, "{at} {pid}");
        }
        let verdict = judge(&repeated(Story::new().with_fault(kill(), 10_200, 77)).history);
        assert_eq!((verdict.taken_back_ms, verdict.reclaims_ms), (vec![300], vec![400]));

        // Neither a death of a child nor a drain loses a worker's lease.
        let child = Fault::KillChild { worker: 0, child: 0 };
        assert_eq!(repeated(Story::new().with_fault(child, 10_200, 77)).broken(), [Promise::RepeatsExplained]);
        let given_back = |story: Story| story.run(State::Waiting, None).run(State::Succeeded, None);
        assert_eq!(given_back(Story::new().with_fault(kill(), 10_200, 77)).broken(), [Promise::RepeatsExplained]);
        let drain = Fault::DrainWorker { worker: 0, away_ms: 0 };
        assert_eq!(given_back(Story::new().with_fault(drain, 10_200, 77)).broken(), []);
        let died = Story::new().run(State::Retrying, Some("process_died"));
        assert!(died.broken().contains(&Promise::RepeatsExplained));
        let unknown = Story::new().run(State::Failed, Some("panic"));
        assert_eq!(unknown.broken(), [Promise::RepeatsExplained, Promise::AsMeant]);
    }

    #[test]
    fn a_violation_says_what_happened_around_it() {
        let story = Story::new().with_fault(Fault::KillRedis { down_ms: 1 }, 8_500, 0).run(State::Waiting, None);
        let violations = judge(&story.history).violations;
        let violation = violations.iter().find(|it| it.promise == Promise::RepeatsExplained).unwrap();
        assert_eq!((violation.job, violation.run), (Some(story.id), Some(1)));
        for word in ["ordered", "transition", "end", "kill_redis"] {
            assert!(violation.around.iter().any(|line| line.contains(word)), "{word}: {:?}", violation.around);
        }
    }

    #[test]
    fn what_was_not_meant_is_seen() {
        let late = |at: i64| Some(jiff::Timestamp::from_millisecond(at).unwrap());
        let ended = || Story::new().run(State::Succeeded, None);
        let changes: [fn(&mut Story); 6] = [
            |story| story.history.orders.get_mut(&story.id).unwrap().work.fail = 2,
            |story| story.history.refused.push((story.id, "full".to_owned())),
            |story| {
                story.history.cancelled_at_once.insert(story.id);
            },
            |story| {
                let other = Order {
                    id: Uuid::from_u128(2),
                    key: Some("k".to_owned()),
                    ..story.history.orders[&story.id].clone()
                };
                story.history.orders.get_mut(&story.id).unwrap().key = Some("k".to_owned());
                story.history.accepted.insert(other.id, other.id);
                story.history.ends.insert(other.id, End { id: other.id, ..story.history.ends[&story.id].clone() });
                story.history.orders.insert(other.id, other);
            },
            |story| story.end().code = Some("expired".to_owned()),
            |story| {
                story.history.orders.clear();
            },
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut story = ended();
            if n == 4 {
                story = Story::new().run(State::Failed, None);
            }
            change(&mut story);
            assert_eq!(story.broken(), [Promise::AsMeant], "{n}");
        }
        for (not_before, deadline) in [(late(10_001), None), (None, late(9_999))] {
            let mut story = ended();
            let order = story.history.orders.get_mut(&story.id).unwrap();
            (order.not_before, order.deadline) = (not_before, deadline);
            assert_eq!(story.broken(), [Promise::AsMeant]);
        }
        assert_eq!(Story::new().run(State::Cancelled, None).broken(), [Promise::AsMeant]);
    }

    #[test]
    fn a_job_that_does_not_wait_and_a_limit_that_does_not_hold_are_seen() {
        let parent = Uuid::from_u128(9);
        let after = |state: State, place: usize| {
            let mut story = Story::new().run(State::Succeeded, None);
            story.history.orders.get_mut(&story.id).unwrap().after = Some(parent);
            let step = Transition { state, place, ..story.history.transitions[&story.id][0].clone() };
            let end = End { id: parent, state, ..story.history.ends[&story.id].clone() };
            let order = Order { id: parent, after: None, ..story.history.orders[&story.id].clone() };
            story.history.orders.insert(parent, order);
            story.history.ends.insert(parent, end);
            story.history.transitions.insert(parent, vec![step]);
            let broken = judge(&story.history).violations.into_iter().filter(|it| it.job == Some(story.id));
            broken.map(|it| it.promise).collect::<Vec<_>>()
        };
        assert_eq!(after(State::Succeeded, 0), []);
        assert_eq!(after(State::Succeeded, 2), [Promise::AsMeant]);
        assert_eq!(after(State::Cancelled, 0), [Promise::AsMeant]);
        let mut crowded = Story::new().run(State::Succeeded, None);
        crowded.history.most_under_a_limit = MOST_AT_ONCE + 1;
        assert_eq!(crowded.broken(), [Promise::LimitsHold]);
    }

    #[test]
    fn keys_that_stay_and_processes_that_die_are_seen() {
        let mut story = Story::new().run(State::Succeeded, None);
        story.history.keys.push("{chaos}:r:1".to_owned());
        let what = Trouble::UnexpectedExit { pid: 9, process: "worker-1".to_owned(), how: "signal: 11".to_owned() };
        story.history.troubles.push(Happened { at: 1, until: 1, what });
        story.history.stuck = Some("nothing happens".to_owned());
        assert_eq!(story.broken(), [Promise::NothingLost, Promise::NoLeftovers, Promise::NobodyDies]);
    }
}
