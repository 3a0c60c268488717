//! Walking through a queue's jobs, index by index, in bounded steps, while jobs leave the indexes and others come.

use fourmi_model::{ParkReason, QueueName, State};
use redis::Value;
use uuid::Uuid;

use crate::{
    JobFilter, QueueError,
    link::Link,
    read::{meta_key, number, text},
    scripts,
};

/// Entries that are looked at together.
pub(crate) const BATCH: usize = 200;

/// An index that is walked through. A job's own state decides whether an entry counts.
pub(crate) struct Index {
    name: &'static str,
    order: Order,
    pub(crate) states: &'static [State],
    /// Of an index of parked jobs.
    parked: Option<ParkReason>,
}

/// How an index keeps its entries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Sorted,
    /// Sorted, and listed from its end.
    NewestFirst,
    List,
    /// All lanes, each of which is a list.
    Lanes,
}

/// From which end sorted indexes are walked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// As a list shows them: of finished jobs the newest first.
    AsListed,
    /// The oldest first.
    OldestFirst,
}

const fn index(name: &'static str, order: Order, states: &'static [State]) -> Index {
    Index { name, order, states, parked: None }
}

const fn parked(name: &'static str, reason: ParkReason) -> Index {
    Index { name, order: Order::Sorted, states: &[State::Parked], parked: Some(reason) }
}

/// The indexes in the order of the walk.
pub(crate) const INDEXES: [Index; 11] = [
    index("lease", Order::Sorted, &[State::Running]),
    index("suspects", Order::List, &[State::Waiting]),
    index("lanes", Order::Lanes, &[State::Waiting]),
    index("later", Order::Sorted, &[State::Scheduled, State::Retrying]),
    index("blocked", Order::Sorted, &[State::Blocked]),
    parked("parked:not_configured", ParkReason::NotConfigured),
    parked("parked:offline", ParkReason::Offline),
    parked("parked:provider_down", ParkReason::ProviderDown),
    parked("parked:uncertain", ParkReason::Uncertain),
    index("dead", Order::NewestFirst, &[State::Failed]),
    index("done", Order::NewestFirst, &[State::Succeeded, State::Cancelled]),
];

impl Index {
    /// Whether it may hold jobs that the filter wants.
    pub(crate) fn is_wanted(&self, filter: &JobFilter) -> bool {
        let by_end = filter.finished_after.is_some() || filter.finished_before.is_some();
        (filter.states.is_empty() || self.states.iter().any(|state| filter.states.contains(state)))
            && (filter.parked_reason.is_none() || filter.parked_reason == self.parked)
            && (!by_end || self.states.iter().any(|state| state.is_final()))
    }

    fn word(&self, way: Way) -> &'static str {
        match (self.order, way) {
            (Order::Lanes, _) => "lanes",
            (Order::List, _) => "list",
            (Order::NewestFirst, Way::AsListed) => "down",
            (Order::Sorted | Order::NewestFirst, _) => "up",
        }
    }

    /// Whether this can be the time of an entry or its place in a list.
    fn can_be_at(&self, at: &str) -> bool {
        match self.order {
            Order::Sorted | Order::NewestFirst => at.parse::<f64>().is_ok_and(f64::is_finite),
            // Redis and Lua count further than any list is long, but not without end.
            Order::List | Order::Lanes => at.parse::<u64>().is_ok_and(|place| place < 1 << 40),
        }
    }
}

/// An entry that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: Uuid,
    /// Its time, or its place in its list.
    at: String,
    lane: String,
}

/// Where a walk goes on: in which index, behind which entry of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    index: usize,
    after: Option<Entry>,
}

impl Place {
    /// Reads what [`Place::write`] wrote.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (index, after) = text.split_once('_').map_or((text, None), |(index, after)| (index, Some(after)));
        let index: usize = index.parse().ok()?;
        let known = INDEXES.get(index)?;
        let Some(after) = after else { return Some(Self { index, after: None }) };
        let [at, id, lane] = after.split('_').collect::<Vec<_>>().try_into().ok()?;
        let lane = String::from_utf8(hex::decode(lane).ok()?).ok()?;
        let entry = Entry { id: Uuid::try_parse(id).ok()?, at: at.to_owned(), lane };
        known.can_be_at(at).then_some(Self { index, after: Some(entry) })
    }

    /// A text that callers bring back; opaque and URL-safe.
    pub(crate) fn write(&self) -> String {
        match &self.after {
            Some(Entry { id, at, lane }) => format!("{}_{at}_{id}_{}", self.index, hex::encode(lane)),
            None => self.index.to_string(),
        }
    }

    /// The index, or the next one that may hold what the filter wants; `None` at the end.
    pub(crate) fn index(&mut self, filter: &JobFilter) -> Option<&'static Index> {
        loop {
            let index = INDEXES.get(self.index)?;
            if index.is_wanted(filter) {
                return Some(index);
            }
            self.leave_index();
        }
    }

    pub(crate) fn leave_index(&mut self) {
        *self = Self { index: self.index + 1, after: None };
    }

    /// Goes behind an entry of the index.
    pub(crate) fn pass(&mut self, entry: Entry) {
        self.after = Some(entry);
    }
}

/// Entries of an index that were read together.
pub(crate) struct Entries {
    pub(crate) found: Vec<Entry>,
    /// The time of Redis, in ms.
    pub(crate) now: i64,
    /// Whether the index may hold more.
    pub(crate) more: bool,
}

/// The entries of an index behind a place in it, [`BATCH`] at most.
pub(crate) async fn entries(
    link: &Link,
    queue: &QueueName,
    index: &Index,
    way: Way,
    place: &Place,
) -> Result<Entries, QueueError> {
    let mut call = scripts::WALK.key(meta_key(queue));
    call.arg(index.name).arg(index.word(way)).arg(BATCH);
    match &place.after {
        Some(Entry { id, at, lane }) => call.arg(at).arg(id.hyphenated().to_string()).arg(lane),
        None => call.arg("").arg("").arg(""),
    };
    let answer: Vec<Value> = link.invoke(&call).await?;
    let [now, more, entries @ ..] = answer.as_slice() else {
        return Err(QueueError::Corrupt(format!("the index {} of queue {queue}", index.name)));
    };
    let found = entries.chunks_exact(3).map(|entry| Entry {
        // What is no id is that of no job.
        id: Uuid::try_parse(text(&entry[0])).unwrap_or_default(),
        at: match &entry[1] {
            Value::Int(place) => place.to_string(),
            time => text(time).to_owned(),
        },
        lane: text(&entry[2]).to_owned(),
    });
    let found: Vec<_> = found.collect();
    Ok(Entries { more: number(more) == 1 && !found.is_empty(), found, now: number(now) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_as_itself() {
        let entry = |at: &str, lane: &str| {
            let id = Uuid::from_u128(7);
            Some(Entry { id, at: at.into(), lane: lane.into() })
        };
        for place in [
            Place::default(),
            Place { index: 9, after: None },
            Place { index: 3, after: entry("1790000000000", "") },
            Place { index: 2, after: entry("41", "2 tenant_a kind/a.b") },
        ] {
            assert_eq!(Place::read(&place.write()), Some(place));
        }
    }

    #[test]
    fn what_nobody_wrote_is_no_place() {
        let id = Uuid::from_u128(7);
        for text in ["", "x", "11", "-1", "0_", "0_1", "0_1_2", "0_1_2_", "99999999999999999999"] {
            assert_eq!(Place::read(text), None, "{text}");
        }
        for at in ["", "inf", "NaN", "1e999", "x"] {
            assert_eq!(Place::read(&format!("0_{at}_{id}_")), None, "{at}");
        }
        for at in ["-1", "1.5", "1099511627776", "9223372036854775807"] {
            assert_eq!(Place::read(&format!("2_{at}_{id}_")), None, "{at}");
        }
        assert_eq!(Place::read(&format!("2_1_{id}_zz")), None);
    }
}
