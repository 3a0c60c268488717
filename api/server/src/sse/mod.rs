//! Streams of server-sent events: what happens to one job, to those of a batch, to all that a caller sees.

mod job;
mod limit;
mod many;
mod place;
mod processing;
mod vocabulary;

use std::{convert::Infallible, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use salvo::{
    Response,
    http::{HeaderMap, HeaderName, HeaderValue},
    sse::{SseEvent, SseKeepAlive},
};
use tokio_util::sync::CancellationToken;

pub use self::limit::Streams;
pub(crate) use self::{
    job::OneJob,
    limit::Permit,
    many::{ManyJobs, OVER, Scope},
    place::{Place, Seen},
    vocabulary::{Teller, Told, Vocabulary},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The longest silence on a stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// When a client should come back after it lost the stream.
const RETRY: Duration = Duration::from_secs(2);

/// When clients should come back after the server has stopped: not all at once.
const RETRY_AFTER_STOP: std::ops::Range<u64> = 1_000..5_000;

/// The newest event that a client has, in its own words.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(LAST_EVENT_ID)?.to_str().ok().map(str::trim)
}

/// Answers with these events until there are no more, the caller is logged out or we stop; the permit is given back then.
///
/// The next event is asked for when the last one has gone out, and whoever gives them keeps only the newest news in
/// between: a slow client costs little memory, and one that is gone is dropped with its stream.
pub(crate) fn answer(
    response: &mut Response,
    events: impl Stream<Item = SseEvent> + Send + 'static,
    permit: Permit,
    stop: CancellationToken,
) {
    let opening = SseEvent::default().retry(RETRY);
    let parting = stream::once(parting(stop.clone())).filter_map(std::future::ready);
    let events = stream::iter([opening]).chain(events);
    let events = events.take_until(permit.end()).take_until(stop.cancelled_owned()).chain(parting);
    let events = events.map(move |event| {
        let _until_the_end = &permit;
        Ok::<_, Infallible>(event)
    });
    SseKeepAlive::new(events).max_interval(KEEP_ALIVE).comment(" still here").stream(response);
    // Proxies of the nginx family would hold events back.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}

/// What is said last if we stop.
async fn parting(stop: CancellationToken) -> Option<SseEvent> {
    let wait = Duration::from_millis(rand::random_range(RETRY_AFTER_STOP));
    stop.is_cancelled().then(|| SseEvent::default().comment(" the server stops; come back").retry(wait))
}

/// The events of something that gives several at a time.
fn unfold<S: Send + 'static, F: Future<Output = Option<(Vec<SseEvent>, S)>> + Send + 'static>(
    start: S,
    next: impl Fn(S) -> F + Send + 'static,
) -> impl Stream<Item = SseEvent> + Send + 'static {
    stream::unfold(start, next).flat_map(stream::iter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_is_told_when_to_come_back() {
        assert_eq!(SseEvent::default().retry(RETRY).to_string(), "retry:2000\n\n");
        let stop = CancellationToken::new();
        assert!(parting(stop.clone()).await.is_none());
        stop.cancel();
        let text = parting(stop).await.unwrap().to_string();
        assert!(text.starts_with(": the server stops; come back\nretry:"), "{text}");
    }
}
