//! Lists of jobs: a walk through the indexes of their states.

use fourmi_model::{Job, ParkReason, QueueName, State};
use redis::Value;
use uuid::Uuid;

use crate::{
    JobFilter, Page, QueueError,
    link::Link,
    read::{jobs, key, meta_key, number, parked_index, text},
    scripts,
};

/// An index that a list walks through. A job's own state decides whether an entry counts.
struct Index {
    name: &'static str,
    order: Order,
    states: &'static [State],
}

/// How an index keeps its entries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// All lanes, each of which is a list.
    Lanes,
    List,
    Sorted,
    /// Sorted, and read from the end.
    NewestFirst,
}

/// The indexes in the order of the walk; those of parked jobs come before the finished ones.
const INDEXES: [Index; 7] = [
    Index { name: "lease", order: Order::Sorted, states: &[State::Running] },
    Index { name: "suspects", order: Order::List, states: &[State::Waiting] },
    Index { name: "lanes", order: Order::Lanes, states: &[State::Waiting] },
    Index { name: "later", order: Order::Sorted, states: &[State::Scheduled, State::Retrying] },
    Index { name: "blocked", order: Order::Sorted, states: &[State::Blocked] },
    Index { name: "dead", order: Order::NewestFirst, states: &[State::Failed] },
    Index { name: "done", order: Order::NewestFirst, states: &[State::Succeeded, State::Cancelled] },
];

/// A place in the walk: which index, which of its lanes, which entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    index: usize,
    lane: String,
    offset: usize,
}

impl Place {
    /// The text that callers bring back; opaque and URL-safe.
    fn cursor(&self) -> String {
        format!("{}.{}.{}", self.index, self.offset, hex::encode(&self.lane))
    }

    fn read(cursor: &str) -> Option<Self> {
        let mut parts = cursor.splitn(3, '.');
        let (index, offset) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let lane = String::from_utf8(hex::decode(parts.next()?).ok()?).ok()?;
        (index < 32 && offset < usize::MAX / 2).then_some(Self { index, lane, offset })
    }

    fn after(&self, entries: usize) -> Self {
        Self { offset: self.offset + entries, ..self.clone() }
    }

    fn next_index(&self) -> Self {
        Self { index: self.index + 1, ..Self::default() }
    }
}

/// Entries that were read together, each with its place, and where the walk goes on.
struct Entries {
    found: Vec<(Uuid, Place)>,
    next: Place,
}

/// Entries that are read together.
const STEP: usize = 200;

impl Index {
    async fn read(&self, link: &Link, queue: &QueueName, from: &Place) -> Result<Entries, QueueError> {
        if self.order == Order::Lanes {
            return lanes(link, queue, from).await;
        }
        let command = if self.order == Order::List { "LRANGE" } else { "ZRANGE" };
        let mut command = redis::cmd(command);
        command.arg(key(queue, self.name)).arg(from.offset).arg(from.offset + STEP - 1);
        if self.order == Order::NewestFirst {
            command.arg("REV");
        }
        let ids: Vec<String> = link.query(&command).await?;
        let next = if ids.len() < STEP { from.next_index() } else { from.after(ids.len()) };
        let found = ids.iter().enumerate().map(|(n, id)| (uuid(id), from.after(n))).collect();
        Ok(Entries { found, next })
    }
}

/// An entry that is no id is that of no job.
fn uuid(text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_default()
}

/// The next entries of one lane or several.
async fn lanes(link: &Link, queue: &QueueName, from: &Place) -> Result<Entries, QueueError> {
    let mut call = scripts::WAITING.key(meta_key(queue));
    let answer: Vec<Value> = link.invoke(call.arg(&from.lane).arg(from.offset).arg(STEP)).await?;
    let [lane, offset, entries @ ..] = answer.as_slice() else {
        return Err(QueueError::Corrupt(format!("the lanes of queue {queue}")));
    };
    let place = |lane: &Value, offset: &Value| Place {
        index: from.index,
        lane: text(lane).to_owned(),
        offset: number(offset).try_into().unwrap_or(0),
    };
    let next = if text(lane).is_empty() { from.next_index() } else { place(lane, offset) };
    let found = entries.chunks_exact(3).map(|entry| (uuid(text(&entry[0])), place(&entry[1], &entry[2]))).collect();
    Ok(Entries { found, next })
}

/// Entries that one page looks at, at most: a filter that matches little must not hold Redis up.
const ENTRIES_A_PAGE: usize = 5_000;

/// A page of jobs. The cursor is a place in an index: jobs that move meanwhile may be missed or met twice.
pub(crate) async fn list(
    link: &Link,
    queue: &QueueName,
    filter: &JobFilter,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Page, QueueError> {
    let limit = limit.clamp(1, 200);
    let unreadable = || QueueError::Corrupt("the cursor is none of this list's".into());
    let mut place = cursor.map_or(Some(Place::default()), Place::read).ok_or_else(unreadable)?;
    let indexes = indexes(link, queue, filter).await?;
    let mut page = Vec::new();
    let mut looked_at = 0;
    while let Some(index) = indexes.get(place.index) {
        if page.len() == limit || looked_at >= ENTRIES_A_PAGE {
            return Ok(Page { jobs: page, next: Some(place.cursor()) });
        }
        let Entries { found, next } = index.read(link, queue, &place).await?;
        let ids: Vec<Uuid> = found.iter().map(|(id, _)| *id).collect();
        for (job, (_, place)) in jobs(link, queue, &ids).await?.into_iter().zip(found) {
            if page.len() == limit {
                return Ok(Page { jobs: page, next: Some(place.cursor()) });
            }
            page.extend(job.filter(|job| index.states.contains(&job.state) && matches(filter, job)));
        }
        looked_at += ids.len();
        place = next;
    }
    Ok(Page { jobs: page, next: None })
}

async fn indexes(link: &Link, queue: &QueueName, filter: &JobFilter) -> Result<Vec<Index>, QueueError> {
    let mut indexes: Vec<Index> = INDEXES.into_iter().filter(|index| wanted(filter, index.states)).collect();
    if wanted(filter, &[State::Parked]) {
        let at = indexes.iter().position(|index| index.order == Order::NewestFirst).unwrap_or(indexes.len());
        for reason in ParkReason::ALL.iter().rev().filter(|reason| filter.parked_reason.is_none_or(|it| it == **reason))
        {
            let name = parked_index(*reason);
            indexes.insert(at, Index { name, order: Order::Sorted, states: &[State::Parked] });
        }
    }
    let mut command = redis::cmd("EXISTS");
    command.arg(meta_key(queue));
    let known: bool = link.query(&command).await?;
    Ok(if known { indexes } else { Vec::new() })
}

/// Whether jobs in these states may be what the filter wants.
fn wanted(filter: &JobFilter, states: &[State]) -> bool {
    let any = |wanted: &dyn Fn(State) -> bool| states.iter().any(|state| wanted(*state));
    let by_time = filter.finished_after.is_some() || filter.finished_before.is_some();
    (filter.states.is_empty() || any(&|state| filter.states.contains(&state)))
        && (filter.parked_reason.is_none() || any(&|state| state == State::Parked))
        && (!by_time || any(&State::is_final))
}

pub(crate) fn matches(filter: &JobFilter, job: &Job) -> bool {
    let error = job.error.as_ref().map(|error| &error.code);
    (filter.states.is_empty() || filter.states.contains(&job.state))
        && filter.kind.as_ref().is_none_or(|kind| *kind == job.kind)
        && filter.tag.as_ref().is_none_or(|tag| job.tags.contains(tag))
        && (filter.tenant.is_none() || filter.tenant == job.tenant)
        && (filter.submitted_by.is_none() || filter.submitted_by == job.submitted_by)
        && (filter.error.is_none() || filter.error.as_ref() == error)
        && (filter.parked_reason.is_none() || filter.parked_reason == job.parked_reason)
        && filter.created_after.is_none_or(|start| job.created_at >= start)
        && filter.created_before.is_none_or(|stop| job.created_at < stop)
        && filter.finished_after.is_none_or(|start| job.finished_at.is_some_and(|end| end >= start))
        && filter.finished_before.is_none_or(|stop| job.finished_at.is_some_and(|end| end < stop))
}
