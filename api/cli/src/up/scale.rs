//! How many processes of each worker: what is asked for, and which of them end if there are too many.

use std::{cmp::Reverse, str::FromStr};

use fourmi_model::{MAX_PROCESSES, WorkerInfo};

/// A class of workers: its queue's name and its program, which lies beside this one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WorkerClass {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
}

/// Every class of workers.
pub(crate) const WORKERS: &[WorkerClass] = &[
    WorkerClass { name: "insight", program: "fourmi-insight" },
    WorkerClass { name: "maintenance", program: "fourmi-maintenance" },
    WorkerClass { name: "media", program: "fourmi-media" },
    WorkerClass { name: "messaging", program: "fourmi-messaging" },
];

/// The class of that name.
pub(crate) fn class(name: &str) -> Result<&'static WorkerClass, String> {
    let known = || WORKERS.iter().map(|class| class.name).collect::<Vec<_>>().join(", ");
    WORKERS.iter().find(|class| class.name == name).ok_or_else(|| format!("workers are: {}", known()))
}

/// `media=3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) class: &'static str,
    pub(crate) processes: u32,
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("it should be a worker, '=' and a number from 0 to {MAX_PROCESSES}, such as media=3");
        let (name, processes) = text.split_once('=').ok_or_else(wrong)?;
        let processes = processes.parse().ok().filter(|processes| *processes <= MAX_PROCESSES).ok_or_else(wrong)?;
        Ok(Self { class: class(name)?.name, processes })
    }
}

/// What was said last for a class on the command line.
pub(crate) fn said_of(class: &WorkerClass, scales: &[Scale]) -> Option<u32> {
    scales.iter().rev().find(|scale| scale.class == class.name).map(|scale| scale.processes)
}

/// How many processes of a class there shall be now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    pub(crate) class: &'static WorkerClass,
    pub(crate) processes: u32,
    /// Whether to wait for idle processes if there are too many.
    pub(crate) patient: bool,
    /// What the live processes of the queue say of themselves.
    pub(crate) workers: Vec<WorkerInfo>,
}

/// A process of ours, and what it says of itself; nothing if it starts just now.
pub(crate) type Ours<'a> = (u32, Option<&'a WorkerInfo>);

/// The numbers of the processes that end because there are `surplus` too many: those that drain already first, then idle
/// ones, then the least busy; of equal ones the highest number. Who is patient takes one a time, and none that is busy.
pub(crate) fn to_stop(mut ours: Vec<Ours<'_>>, surplus: usize, patient: bool) -> Vec<u32> {
    let busy = |worker: Option<&WorkerInfo>| worker.map_or(0, |worker| worker.busy);
    let draining = |worker: Option<&WorkerInfo>| worker.is_some_and(|worker| worker.draining);
    let mut most = surplus;
    if patient {
        ours.retain(|(_, worker)| worker.is_some() && (busy(*worker) == 0 || draining(*worker)));
        most = surplus.min(1);
    }
    ours.sort_by_key(|(number, worker)| (!draining(*worker), busy(*worker), Reverse(*number)));
    ours.into_iter().map(|(number, _)| number).take(most).collect()
}

/// The lowest numbers that nobody has, as many as are missing.
pub(crate) fn free_numbers(taken: &[u32], missing: usize) -> Vec<u32> {
    (1..).filter(|number| !taken.contains(number)).take(missing).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_last_word_counts() {
        let scales = ["media=0".parse().unwrap(), "media=3".parse().unwrap()];
        let media = class("media").unwrap();
        assert_eq!((said_of(media, &scales), said_of(media, &[])), (Some(3), None));
        for text in ["media", "media=", "media=-1", "media=65", "video=1"] {
            assert!(text.parse::<Scale>().is_err(), "{text}");
        }
    }

    fn worker(busy: u32, draining: bool) -> WorkerInfo {
        WorkerInfo {
            name: "w".into(),
            queue: "media".parse().unwrap(),
            host: "h".into(),
            pid: 1,
            version: "1".into(),
            kinds: std::collections::BTreeMap::new(),
            slots: 4,
            busy,
            jobs: Vec::new(),
            memory_bytes: 0,
            cpu_percent: 0.0,
            started_at: Timestamp::UNIX_EPOCH,
            last_seen: Timestamp::UNIX_EPOCH,
            draining,
        }
    }

    #[test]
    fn idle_processes_end_first_and_busy_ones_only_if_somebody_said_so() {
        let (idle, busy, busier, leaving) = (worker(0, false), worker(1, false), worker(3, false), worker(4, true));
        let ours = || vec![(1, Some(&busier)), (2, Some(&idle)), (3, Some(&busy)), (4, Some(&idle)), (5, None)];
        assert_eq!(to_stop(ours(), 2, false), [5, 4]);
        assert_eq!(to_stop(ours(), 4, false), [5, 4, 2, 3]);
        assert_eq!(to_stop(ours(), 3, true), [4], "one at a time, and none that has not said what it does");
        assert!(to_stop(vec![(1, Some(&busy)), (2, Some(&busier))], 1, true).is_empty());
        assert_eq!(to_stop(vec![(1, Some(&idle)), (2, Some(&leaving))], 1, true), [2]);
    }

    #[test]
    fn numbers_are_used_again() {
        assert_eq!(free_numbers(&[1, 3], 3), [2, 4, 5]);
        assert!(free_numbers(&[], 0).is_empty());
    }
}
