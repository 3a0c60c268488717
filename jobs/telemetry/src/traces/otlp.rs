//! Sends spans by OTLP over HTTP, as JSON (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fourmi_settings::Secret;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{Ended, TraceContext, Value, Word};

/// Spans that one request carries at most.
const BATCH: usize = 512;

/// How long spans wait for others to go with.
const LINGER: Duration = Duration::from_secs(1);

/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where spans go.
pub(super) struct Collector {
    http: reqwest::Client,
    url: String,
    resource: serde_json::Value,
    /// Whether the last request failed; only the first of a row is worth a line.
    failing: bool,
}

impl Collector {
    pub(super) fn new(endpoint: &str, headers: &[(String, Secret)], program: &str) -> anyhow::Result<Self> {
        // Whoever has chosen one already keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value.expose())?;
            value.set_sensitive(true);
            all.insert(HeaderName::try_from(name)?, value);
        }
        let http = reqwest::Client::builder().default_headers(all).timeout(PATIENCE).build()?;
        let of_process: [(&str, Value); 3] = [
            ("service.name", program.into()),
            ("service.version", env!("CARGO_PKG_VERSION").into()),
            ("process.pid", u64::from(std::process::id()).into()),
        ];
        let of_process = of_process.each_ref().map(|(name, value)| attribute(name, value));
        let resource = json!({ "attributes": of_process });
        Ok(Self { http, url: format!("{endpoint}/v1/traces"), resource, failing: false })
    }

    /// Sends what ends, until nobody can end anything any more.
    pub(super) async fn send_all(mut self, mut words: mpsc::Receiver<Word>) {
        let mut batch = Vec::new();
        while let Some(first) = words.recv().await {
            let mut next = Some(first);
            let mut flushed = Vec::new();
            let end = Instant::now() + LINGER;
            while let Some(word) = next.take() {
                match word {
                    Word::Ended(span) => batch.push(*span),
                    Word::Flush(done) => flushed.push(done),
                }
                if batch.len() < BATCH && flushed.is_empty() {
                    next = timeout_at(end, words.recv()).await.ok().flatten();
                }
            }
            if !batch.is_empty() {
                self.send(&batch).await;
                batch.clear();
            }
            for done in flushed {
                // Who does not wait any more need not know.
                let _ = done.send(());
            }
        }
    }

    async fn send(&mut self, spans: &[Ended]) {
        let scope = Scope { name: "fourmi", version: env!("CARGO_PKG_VERSION") };
        let scope_spans = [ScopeSpans { scope, spans: spans.iter().map(SpanDocument::of).collect() }];
        let request = Request { resource_spans: [ResourceSpans { resource: &self.resource, scope_spans }] };
        let answer = self.http.post(&self.url).json(&request).send().await;
        match answer.and_then(reqwest::Response::error_for_status) {
            Ok(_) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(error = %error.without_url(), "traces cannot be sent; what is not sent is lost");
            }
            Err(_) => {}
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: &'a serde_json::Value,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<SpanDocument<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanDocument<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: &'a str,
    kind: u8,
    // Numbers of 64 bits are texts in JSON.
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'a>>,
    links: Vec<LinkDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'a str,
    value: AnyValue<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum AnyValue<'a> {
    IntValue(String),
    StringValue(&'a str),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkDocument {
    trace_id: String,
    span_id: String,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u8,
    message: &'a str,
}

/// The status of a span that has failed (`STATUS_CODE_ERROR`).
const ERROR: u8 = 2;

fn attribute<'a>(key: &'a str, value: &'a Value) -> Attribute<'a> {
    let value = match value {
        Value::Number(number) => AnyValue::IntValue(number.to_string()),
        Value::Text(text) => AnyValue::StringValue(text),
    };
    Attribute { key, value }
}

impl<'a> SpanDocument<'a> {
    fn of(span: &'a Ended) -> Self {
        let id = |span: u64| format!("{span:016x}");
        let trace = |trace: u128| format!("{trace:032x}");
        let link = |link: &TraceContext| LinkDocument { trace_id: trace(link.trace()), span_id: id(link.span()) };
        Self {
            trace_id: trace(span.context.trace()),
            span_id: id(span.context.span()),
            parent_span_id: span.parent.map(id),
            name: &span.name,
            kind: span.kind as u8,
            start_time_unix_nano: nanoseconds(span.started),
            end_time_unix_nano: nanoseconds(span.ended),
            attributes: span.attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            links: span.links.iter().map(link).collect(),
            status: span.error.as_deref().map(|message| Status { code: ERROR, message }),
        }
    }
}

fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
