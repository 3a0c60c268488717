//! How many processes a queue needs, from what is seen of it.
//!
//! A decision is a pure function of a rule, of what was seen since the last change took effect, and of what is seen now.
//! How long a new job would wait is the number of waiting jobs over the pace at which jobs have started in that time: what
//! was measured with another number of processes says nothing. While some process has been idle all along, more of them
//! would not help (the queue is paused, or limits hold it back), and after the cool-down one of them is too many.

use std::{collections::VecDeque, str::FromStr, time::Duration};

use fourmi_model::{MAX_PROCESSES, ScaleBounds, ScaleSignal};

use crate::{arguments::lasting, print, up::scale};

/// `media=1..4,wait=10s,cooldown=60s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) class: &'static str,
    pub(crate) bounds: ScaleBounds,
    /// How long a job shall wait at most.
    wait: Duration,
    /// How long a process must have been idle before there is one less.
    cooldown: Duration,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "it should be a worker, '=', bounds of 0 to {MAX_PROCESSES}, and if need be wait and cooldown, \
                 such as media=1..4,wait=10s,cooldown=60s"
            )
        };
        let mut parts = text.split(',');
        let (name, bounds) = parts.next().and_then(|first| first.split_once('=')).ok_or_else(wrong)?;
        let (min, max) = bounds.split_once("..").ok_or_else(wrong)?;
        let number = |text: &str| text.parse().ok().filter(|number| *number <= MAX_PROCESSES).ok_or_else(wrong);
        let bounds = ScaleBounds { min: number(min)?, max: number(max)? };
        if bounds.min > bounds.max {
            return Err(wrong());
        }
        let (wait, cooldown) = (Duration::from_secs(10), Duration::from_secs(60));
        let mut rule = Self { class: scale::class(name)?.name, bounds, wait, cooldown };
        for part in parts {
            let value = match part.split_once('=') {
                Some(("wait", text)) => lasting(text).map(|time| rule.wait = time),
                Some(("cooldown", text)) => lasting(text).map(|time| rule.cooldown = time),
                _ => Err(wrong()),
            };
            value?;
        }
        if rule.wait.is_zero() {
            return Err("a wait of nothing cannot be had: say wait=1s".to_owned());
        }
        Ok(rule)
    }
}

impl Rule {
    /// How long to watch before deciding that there are too few.
    fn window(&self) -> Duration {
        self.wait.clamp(Duration::from_secs(2), Duration::from_secs(30))
    }
}

/// What was seen since there are as many processes as there shall be, oldest first. Times count from any moment.
#[derive(Debug, Default)]
pub(crate) struct History {
    wanted: Option<u32>,
    looks: VecDeque<Look>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Duration,
    started: u64,
    idle: bool,
}

impl History {
    /// Notes what is seen now.
    pub(crate) fn note(&mut self, rule: &Rule, now: Duration, seen: &ScaleSignal) {
        let wanted = seen.processes.wanted;
        if self.wanted != wanted
            || wanted != Some(seen.processes.live)
            || self.looks.back().is_some_and(|it| it.started > seen.started)
        {
            self.looks.clear();
        }
        self.wanted = wanted;
        self.looks.push_back(Look { at: now, started: seen.started, idle: !seen.processes.idle.is_empty() });
        let longest = rule.cooldown.max(rule.window());
        // The first that is kept is as old as the longest time that is asked for.
        while self.looks.get(1).is_some_and(|second| now.saturating_sub(second.at) >= longest) {
            self.looks.pop_front();
        }
    }

    /// What was seen in the last so long time, if things have been steady for that long.
    fn over(&self, time: Duration) -> Option<Vec<Look>> {
        let now = self.looks.back()?.at;
        let first = self.looks.iter().rposition(|look| now.saturating_sub(look.at) >= time)?;
        Some(self.looks.range(first..).copied().collect())
    }

    fn idle_all_along(&self, time: Duration) -> bool {
        self.over(time).is_some_and(|looks| looks.iter().all(|look| look.idle))
    }
}

/// A new number of processes, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) why: String,
}

/// Whether there shall be another number of processes, after [`History::note`].
pub(crate) fn decide(rule: &Rule, history: &History, seen: &ScaleSignal) -> Option<Decision> {
    let ScaleBounds { min, max } = rule.bounds;
    let from = seen.processes.wanted.unwrap_or(1);
    let to = |to: u32, why: String| Some(Decision { from, to, why });
    let within = from.clamp(min, max);
    if within != from || seen.processes.wanted.is_none() {
        return to(within, format!("autoscale keeps it within {}", rule.bounds));
    }
    if from == 0 && max > 0 && seen.waiting > 0 {
        return to(1, "jobs wait, and no process runs them".to_owned());
    }
    if let Some(looks) = history.over(rule.window()).filter(|looks| looks.iter().any(|look| !look.idle)) {
        let wait = expected_wait(&looks, seen);
        if wait > rule.wait && from < max {
            let words = (print::rough(wait), print::rough(rule.wait));
            return to(
                needed(from, wait, rule).min(max),
                format!("a job waits for {}, and should for {}", words.0, words.1),
            );
        }
    }
    if from > min && history.idle_all_along(rule.cooldown) {
        return to(from - 1, format!("some process has been idle for {}", print::rough(rule.cooldown)));
    }
    None
}

/// How long a job that comes now will wait; if nothing has started, at least as long as the oldest has waited.
fn expected_wait(looks: &[Look], seen: &ScaleSignal) -> Duration {
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return Duration::ZERO };
    let (starts, time) = (last.started.saturating_sub(first.started), last.at.saturating_sub(first.at));
    if seen.waiting > 0 && starts == 0 {
        return Duration::from_millis(seen.oldest_waiting_ms.unwrap_or(0));
    }
    let waits = u128::from(seen.waiting) * time.as_millis() / u128::from(starts.max(1));
    Duration::from_millis(u64::try_from(waits).unwrap_or(u64::MAX))
}

/// As many as bring the wait down to what it should be, at most twice as many as there are.
fn needed(from: u32, wait: Duration, rule: &Rule) -> u32 {
    let wait_ms = wait.as_millis().saturating_mul(from.into());
    let needed = wait_ms.div_ceil(rule.wait.as_millis().max(1));
    u32::try_from(needed).unwrap_or(u32::MAX).clamp(from + 1, from * 2)
}

#[cfg(test)]
mod tests {
    use fourmi_model::{ScaleProcesses, ScaleSlots};

    use super::*;

    /// A queue that is looked at once a second; what is decided is done at once.
    struct Scene {
        rule: Rule,
        history: History,
        now: u64,
        signal: ScaleSignal,
    }

    impl Scene {
        fn new(rule: &str, processes: u32) -> Self {
            let processes = ScaleProcesses { wanted: Some(processes), live: processes, ..ScaleProcesses::default() };
            let signal = ScaleSignal {
                queue: "media".parse().unwrap(),
                waiting: 0,
                running: 0,
                load: 0,
                oldest_waiting_ms: None,
                started: 0,
                starts_per_second: None,
                estimated_drain_ms: None,
                processes,
                slots: ScaleSlots::default(),
                autoscale: None,
            };
            Self { rule: rule.parse().unwrap(), history: History::default(), now: 0, signal }
        }

        fn look(&mut self) -> Option<Decision> {
            self.now += 1;
            self.history.note(&self.rule, Duration::from_secs(self.now), &self.signal);
            decide(&self.rule, &self.history, &self.signal)
        }

        /// Looks for so many seconds: the numbers that were decided, each with the second.
        fn run(&mut self, seconds: u64, mut happens: impl FnMut(&mut ScaleSignal)) -> Vec<(u64, u32)> {
            let mut decided = Vec::new();
            for second in 1..=seconds {
                happens(&mut self.signal);
                if let Some(decision) = self.look() {
                    decided.push((second, decision.to));
                    self.signal.processes.wanted = Some(decision.to);
                    self.signal.processes.live = decision.to;
                }
            }
            decided
        }
    }

    /// Each process starts so many jobs a second, and none is idle.
    fn busy(waiting: u64, each: u64) -> impl FnMut(&mut ScaleSignal) {
        move |signal| {
            signal.waiting = waiting;
            signal.started += each * u64::from(signal.processes.live);
            signal.processes.idle.clear();
        }
    }

    fn idle(signal: &mut ScaleSignal) {
        signal.waiting = 0;
        signal.processes.idle = vec!["w".into()];
    }

    #[test]
    fn a_rule_is_read_and_what_is_wrong_is_refused() {
        let rule: Rule = "media=1..4".parse().unwrap();
        assert_eq!(
            (rule.bounds, rule.wait.as_secs(), rule.cooldown.as_secs()),
            (ScaleBounds { min: 1, max: 4 }, 10, 60)
        );
        let rule: Rule = "media=0..64,cooldown=5m,wait=90s".parse().unwrap();
        assert_eq!((rule.wait.as_secs(), rule.cooldown.as_secs()), (90, 300));
        for wrong in
            ["", "media", "media=3", "media=4..1", "media=1..65", "x=1..2", "media=1..2,wait=0s", "media=1..2,x=1s"]
        {
            assert!(wrong.parse::<Rule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn more_processes_come_as_needed_but_never_more_than_twice_as_many() {
        // 200 jobs at 10 a second are 20 seconds: twice too many.
        assert_eq!(Scene::new("media=1..8,wait=10s", 1).run(15, busy(200, 10)), [(11, 2)]);
        // Far too many: it doubles, each time after it has seen what the last change brought.
        assert_eq!(Scene::new("media=1..7,wait=10s", 1).run(40, busy(100_000, 1)), [(11, 2), (22, 4), (33, 7)]);
        assert_eq!(Scene::new("media=1..8,wait=10s", 4).run(15, busy(500, 10)), [(11, 5)]);
        assert_eq!(Scene::new("media=1..8,wait=10s", 1).run(60, busy(99, 10)), []);
    }

    #[test]
    fn where_nothing_starts_the_oldest_job_tells() {
        let stuck = |age| {
            move |signal: &mut ScaleSignal| {
                signal.waiting = 5;
                signal.oldest_waiting_ms = Some(age);
            }
        };
        assert_eq!(Scene::new("media=1..8,wait=10s", 2).run(15, stuck(15_000)), [(11, 3)]);
        assert_eq!(Scene::new("media=1..8,wait=10s", 2).run(15, stuck(5_000)), []);
        assert_eq!(Scene::new("media=0..8", 0).run(3, stuck(0)), [(1, 1)], "nobody else would start it");
    }

    #[test]
    fn fewer_come_one_by_one_after_the_cool_down() {
        let mut scene = Scene::new("media=1..8,cooldown=30s", 3);
        assert_eq!(scene.run(100, idle), [(31, 2), (62, 1)]);
        // A process that has work in between starts the cool-down anew.
        let mut scene = Scene::new("media=1..8,cooldown=30s", 3);
        assert_eq!(scene.run(25, idle), []);
        assert_eq!(scene.run(1, busy(0, 1)), []);
        assert_eq!(scene.run(31, idle), [(31, 2)]);
        assert_eq!(Scene::new("media=0..8,cooldown=5s", 1).run(20, idle), [(6, 0)]);
    }

    #[test]
    fn jobs_that_are_held_back_need_no_more_processes() {
        let held = |signal: &mut ScaleSignal| {
            idle(signal);
            (signal.waiting, signal.oldest_waiting_ms) = (1_000, Some(3_600_000));
        };
        assert_eq!(Scene::new("media=1..8,wait=10s,cooldown=30s", 2).run(40, held), [(31, 1)]);
    }

    #[test]
    fn it_waits_for_the_processes_that_it_asked_for_and_keeps_its_bounds() {
        let mut scene = Scene::new("media=1..8,wait=10s", 2);
        scene.signal.processes.live = 1;
        assert_eq!(scene.run(60, busy(100_000, 1)), []);
        assert_eq!(Scene::new("media=1..4", 9).run(1, idle), [(1, 4)]);
        assert_eq!(Scene::new("media=2..4", 0).run(1, idle), [(1, 2)]);
        let mut unsaid = Scene::new("media=1..4", 1);
        unsaid.signal.processes.wanted = None;
        assert_eq!(unsaid.run(1, idle), [(1, 1)]);
    }
}
