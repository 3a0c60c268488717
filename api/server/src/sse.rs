//! Streams of server-sent events: what happens to one job.

use std::{convert::Infallible, fmt, time::Duration};

use fourmi_model::{Job, LogLine, Progress};
use fourmi_queue::{Update, Watch};
use futures_util::{Stream, StreamExt, stream};
use salvo::{
    Response,
    http::{HeaderMap, HeaderName, HeaderValue},
    sse::{SseEvent, SseKeepAlive},
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::problem::Problem;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The longest silence on a stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// When a client should come back after it lost the stream.
const RETRY: Duration = Duration::from_secs(2);

/// How much of a job was given: the id of an event, `<version>.<number of the newest line of its log>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) version: u64,
    pub(crate) line: u64,
}

impl Place {
    /// That of a whole document.
    pub(crate) fn of_job(job: &Job) -> Self {
        Self { version: job.version, line: job.log_lines }
    }

    fn of(watch: &Watch) -> Self {
        let (version, line) = watch.place();
        Self { version, line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.version, self.line)
    }
}

/// What a client has seen: a version and, unless it does not follow the log, a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) version: u64,
    pub(crate) line: Option<u64>,
}

impl Seen {
    /// Whether that is all that there will ever be.
    pub(crate) fn is_all_of(&self, job: &Job) -> bool {
        job.state.is_final() && self.version >= job.version && self.line.is_none_or(|line| line >= job.log_lines)
    }
}

/// What the client has seen; nonsense is nothing.
pub(crate) fn last_seen(headers: &HeaderMap) -> Option<Seen> {
    let text = headers.get(LAST_EVENT_ID)?.to_str().ok()?.trim();
    let (version, line) = text.split_once('.').map_or((text, None), |(version, line)| (version, Some(line)));
    Some(Seen { version: version.parse().ok()?, line: line.map(str::parse).transpose().ok()? })
}

/// Answers with the snapshot, if the client lacks it, and what follows, until the job is over or we stop.
///
/// The next event is asked for when the last one has gone out, and [`Watch`] keeps only the newest news in between: a
/// slow client costs no memory, and one that is gone is dropped with its stream.
///
/// # Errors
/// If the snapshot cannot be written as JSON: a mistake of the programmer.
pub(crate) fn answer(
    response: &mut Response,
    snapshot: Option<&Job>,
    watch: Watch,
    stop: CancellationToken,
) -> Result<(), Problem> {
    let mut opening = SseEvent::default().retry(RETRY);
    if let Some(job) = snapshot {
        opening = opening.name("snapshot").id(Place::of(&watch).to_string()).json(job).map_err(Problem::internal)?;
    }
    let events = stream::iter([Ok(opening)]).chain(tail(watch)).take_until(stop.cancelled_owned());
    SseKeepAlive::new(events).max_interval(KEEP_ALIVE).comment(" still here").stream(response);
    // Proxies of the nginx family would hold events back.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(())
}

fn tail(watch: Watch) -> impl Stream<Item = Result<SseEvent, Infallible>> + Send {
    stream::unfold(watch, |mut watch| async move {
        let update = watch.next().await?;
        Some((Ok(event(update, Place::of(&watch))), watch))
    })
}

/// Progress of a run, as the event `progress` carries it.
#[derive(Serialize)]
struct ProgressEvent {
    version: u64,
    run: u64,
    progress: Progress,
}

/// A line of the log, as the event `log` carries it.
#[derive(Serialize)]
struct LogEvent {
    #[serde(flatten)]
    line: LogLine,
    /// Lines before it that are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

/// An update that leaves the client at this place.
fn event(update: Update, place: Place) -> SseEvent {
    let (name, data) = match update {
        Update::State(job) => ("state", serde_json::to_string(&job)),
        Update::Progress { version, run, progress } => {
            ("progress", serde_json::to_string(&ProgressEvent { version, run, progress }))
        }
        Update::Log { line, missed } => {
            ("log", serde_json::to_string(&LogEvent { line, missed: Some(missed).filter(|missed| *missed > 0) }))
        }
    };
    match data {
        Ok(data) => SseEvent::default().name(name).id(place.to_string()).text(data),
        // The types of the model always become JSON; without data, a client ignores the event.
        Err(error) => SseEvent::default().comment(format!(" {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_block_with_its_version_as_id() {
        let progress = Progress { stage: "encode".into(), percent: 12.5, ..Progress::default() };
        let text = event(Update::Progress { version: 7, run: 1, progress }, Place { version: 7, line: 0 }).to_string();
        let data = r#"{"version":7,"run":1,"progress":{"stage":"encode","percent":12.5}}"#;
        assert_eq!(text, format!("event: progress\ndata: {data}\nid: 7.0\n\n"));
        let line = r#"{"n":3,"time":"2026-01-01T00:00:00Z","run":1,"level":"warn","text":"slow"}"#;
        let update = Update::Log { line: serde_json::from_str(line).unwrap(), missed: 0 };
        let text = event(update, Place { version: 7, line: 3 }).to_string();
        assert_eq!(text, format!("event: log\ndata: {line}\nid: 7.3\n\n"));
        assert_eq!(SseEvent::default().retry(RETRY).to_string(), "retry:2000\n\n");
    }

    #[test]
    fn nonsense_was_not_seen() {
        let seen_of = |version, line| Some(Seen { version, line });
        for (text, seen) in [
            ("7", seen_of(7, None)),
            ("7.41", seen_of(7, Some(41))),
            ("-1", None),
            ("7.", None),
            ("7.x", None),
            ("x", None),
            ("", None),
            ("18446744073709551616", None),
        ] {
            let headers = HeaderMap::from_iter([(LAST_EVENT_ID, HeaderValue::from_str(text).unwrap())]);
            assert_eq!(last_seen(&headers), seen, "{text}");
        }
    }
}
