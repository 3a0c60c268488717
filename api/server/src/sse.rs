//! Streams of server-sent events: what happens to one job.

use std::{convert::Infallible, time::Duration};

use fourmi_model::{Job, Progress};
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

/// The version that the client has seen; nonsense is nothing.
pub(crate) fn last_seen(headers: &HeaderMap) -> Option<u64> {
    headers.get(LAST_EVENT_ID)?.to_str().ok()?.trim().parse().ok()
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
        opening = opening.name("snapshot").id(job.version.to_string()).json(job).map_err(Problem::internal)?;
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
        Some((Ok(event(update)), watch))
    })
}

/// Progress of a run, as the event `progress` carries it.
#[derive(Serialize)]
struct ProgressEvent {
    version: u64,
    run: u64,
    progress: Progress,
}

fn event(update: Update) -> SseEvent {
    let (name, version, data) = match update {
        Update::State(job) => ("state", job.version, serde_json::to_string(&job)),
        Update::Progress { version, run, progress } => {
            ("progress", version, serde_json::to_string(&ProgressEvent { version, run, progress }))
        }
    };
    match data {
        Ok(data) => SseEvent::default().name(name).id(version.to_string()).text(data),
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
        let text = event(Update::Progress { version: 7, run: 1, progress }).to_string();
        let data = r#"{"version":7,"run":1,"progress":{"stage":"encode","percent":12.5}}"#;
        assert_eq!(text, format!("event: progress\ndata: {data}\nid: 7\n\n"));
        assert_eq!(SseEvent::default().retry(RETRY).to_string(), "retry:2000\n\n");
    }

    #[test]
    fn nonsense_was_not_seen() {
        for (text, seen) in [("7", Some(7)), ("-1", None), ("x", None), ("", None), ("18446744073709551616", None)] {
            let headers = HeaderMap::from_iter([(LAST_EVENT_ID, HeaderValue::from_str(text).unwrap())]);
            assert_eq!(last_seen(&headers), seen, "{text}");
        }
    }
}
