//! What goes wrong, and when: all of it follows from the seed.

use serde::{Deserialize, Serialize};

use super::{proxy::Line, random::Random};

/// One thing that goes wrong. Workers and submitters are named by their place, lines by that of their process: first
/// those of workers, then those of submitters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fault {
    KillWorker {
        worker: usize,
    },
    /// One of those that are there then.
    KillChild {
        worker: usize,
        child: u64,
    },
    KillSubmitter {
        submitter: usize,
    },
    /// SIGSTOP, then SIGCONT.
    PauseWorker {
        worker: usize,
        ms: u64,
    },
    /// SIGTERM; for so long nobody takes its place.
    DrainWorker {
        worker: usize,
        away_ms: u64,
    },
    /// Somebody steers the queue, and takes that back.
    Steer {
        control: Steering,
        ms: u64,
    },
    KillRedis {
        down_ms: u64,
    },
    PauseRedis {
        ms: u64,
    },
    Disturb {
        process: usize,
        line: Line,
        ms: u64,
    },
}

/// What somebody may set of a queue while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Steering {
    Pause,
    Cap(u32),
    Slots(u32),
}

impl Fault {
    /// How the scorecard counts it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::KillWorker { .. } => "kill -9 of a worker",
            Self::KillChild { .. } => "kill -9 of a child",
            Self::KillSubmitter { .. } => "kill -9 of a submitter",
            Self::PauseWorker { .. } => "worker paused",
            Self::DrainWorker { .. } => "worker drained",
            Self::Steer { control: Steering::Pause, .. } => "queue paused",
            Self::Steer { control: Steering::Cap(_), .. } => "queue capped",
            Self::Steer { control: Steering::Slots(_), .. } => "slots shared out",
            Self::KillRedis { .. } => "kill -9 of Redis",
            Self::PauseRedis { .. } => "Redis paused",
            Self::Disturb { line, .. } => match line {
                Line::Whole => "line whole",
                Line::Cut => "line cut",
                Line::Slow => "line slow",
                Line::DeafServer => "line holds back requests",
                Line::DeafClient => "line holds back answers",
                Line::HalfOpen => "line half open",
            },
        }
    }
}

/// Something that went wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Happened {
    pub(super) at: i64,
    /// When it was over.
    pub(super) until: i64,
    #[serde(flatten)]
    pub(super) what: Trouble,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Trouble {
    /// A fault of the plan: the process whose jobs it hit, if it was not Redis, and the child if it was one.
    Fault { fault: Fault, pid: Option<u32>, child: Option<u32> },
    /// Nobody wanted it, but this machine, or Redis on it, stood still for so long that leases may have run out.
    Stall,
    /// A process ended though nobody had asked it to.
    UnexpectedExit { pid: u32, process: String, how: String },
}

/// A fault and when it is due, in milliseconds from the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Planned {
    pub(super) at: u64,
    pub(super) fault: Fault,
}

/// Enough time for the processes to start.
const CALM_START_MS: u64 = 2_000;

/// The faults of so many seconds. They are dealt from a deck that holds each kind, so that none is left out for long.
pub(super) fn plan(seed: u64, seconds: u64, workers: usize, submitters: usize, lease_ms: u64) -> Vec<Planned> {
    let mut random = Random::new(seed, 0);
    let mut deck = Vec::new();
    let mut faults = Vec::new();
    let mut at = CALM_START_MS;
    while at < seconds * 1_000 {
        if deck.is_empty() {
            deck = (0..22_u64).collect();
            random.shuffle(&mut deck);
        }
        let worker = random.index(workers);
        let process = random.index(workers + submitters);
        let ms = random.between(lease_ms / 3, 2 * lease_ms);
        let few = u32::try_from(random.between(1, 8)).unwrap_or(1);
        let disturb = |line| Fault::Disturb { process, line, ms };
        let fault = match deck.pop().unwrap_or_default() {
            0..4 => Fault::KillWorker { worker },
            4..7 => Fault::KillChild { worker, child: random.below(100) },
            7..9 => Fault::KillSubmitter { submitter: random.index(submitters) },
            9..11 => Fault::PauseWorker { worker, ms: random.between(lease_ms * 5 / 4, 3 * lease_ms) },
            11 | 18 => Fault::DrainWorker { worker, away_ms: random.between(0, 3 * lease_ms) },
            19 => Fault::Steer { control: Steering::Pause, ms: random.between(lease_ms / 3, lease_ms) },
            20 => Fault::Steer { control: Steering::Cap(few), ms: 2 * ms },
            21 => Fault::Steer { control: Steering::Slots(few), ms: 2 * ms },
            12 => Fault::KillRedis { down_ms: random.between(0, 2 * lease_ms) },
            13 => Fault::PauseRedis { ms },
            14 => disturb(Line::Cut),
            15 => disturb(Line::Slow),
            16 => disturb(if random.percent(50) { Line::DeafServer } else { Line::DeafClient }),
            _ => disturb(Line::HalfOpen),
        };
        faults.push(Planned { at, fault });
        // Now and then there is peace, in which nothing must be repeated.
        at += if random.percent(10) { random.between(2_000, 4_000) } else { random.between(100, 1_300) };
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_gives_one_plan_with_every_kind_of_fault() {
        let faults = plan(7, 120, 3, 2, 1_500);
        assert_eq!(faults, plan(7, 120, 3, 2, 1_500));
        assert_ne!(faults, plan(8, 120, 3, 2, 1_500));
        let names: HashSet<_> = faults.iter().map(|planned| planned.fault.name()).collect();
        assert_eq!(names.len(), 15, "{names:?}");
        assert!(faults.len() > 100 && faults.is_sorted_by_key(|planned| planned.at));
    }
}
