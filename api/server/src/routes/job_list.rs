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
    caller::Caller,
    operation::state_of,
    problem::{Code, Problem},
    query::{self, Query},
    redis::in_time,
    routes::jobs::Jobs,
};

/// Entries that one call looks at, at most, to within as many: a filter that matches little must not keep Redis busy.
pub(super) const MOST_ENTRIES: usize = 5_000;

/// A page of a list of jobs.
#[derive(Default, Serialize, JsonSchema)]
pub(super) struct JobList {
    /// The jobs; a page may hold fewer than asked for and still have a next one.
    pub(super) jobs: Vec<Job>,
    /// Where the next page starts: the next call's `cursor`. `null` at the end.
    pub(super) next: Option<String>,
}

/// The most jobs of a page.
pub(super) type Limit = query::Limit<50, 200>;

/// Where a page or a step starts: `<queue>.<cursor of the queue>`; nothing after the dot stands for the queue's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) queue: QueueName,
    pub(super) inside: Option<String>,
}

impl Cursor {
    /// The place in these queues that the caller names, or their beginning; `None` if there are none.
    ///
    /// # Errors
    /// If it lies in another queue.
    pub(super) fn start(given: Option<Self>, queues: &[QueueName]) -> Result<Option<Self>, Problem> {
        match given {
            Some(given) if !queues.contains(&given.queue) => Err(unknown_cursor()),
            Some(given) => Ok(Some(given)),
            None => Ok(queues.first().map(|queue| Self { queue: queue.clone(), inside: None })),
        }
    }

    /// Where to go on: in the queue if there is more of it, else in the one behind it.
    pub(super) fn next(self, inside: Option<String>, queues: &[QueueName]) -> Option<Self> {
        if inside.is_some() {
            return Some(Self { inside, ..self });
        }
        let queue = queues.iter().skip_while(|other| **other != self.queue).nth(1)?;
        Some(Self { queue: queue.clone(), inside: None })
    }

    /// Why the place could not be read: what the queue does not know came from the caller.
    pub(super) fn problem(&self, error: QueueError) -> Problem {
        match error {
            QueueError::Corrupt(_) if self.inside.is_some() => unknown_cursor(),
            error => error.into(),
        }
    }
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

pub(super) fn unknown_cursor() -> Problem {
    Problem::new(Code::InvalidCursor, "Use `next` of the page before, or leave it out to start again.")
}

/// Where a page or a step starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// In the queues.
    Live(Cursor),
    /// Behind them: `-.<cursor of the records>`; nothing after the dot stands for the newest.
    Archived(Option<String>),
}

const ARCHIVED: &str = "-.";

impl FromStr for Start {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text.strip_prefix(ARCHIVED) {
            Some(inside) => Ok(Self::Archived(Some(inside).filter(|inside| !inside.is_empty()).map(str::to_owned))),
            None => Ok(Self::Live(text.parse()?)),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live(cursor) => cursor.fmt(f),
            Self::Archived(inside) => write!(f, "{ARCHIVED}{}", inside.as_deref().unwrap_or_default()),
        }
    }
}

/// What the query may hold.
const KNOWN: [&str; 14] = [
    "state",
    "kind",
    "queue",
    "tag",
    "tenant",
    "submitted_by",
    "error",
    "parked_reason",
    "created_after",
    "created_before",
    "finished_after",
    "finished_before",
    "limit",
    "cursor",
];

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
        tenant: query.one("tenant")?,
        submitted_by: query.one("submitted_by")?,
        parked_reason: query.one("parked_reason")?,
        created_after: query.one("created_after")?,
        created_before: query.one("created_before")?,
        finished_after: query.one("finished_after")?,
        finished_before: query.one("finished_before")?,
    };
    let limit = query.one::<Limit>("limit")?.unwrap_or_default().0;
    let queue = query.one("queue")?;
    let start = query.one::<String>("cursor")?.map(|text| text.parse()).transpose()?;
    let list = match Caller::of(depot)?.narrow(filter) {
        Some(filter) => page(&jobs, queue.as_ref(), &filter, start, limit).await?,
        None => JobList::default(),
    };
    body::write(response, StatusCode::OK, &list)
}

/// First the queues, then what is recorded.
pub(super) async fn page(
    jobs: &Jobs,
    queue: Option<&QueueName>,
    filter: &JobFilter,
    start: Option<Start>,
    limit: usize,
) -> Result<JobList, Problem> {
    let (mut found, start) = match start {
        Some(Start::Archived(inside)) => (Vec::new(), inside),
        start => {
            let queues = queue.map_or_else(|| catalogue().queues(), |queue| vec![queue.clone()]);
            let start = start.and_then(|start| if let Start::Live(cursor) = start { Some(cursor) } else { None });
            let (found, next) = live(jobs, &queues, filter, start, limit).await?;
            if let Some(next) = next {
                return Ok(JobList { jobs: found, next: Some(next.to_string()) });
            }
            if found.len() == limit {
                return Ok(JobList { jobs: found, next: Some(Start::Archived(None).to_string()) });
            }
            (found, None)
        }
    };
    let next = match jobs.archived(filter, queue, start.as_deref(), limit - found.len()).await {
        Ok((archived, next)) => {
            found.extend(archived);
            next.map(|inside| Start::Archived(Some(inside)))
        }
        // What is live is known even so; the next page says what is wrong.
        Err(_) if !found.is_empty() => Some(Start::Archived(None)),
        Err(problem) => return Err(problem),
    };
    Ok(JobList { jobs: found, next: next.map(|start| start.to_string()) })
}

/// Goes from queue to queue until the page is full; gives where more may be.
async fn live(
    jobs: &Jobs,
    queues: &[QueueName],
    filter: &JobFilter,
    start: Option<Cursor>,
    limit: usize,
) -> Result<(Vec<Job>, Option<Cursor>), Problem> {
    let (mut found, mut looked_at) = (Vec::new(), 0);
    let mut next = Cursor::start(start, queues)?;
    while found.len() < limit
        && looked_at < MOST_ENTRIES
        && let Some(at) = next.take()
    {
        let read = jobs.queues.list(&at.queue, filter, at.inside.as_deref(), limit - found.len());
        let page = in_time(async { Ok(read.await) }).await?.map_err(|error| at.problem(error))?;
        found.extend(page.jobs);
        looked_at += page.looked_at;
        next = at.next(page.next, queues);
    }
    Ok((found, next))
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
        for text in ["media.abc", "-.", "-.1.media-0"] {
            assert_eq!(text.parse::<Start>().unwrap().to_string(), text);
        }
    }
}
