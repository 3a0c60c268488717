//! Lists of jobs, over one queue or all of them.

use std::{fmt, str::FromStr, sync::Arc};

use fourmi_kinds::catalogue;
use fourmi_model::{Job, QueueName};
use fourmi_queue::{JobFilter, QueueError};
use salvo::{Depot, Request, Response, handler, http::StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    body,
    operation::state_of,
    problem::{Code, Problem},
    query::Query,
    redis::in_time,
    routes::jobs::Jobs,
};

/// Pages that one call reads at most: a filter that matches little must not keep Redis busy.
const MOST_READS: usize = 20;

/// A page of a list of jobs.
#[derive(Default, Serialize, JsonSchema)]
pub(super) struct JobList {
    /// The jobs; a page may hold fewer than asked for and still have a next one.
    jobs: Vec<Job>,
    /// Where the next page starts: the next call's `cursor`. `null` at the end.
    next: Option<String>,
}

/// The most jobs of a page.
#[derive(JsonSchema)]
#[schemars(inline, extend("default" = 50))]
pub(super) struct Limit(#[schemars(range(min = 1, max = 200))] usize);

impl FromStr for Limit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().filter(|number| (1..=200).contains(number));
        number.map(Self).ok_or("must be a number from 1 to 200")
    }
}

/// Where a page starts: `<queue>.<cursor of the queue>`; nothing after the dot stands for the queue's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    queue: QueueName,
    inside: Option<String>,
}

impl FromStr for Cursor {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (queue, inside) = text.split_once('.').ok_or_else(unknown_cursor)?;
        let queue = queue.parse().map_err(|_| unknown_cursor())?;
        Ok(Self { queue, inside: Some(inside).filter(|inside| !inside.is_empty()).map(str::to_owned) })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.queue, self.inside.as_deref().unwrap_or_default())
    }
}

fn unknown_cursor() -> Problem {
    Problem::new(Code::InvalidCursor, "Use `next` of the page before, or leave it out to start again.")
}

/// What the query may hold.
const KNOWN: [&str; 10] =
    ["state", "kind", "queue", "tag", "error", "parked_reason", "finished_after", "finished_before", "limit", "cursor"];

#[handler]
pub(super) async fn list_jobs(
    request: &mut Request,
    depot: &mut Depot,
    response: &mut Response,
) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let query = Query::of(request, &KNOWN)?;
    let filter = JobFilter {
        states: query.many("state")?,
        kind: query.one("kind")?,
        tag: query.one("tag")?,
        error: query.one("error")?,
        parked_reason: query.one("parked_reason")?,
        finished_after: query.one("finished_after")?,
        finished_before: query.one("finished_before")?,
        ..JobFilter::default()
    };
    let Limit(limit) = query.one("limit")?.unwrap_or(Limit(50));
    let queues = query.one("queue")?.map_or_else(|| catalogue().queues(), |queue| vec![queue]);
    let start = query.one::<String>("cursor")?.map(|text| text.parse()).transpose()?;
    body::write(response, StatusCode::OK, &page(&jobs, &queues, &filter, start, limit).await?)
}

/// Goes from queue to queue until the page is full.
async fn page(
    jobs: &Jobs,
    queues: &[QueueName],
    filter: &JobFilter,
    start: Option<Cursor>,
    limit: usize,
) -> Result<JobList, Problem> {
    let Some(first) = queues.first() else { return Ok(JobList::default()) };
    let mut at = start.unwrap_or_else(|| Cursor { queue: first.clone(), inside: None });
    if !queues.contains(&at.queue) {
        return Err(unknown_cursor());
    }
    let mut found = Vec::new();
    for _ in 0..MOST_READS {
        let missing = limit - found.len();
        let read = jobs.queues.list(&at.queue, filter, at.inside.as_deref(), missing);
        let page = in_time(async { Ok(read.await) }).await?.map_err(|error| list_problem(error, &at))?;
        found.extend(page.jobs);
        let next = match page.next {
            Some(inside) => Some(Cursor { queue: at.queue.clone(), inside: Some(inside) }),
            None => after(queues, &at.queue).map(|queue| Cursor { queue, inside: None }),
        };
        let Some(next) = next else { return Ok(JobList { jobs: found, next: None }) };
        at = next;
        if found.len() >= limit {
            break;
        }
    }
    Ok(JobList { jobs: found, next: Some(at.to_string()) })
}

fn after(queues: &[QueueName], queue: &QueueName) -> Option<QueueName> {
    queues.iter().skip_while(|other| *other != queue).nth(1).cloned()
}

/// A cursor that the queue cannot read came from the caller.
fn list_problem(error: QueueError, at: &Cursor) -> Problem {
    match error {
        QueueError::Corrupt(_) if at.inside.is_some() => unknown_cursor(),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_itself() {
        for text in ["media.", "media.abc", "media.a.b"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in ["", "media", ".abc", "Media.abc"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
