//! How many processes of each worker.

use std::{collections::BTreeMap, str::FromStr};

/// A class of workers: its queue's name and its program, which lies beside this one.
pub(crate) struct WorkerClass {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
}

/// Every class of workers.
pub(crate) const WORKERS: &[WorkerClass] = &[WorkerClass { name: "media", program: "fourmi-media" }];

/// `media=3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scale {
    name: &'static str,
    processes: u16,
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || WORKERS.iter().map(|class| class.name).collect::<Vec<_>>().join(", ");
        let wrong = || format!("it should be a worker ({}), '=' and a number from 0 to 256, such as media=3", known());
        let (name, processes) = text.split_once('=').ok_or_else(wrong)?;
        let class = WORKERS.iter().find(|class| class.name == name).ok_or_else(wrong)?;
        let processes = processes.parse().ok().filter(|processes| *processes <= 256).ok_or_else(wrong)?;
        Ok(Self { name: class.name, processes })
    }
}

/// The number of processes of each class: one, or what was said last.
pub(crate) fn numbers(scales: &[Scale]) -> BTreeMap<&'static str, u16> {
    let one_each = WORKERS.iter().map(|class| (class.name, 1));
    one_each.chain(scales.iter().map(|scale| (scale.name, scale.processes))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_one_process_unless_said_otherwise() {
        assert_eq!(numbers(&[])["media"], 1);
        assert_eq!(numbers(&["media=0".parse().unwrap(), "media=3".parse().unwrap()])["media"], 3);
        for text in ["media", "media=", "media=-1", "media=999", "video=1"] {
            assert!(text.parse::<Scale>().is_err(), "{text}");
        }
    }
}
