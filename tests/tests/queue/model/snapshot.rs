//! Everything that Redis holds at one moment, and the promises that must hold in it whatever has happened before.

use std::collections::{BTreeMap, HashMap};

use fourmi_model::State;
use proptest::{prelude::*, test_runner::TestCaseError};
use redis::{Connection, Script};

type Checked = Result<(), TestCaseError>;

/// One reply of `snapshot.lua`.
type Reply = (i64, Vec<(String, String, i64, Vec<String>)>);

#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Redis's time, ms.
    pub(super) now: i64,
    /// By name without the queue: what is left of its life (ms, -1: for ever), its contents.
    keys: BTreeMap<String, (i64, Vec<String>)>,
}

impl Snapshot {
    pub(super) fn take(script: &Script, redis: &mut Connection) -> Self {
        let (now, keys): Reply = script.invoke(redis).unwrap();
        let keys = keys.into_iter().map(|(key, _, life, contents)| {
            (key.strip_prefix("{test}:").map_or_else(|| format!("foreign {key}"), str::to_owned), (life, contents))
        });
        Self { now, keys: keys.collect() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.keys.contains_key(name)
    }

    pub(super) fn list(&self, name: &str) -> &[String] {
        self.keys.get(name).map_or(&[], |(_, contents)| contents)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.list(name).first().map(String::as_str)
    }

    pub(super) fn hash(&self, name: &str) -> HashMap<&str, &str> {
        self.list(name).chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect()
    }

    /// Members and scores, in order.
    pub(super) fn zset(&self, name: &str) -> Vec<(&str, i64)> {
        self.list(name).chunks(2).map(|pair| (pair[0].as_str(), pair[1].parse::<f64>().unwrap() as i64)).collect()
    }

    /// The entries of a stream, in order.
    pub(super) fn stream<'a>(&'a self, name: &str) -> Vec<HashMap<&'a str, &'a str>> {
        let fields = |entry: &'a String| {
            let texts: Vec<&str> = entry.split('\0').collect();
            texts.chunks(2).map(|pair| (pair[0], pair[1])).collect()
        };
        self.list(name).iter().map(fields).collect()
    }

    /// The entries of a lane ('2 t0 host/a').
    pub(super) fn lane(&self, lane: &str) -> &[String] {
        let (priority, name) = lane.split_once(' ').unwrap();
        self.list(&if name.is_empty() { format!("w:{priority}") } else { format!("w:{priority}:{name}") })
    }

    /// The lanes that have entries, by priority and name.
    pub(super) fn lanes(&self) -> Vec<String> {
        let lanes = self.keys.keys().filter_map(|key| key.strip_prefix("w:"));
        let mut lanes: Vec<String> =
            lanes.map(|lane| format!("{} {}", &lane[..1], lane.get(2..).unwrap_or(""))).collect();
        lanes.sort_unstable();
        lanes
    }

    /// The lanes that have their turn.
    pub(super) fn lanes_in_turn(&self) -> Vec<String> {
        let lists = self.keys.iter().filter_map(|(key, (_, lanes))| Some((key.strip_prefix("lanes:")?, lanes)));
        let mut lanes: Vec<String> =
            lists.flat_map(|(list, lanes)| lanes.iter().map(move |lane| format!("{} {lane}", &list[..1]))).collect();
        lanes.sort_unstable();
        lanes
    }

    /// The jobs, by id.
    pub(super) fn jobs(&self) -> BTreeMap<&str, HashMap<&str, &str>> {
        let jobs = self.keys.keys().filter_map(|key| Some((key.strip_prefix("j:")?, self.hash(key))));
        jobs.collect()
    }

    /// What must hold at every moment.
    pub(super) fn check(&self) -> Checked {
        let jobs = self.jobs();
        self.every_key_has_an_owner(&jobs)?;
        self.every_job_is_where_its_state_says(&jobs)?;
        self.every_lane_has_its_turn_or_sleeps()?;
        self.only_runs_hold_limits(&jobs)?;
        self.counts_are_right(&jobs)
    }

    fn every_key_has_an_owner(&self, jobs: &BTreeMap<&str, HashMap<&str, &str>>) -> Checked {
        for (name, (life, _)) in &self.keys {
            match name.split_once(':') {
                Some(("j", id)) => prop_assert!(self.has(&format!("b:{id}")), "{name} has no envelope"),
                Some(("b" | "r" | "p" | "tries" | "log", id)) => {
                    prop_assert!(jobs.contains_key(id), "{name} has no job")
                }
                Some(("w" | "parked" | "ring" | "lanes" | "sleep" | "hold", _)) => {}
                Some(("rate", _)) => prop_assert!(*life > 0, "{name} is kept for ever"),
                Some(("u", _)) => self.its_holder_is_there(name, *life, jobs)?,
                Some(("i", _)) => prop_assert!(*life > 0, "{name} is kept for ever"),
                None if name == "volunteer" => prop_assert!(*life > 0, "{name} is kept for ever"),
                None => {
                    let known = [
                        "m", "suspects", "later", "lease", "done", "dead", "expiry", "out", "limits", "asleep", "lanes",
                    ];
                    prop_assert!(known.contains(&name.as_str()), "{name} is nobody's");
                }
                _ => prop_assert!(false, "{name} is nobody's"),
            }
        }
        Ok(())
    }

    /// A job that excludes its like has not started, or is not over; what is for a time goes by itself.
    fn its_holder_is_there(&self, name: &str, life: i64, jobs: &BTreeMap<&str, HashMap<&str, &str>>) -> Checked {
        let holder = self.text(name).unwrap_or_default();
        let (letter, id) = holder.split_at(1);
        if letter == "t" {
            prop_assert!(life > 0, "{name} is kept for ever");
            return Ok(());
        }
        let state: State = jobs.get(id).map_or(State::Failed, |job| job["state"].parse().unwrap());
        prop_assert!(!state.is_final() && life == -1, "{name} belongs to {id}, which is {state}");
        Ok(())
    }

    fn every_lane_has_its_turn_or_sleeps(&self) -> Checked {
        if !self.hash("m").contains_key("steer") {
            let plain = self.lanes().iter().all(|lane| lane.len() == 2);
            prop_assert!(plain && self.lanes_in_turn().is_empty(), "lanes take turns in a queue that is not steered");
            return Ok(());
        }
        let mut placed = self.lanes_in_turn();
        for key in self.keys.keys() {
            let Some(limit) = key.strip_prefix("sleep:") else { continue };
            for (lane, _) in self.zset(key) {
                prop_assert!(lane.split(' ').skip(2).any(|name| name == limit), "{lane} sleeps over {limit}");
                placed.push(lane.to_owned());
            }
        }
        placed.sort_unstable();
        prop_assert_eq!(&placed, &self.lanes(), "each lane has its turn or sleeps, once");
        let mut noted: Vec<String> = self.zset("lanes").into_iter().map(|(lane, _)| lane.to_owned()).collect();
        noted.sort_unstable();
        prop_assert_eq!(&noted, &placed, "every lane is noted");
        for priority in 0..4 {
            let mut ring = self.list(&format!("ring:{priority}")).to_vec();
            ring.sort_unstable();
            let prefix = format!("lanes:{priority}:");
            let tenants = self.keys.keys().filter_map(|key| key.strip_prefix(&prefix));
            prop_assert_eq!(ring, tenants.collect::<Vec<_>>(), "the ring of priority {}", priority);
        }
        Ok(())
    }

    fn only_runs_hold_limits(&self, jobs: &BTreeMap<&str, HashMap<&str, &str>>) -> Checked {
        let mut held: Vec<(&str, &str)> = Vec::new();
        for (id, job) in jobs {
            let over = job["state"].parse::<State>().is_ok_and(State::is_final);
            // What a run has held is not wiped off a job that is over.
            let names = job.get("lim").copied().filter(|_| !over).unwrap_or_default();
            prop_assert!(names.is_empty() || job["state"] == "running", "{id} is {} and holds {names}", job["state"]);
            prop_assert!(names.is_empty() || job.contains_key("ties"), "{id} holds {names} and has no ties");
            held.extend(names.split_whitespace().map(|name| (name, *id)));
        }
        let sets = self.keys.iter().filter_map(|(key, (_, ids))| Some((key.strip_prefix("hold:")?, ids)));
        let mut noted: Vec<(&str, &str)> =
            sets.flat_map(|(name, ids)| ids.iter().map(move |id| (name, id.as_str()))).collect();
        held.sort_unstable();
        noted.sort_unstable();
        prop_assert_eq!(noted, held, "who holds which limit");
        Ok(())
    }

    fn every_job_is_where_its_state_says(&self, jobs: &BTreeMap<&str, HashMap<&str, &str>>) -> Checked {
        let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, (_, contents)) in &self.keys {
            let step = match name.as_str() {
                "suspects" => 1,
                "later" | "lease" | "done" | "dead" | "expiry" => 2,
                _ if name.starts_with("w:") => 1,
                _ if name.starts_with("parked:") => 2,
                _ => continue,
            };
            // Which limits a lane has depends on what was bound when the entry was put there.
            let place = if step == 1 { name.split(' ').next().unwrap_or_default() } else { name.as_str() };
            for id in contents.iter().step_by(step) {
                places.entry(id).or_default().push(place.trim_end_matches(':'));
            }
        }
        for (id, job) in jobs {
            let state: State = job["state"].parse().unwrap();
            let index = match state {
                State::Waiting if job.contains_key("alone") => "suspects".to_owned(),
                State::Waiting => lane_of(job),
                State::Scheduled | State::Retrying => "later".to_owned(),
                State::Running => "lease".to_owned(),
                State::Parked => format!("parked:{}", job["reason"]),
                State::Succeeded | State::Cancelled => "done".to_owned(),
                State::Failed => "dead".to_owned(),
                State::Blocked => "blocked".to_owned(),
            };
            let mut expected = vec![index];
            if job.contains_key("left") {
                // The one entry that may disagree: it is skipped when it is met.
                prop_assert!(matches!(state, State::Cancelled | State::Failed), "{id} is {state} and left an entry");
                let alone = job.contains_key("alone");
                expected.push(if alone { "suspects".to_owned() } else { lane_of(job) });
            }
            if job.contains_key("deadline") && !state.is_final() {
                expected.push("expiry".to_owned());
            }
            expected.sort();
            let mut found = places.remove(id).unwrap_or_default();
            found.sort_unstable();
            prop_assert_eq!(found, expected, "{} is {}", id, state);
        }
        // What is left are entries of jobs that were cancelled in their lane and forgotten.
        for (id, places) in places {
            let lanes = places.len() == 1 && (places[0] == "suspects" || places[0].starts_with("w:"));
            prop_assert!(lanes, "{id} is gone, but in {places:?}");
        }
        Ok(())
    }

    fn counts_are_right(&self, jobs: &BTreeMap<&str, HashMap<&str, &str>>) -> Checked {
        let meta = self.hash("m");
        for state in State::ALL {
            let there = jobs.values().filter(|job| job["state"] == state.as_str()).count().to_string();
            let counted = meta.get(format!("n:{state}").as_str()).copied().unwrap_or("0");
            prop_assert_eq!(counted, there, "the count of {}", state);
        }
        Ok(())
    }

    /// What must hold of every job between two moments.
    pub(super) fn check_since(&self, before: &Self) -> Checked {
        let number = |job: &HashMap<&str, &str>, name: &str| job.get(name).map_or(0, |n| n.parse::<u64>().unwrap());
        let now = self.jobs();
        for (id, old) in before.jobs() {
            let Some(new) = now.get(id) else {
                let state: State = old["state"].parse().unwrap();
                prop_assert!(state.is_final(), "{id} was {state} and is gone");
                continue;
            };
            let (version, run) = (number(new, "ver"), number(new, "run"));
            prop_assert!(version >= number(&old, "ver"), "the version of {id} fell");
            prop_assert!(old["state"] == new["state"] || version > number(&old, "ver"), "{id}: no new version");
            let run_before = number(&old, "run");
            prop_assert!(run == run_before || run == run_before + 1, "{id}: run {run_before} became {run}");
            let starts = old["state"] != "running" && new["state"] == "running";
            prop_assert_eq!(run > run_before, starts, "{}: only a fetch makes a run", id);
            prop_assert_eq!(before.text(&format!("b:{id}")), self.text(&format!("b:{id}")), "an envelope changed");
        }
        Ok(())
    }
}

/// The lane of a job, without its limits.
fn lane_of(job: &HashMap<&str, &str>) -> String {
    let priority = job.get("prio").copied().unwrap_or("2");
    job.get("grp").map_or_else(|| format!("w:{priority}"), |tenant| format!("w:{priority}:{tenant}"))
}
