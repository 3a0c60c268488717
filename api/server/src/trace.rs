//! What surrounds every request: its id, its line in the log, panics, security headers.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt};
use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, async_trait,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, EXPECT, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
};
use tracing::Instrument;
use uuid::Uuid;

use crate::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken from a caller, in bytes.
const REQUEST_ID_BYTES: usize = 128;

/// How much of a refused body is read, so that the caller is not cut off before it has read why.
const LINGER_BYTES: usize = 64 * 1024 * 1024;
/// For how long.
const LINGER: Duration = Duration::from_secs(2);

/// Surrounds every request.
pub(crate) struct Trace;

#[async_trait]
impl Handler for Trace {
    async fn handle(&self, request: &mut Request, depot: &mut Depot, response: &mut Response, flow: &mut FlowCtrl) {
        let id = request_id(request.headers());
        let mut line = LogLine::new(request, &id);
        let span = tracing::info_span!("request", request.id = line.id);
        let answer = AssertUnwindSafe(flow.call_next(request, depot, response)).catch_unwind().instrument(span.clone());
        if let Err(panic) = answer.await {
            let _entered = span.enter();
            let problem = Problem::internal(format!("panic: {}", panic_message(&*panic)));
            problem.render(request.uri().path(), response);
        }
        response.headers_mut().insert(REQUEST_ID, id);
        protect(response.headers_mut());
        let status = response.status_code.unwrap_or_default();
        line.status = Some(status.as_u16());
        drop(line);
        if status.is_client_error() || status.is_server_error() {
            linger(request).await;
        }
    }
}

/// The caller's id for the request if it is a plain word, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_word = |id: &&HeaderValue| {
        let plain = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-' | b':' | b'/');
        (1..=REQUEST_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(plain)
    };
    headers.get(REQUEST_ID).filter(is_word).cloned().unwrap_or_else(|| {
        let id = Uuid::now_v7().simple().to_string();
        HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}

/// Headers that a route did not set itself.
fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Reads on what a refused caller still sends: a connection that is closed on unread data is reset, and the answer lost.
async fn linger(request: &mut Request) {
    // This caller waits for the answer before it sends anything.
    if request.headers().contains_key(EXPECT) {
        return;
    }
    let body = request.body_mut();
    let read_on = async {
        let mut left = LINGER_BYTES;
        while let Some(Ok(frame)) = body.next().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len()));
            if left == 0 {
                return;
            }
        }
    };
    let _closed_otherwise = tokio::time::timeout(LINGER, read_on).await;
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}

/// Routes that scalers ask every second. Their good answers would drown everything else: they are logged for debugging.
const ASKED_ALL_THE_TIME: [&str; 2] = ["api/v1/queues/{queue}/scale", "api/v1/queues/{queue}/workers"];

/// Writes one line when it is dropped, so that a caller who goes away leaves one too.
struct LogLine {
    id: String,
    method: String,
    route: String,
    started: Instant,
    status: Option<u16>,
}

impl LogLine {
    fn new(request: &Request, id: &HeaderValue) -> Self {
        Self {
            id: id.to_str().unwrap_or_default().to_owned(),
            method: request.method().to_string(),
            // The pattern: the address itself may hold what should not be in a log.
            route: request.matched_path().to_owned(),
            started: Instant::now(),
            status: None,
        }
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let duration_ms = (self.started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        let (method, route, id) = (&self.method, &self.route, &self.id);
        match self.status {
            Some(status @ 200..=299) if ASKED_ALL_THE_TIME.contains(&route.as_str()) => {
                tracing::debug!(
                    http.method = method,
                    http.route = route,
                    http.status = status,
                    duration_ms,
                    request.id = id,
                    "answered"
                );
            }
            Some(status) => {
                tracing::info!(
                    http.method = method,
                    http.route = route,
                    http.status = status,
                    duration_ms,
                    request.id = id,
                    "answered"
                );
            }
            None => {
                tracing::info!(
                    http.method = method,
                    http.route = route,
                    duration_ms,
                    request.id = id,
                    "caller went away"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_request_id_is_kept_and_another_replaced() {
        let id_of = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(given).unwrap());
            request_id(&headers)
        };
        assert_eq!(id_of("abc-1.2_3"), "abc-1.2_3");
        for strange in ["", "a b", "a;b", &"x".repeat(129)] {
            assert_eq!(id_of(strange).len(), 32, "{strange:?}");
        }
    }
}
