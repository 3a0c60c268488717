//! Every transition that Redis has ever written, read from its append-only file. What it publishes is a hint that a kill
//! swallows; its log holds each change of a job's hash, in order, and with `appendfsync always` nothing else is true.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
};

use fourmi_model::State;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The hash of a job after a script that wrote its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Transition {
    pub(super) state: State,
    pub(super) run: u64,
    pub(super) version: u64,
    pub(super) attempts: u32,
    pub(super) crashes: u32,
    /// When the newest run started, in Redis's milliseconds.
    pub(super) started: Option<i64>,
    /// Who has it, or had it last.
    pub(super) worker: Option<String>,
    /// Its place among the transitions of all jobs.
    pub(super) place: usize,
}

/// What the log of a Redis says.
pub(super) struct Log {
    /// The transitions of all jobs.
    pub(super) transitions: BTreeMap<Uuid, Vec<Transition>>,
    /// The most jobs that ever ran under a limit at the same time.
    pub(super) most_under_a_limit: usize,
}

/// The log of a queue, from the folder of a Redis that has never rewritten it.
pub(super) fn read(folder: &Path, queue: &str) -> Log {
    let files = fs::read_dir(folder.join("appendonlydir")).unwrap().flatten().map(|entry| entry.path());
    let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "aof")).collect();
    logs.sort();
    let mut jobs = Jobs { prefix: format!("{{{queue}}}:j:"), ..Jobs::default() };
    for log in logs {
        let bytes = fs::read(log).unwrap();
        let mut rest = bytes.as_slice();
        while let Some(command) = next_command(&mut rest) {
            jobs.apply(&command);
        }
    }
    Log { transitions: jobs.transitions, most_under_a_limit: jobs.most_under_a_limit }
}

/// `*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n`; `None` at the end, or where a kill has cut the log off.
fn next_command(rest: &mut &[u8]) -> Option<Vec<String>> {
    let mut words = 0;
    while words == 0 {
        let line = next_line(rest)?;
        // Other lines are remarks.
        words = line.strip_prefix('*').map_or(0, |count| count.parse().unwrap());
    }
    (0..words)
        .map(|_| {
            let length: usize = next_line(rest)?.strip_prefix('$')?.parse().ok()?;
            let word = String::from_utf8_lossy(rest.get(..length)?).into_owned();
            *rest = rest.get(length + 2..)?;
            Some(word)
        })
        .collect()
}

fn next_line(rest: &mut &[u8]) -> Option<String> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let line = String::from_utf8_lossy(&rest[..end]).trim_end().to_owned();
    *rest = &rest[end + 1..];
    Some(line)
}

#[derive(Default)]
struct Jobs {
    prefix: String,
    hashes: HashMap<Uuid, HashMap<String, String>>,
    transitions: BTreeMap<Uuid, Vec<Transition>>,
    seen: usize,
    under_a_limit: BTreeSet<Uuid>,
    most_under_a_limit: usize,
}

impl Jobs {
    fn apply(&mut self, command: &[String]) {
        let [verb, key, arguments @ ..] = command else { return };
        let Some(id) = key.strip_prefix(&self.prefix).and_then(|id| Uuid::try_parse(id).ok()) else { return };
        let hash = self.hashes.entry(id).or_default();
        match verb.to_ascii_uppercase().as_str() {
            "HSET" | "HMSET" => {
                for pair in arguments.chunks_exact(2) {
                    hash.insert(pair[0].clone(), pair[1].clone());
                }
                // A version without a state is progress or a wish to cancel.
                if arguments.iter().step_by(2).any(|field| field == "state") {
                    self.seen += 1;
                    self.transitions.entry(id).or_default().push(transition(hash, self.seen));
                    if hash["state"] == "running" && hash.contains_key("lim") {
                        self.under_a_limit.insert(id);
                    } else {
                        self.under_a_limit.remove(&id);
                    }
                    self.most_under_a_limit = self.most_under_a_limit.max(self.under_a_limit.len());
                }
            }
            "HINCRBY" => {
                let number = |text: &str| text.parse::<i64>().unwrap();
                let sum = hash.get(&arguments[0]).map_or(0, |old| number(old)) + number(&arguments[1]);
                hash.insert(arguments[0].clone(), sum.to_string());
            }
            "HDEL" => hash.retain(|field, _| !arguments.contains(field)),
            "DEL" | "UNLINK" => hash.clear(),
            _ => {}
        }
    }
}

fn transition(hash: &HashMap<String, String>, place: usize) -> Transition {
    let number = |field: &str| hash.get(field).map_or(0, |text| text.parse::<u64>().unwrap());
    Transition {
        state: hash["state"].parse().unwrap(),
        run: number("run"),
        version: number("ver"),
        attempts: number("att").try_into().unwrap(),
        crashes: number("crash").try_into().unwrap(),
        started: hash.get("start").map(|text| text.parse().unwrap()),
        worker: hash.get("worker").cloned(),
        place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(commands: &[&[&str]]) -> Vec<u8> {
        let words = |words: &&[&str]| {
            let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
            words
        };
        commands.iter().flat_map(|command| format!("*{}\r\n{}", command.len(), words(command)).into_bytes()).collect()
    }

    #[test]
    fn transitions_are_read_in_order_and_a_cut_end_is_left_out() {
        let id = Uuid::from_u128(7);
        let key = format!("{{q}}:j:{id}");
        let mut log = b"#TS:1\r\n".to_vec();
        log.extend(written(&[
            &["SELECT", "0"],
            &["HSET", &key, "state", "waiting", "ver", "1"],
            &["HSET", &key, "ver", "2"],
            &[
                "HSET", &key, "state", "running", "ver", "3", "run", "1", "worker", "w.1", "start", "17", "lim",
                "host/a",
            ],
            &["HSET", "{other}:j:x", "state", "waiting"],
            &["HSET", &key, "state", "succeeded", "ver", "4"],
        ]));
        log.truncate(log.len() - 3);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("appendonlydir")).unwrap();
        fs::write(folder.path().join("appendonlydir/appendonly.aof.1.incr.aof"), log).unwrap();
        let log = read(folder.path(), "q");
        assert_eq!(log.most_under_a_limit, 1);
        let seen: Vec<_> = log.transitions[&id].iter().map(|it| (it.state, it.version, it.run, it.started)).collect();
        assert_eq!(seen, [(State::Waiting, 1, 0, None), (State::Running, 3, 1, Some(17))]);
    }
}
