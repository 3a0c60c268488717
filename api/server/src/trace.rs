//! What surrounds every request: its id, its line in the log, panics, security headers.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use fourmi_telemetry::traces::{Span, SpanKind, TraceContext, Tracer};
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

use crate::{Requests, problem::Problem};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken from a caller, in bytes.
const REQUEST_ID_BYTES: usize = 128;

/// How much of a refused body is read, so that the caller is not cut off before it has read why: twice what the largest
/// body in JSON may have.
const LINGER_BYTES: usize = 128 * 1024 * 1024;
/// For how long.
const LINGER: Duration = Duration::from_secs(10);

/// Surrounds every request, counts how long it takes, and traces it.
pub(crate) struct Trace {
    pub(crate) requests: Requests,
    /// `None` if traces are off.
    pub(crate) tracer: Option<Tracer>,
}

/// The id of a request, for what is remembered of it.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// The request that is being answered.
struct Current {
    id: String,
    /// What the first job that it made is correlated by, if not by its id.
    correlation_id: OnceLock<String>,
    /// Where it is in a trace.
    context: Option<TraceContext>,
}

tokio::task_local! {
    // Everything that a handler does is done in the task of its request; none need hand this on.
    static CURRENT: Arc<Current>;
}

/// What runs through the logs of a job that the current request makes: the word that its caller has chosen, which the
/// request's own line names too, else the id of the request.
pub(crate) fn correlation_id(chosen: Option<String>) -> Option<String> {
    let current = CURRENT.try_with(Arc::clone).ok();
    match (chosen, current) {
        (Some(chosen), Some(current)) => {
            current.correlation_id.get_or_init(|| chosen.clone());
            Some(chosen)
        }
        (None, Some(current)) => Some(current.id.clone()),
        (chosen, None) => chosen,
    }
}

/// Where a job that the current request makes belongs in a trace.
pub(crate) fn traceparent() -> Option<String> {
    CURRENT.try_with(|current| current.context.map(|context| context.to_string())).ok().flatten()
}

impl Trace {
    /// The span of a request, in the trace of whoever sent it.
    fn span(&self, request: &Request, id: &str) -> Option<Span> {
        let parent = request.headers().get(TRACEPARENT).and_then(|text| text.to_str().ok()?.parse().ok());
        let (method, route) = (request.method().as_str(), request.matched_path());
        if parent.is_none() && BEGIN_NO_TRACE.contains(&route) {
            return None;
        }
        let mut span = self.tracer.as_ref()?.span(format!("{method} /{route}"), SpanKind::Server, parent);
        span.set("http.request.method", method);
        span.set("http.route", format!("/{route}"));
        span.set("request.id", id);
        Some(span)
    }
}

#[async_trait]
impl Handler for Trace {
    async fn handle(&self, request: &mut Request, depot: &mut Depot, response: &mut Response, flow: &mut FlowCtrl) {
        let id = request_id(request.headers());
        let mut trace = self.span(request, id.to_str().unwrap_or_default());
        let mut line = LogLine::new(request, &id, trace.as_ref().map(Span::context));
        let current = Arc::clone(&line.current);
        depot.insert_typed(RequestId(current.id.clone()));
        let span = tracing::info_span!("request", request.id = current.id);
        let answer = CURRENT.scope(current, AssertUnwindSafe(flow.call_next(request, depot, response)).catch_unwind());
        let answer = answer.instrument(span.clone());
        if let Err(panic) = answer.await {
            let _entered = span.enter();
            let problem = Problem::internal(format!("panic: {}", panic_message(&*panic)));
            problem.render(request.uri().path(), response);
        }
        response.headers_mut().insert(REQUEST_ID, id);
        protect(response.headers_mut());
        let status = response.status_code.unwrap_or_default();
        line.status = Some(status.as_u16());
        self.requests.observe(request.method(), &line.route, status.as_u16(), line.started.elapsed());
        drop(line);
        if let Some(trace) = &mut trace {
            trace.set("http.response.status_code", u64::from(status.as_u16()));
            if status.is_server_error() {
                trace.fail(status.to_string());
            }
        }
        drop(trace);
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

/// Routes that are asked all the time and lead to nothing: traces of them would drown everything else.
const BEGIN_NO_TRACE: [&str; 4] = [ASKED_ALL_THE_TIME[0], ASKED_ALL_THE_TIME[1], "api/v1/health/ping", "metrics"];

/// Writes one line when it is dropped, so that a caller who goes away leaves one too.
struct LogLine {
    current: Arc<Current>,
    method: String,
    route: String,
    started: Instant,
    status: Option<u16>,
}

impl LogLine {
    fn new(request: &Request, id: &HeaderValue, context: Option<TraceContext>) -> Self {
        Self {
            current: Arc::new(Current {
                id: id.to_str().unwrap_or_default().to_owned(),
                correlation_id: OnceLock::new(),
                context,
            }),
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
        let (method, route, id) = (&self.method, &self.route, &self.current.id);
        let correlation_id = self.current.correlation_id.get();
        match self.status {
            Some(status @ 200..=299) if ASKED_ALL_THE_TIME.contains(&route.as_str()) => {
                tracing::debug!(
                    http.method = method,
                    http.route = route,
                    http.status = status,
                    duration_ms,
                    request.id = id,
                    correlation.id = correlation_id,
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
                    correlation.id = correlation_id,
                    "answered"
                );
            }
            None => {
                tracing::info!(
                    http.method = method,
                    http.route = route,
                    duration_ms,
                    request.id = id,
                    correlation.id = correlation_id,
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
