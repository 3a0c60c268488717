//! Sends spans by OTLP over HTTP, as JSON (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fourmi_settings::Secret;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{Ended, Value, Word};

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
        let of_process = [
            attribute("service.name", &program.into()),
            attribute("service.version", &env!("CARGO_PKG_VERSION").into()),
            attribute("process.pid", &u64::from(std::process::id()).into()),
        ];
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
        let scope = json!({ "name": "fourmi", "version": env!("CARGO_PKG_VERSION") });
        let scope_spans = json!({ "scope": scope, "spans": spans.iter().map(document).collect::<Vec<_>>() });
        let request = json!({ "resourceSpans": [{ "resource": self.resource, "scopeSpans": [scope_spans] }] });
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

fn attribute(name: &str, value: &Value) -> serde_json::Value {
    let value = match value {
        // Numbers of 64 bits are texts in JSON.
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::Text(text) => json!({ "stringValue": text }),
    };
    json!({ "key": name, "value": value })
}

fn document(span: &Ended) -> serde_json::Value {
    let id = |span: u64| format!("{span:016x}");
    let trace = |trace: u128| format!("{trace:032x}");
    let links = span.links.iter().map(|link| json!({ "traceId": trace(link.trace()), "spanId": id(link.span()) }));
    let attributes = span.attributes.iter().map(|(name, value)| attribute(name, value));
    let mut document = json!({
        "traceId": trace(span.context.trace()),
        "spanId": id(span.context.span()),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": nanoseconds(span.started),
        "endTimeUnixNano": nanoseconds(span.ended),
        "attributes": attributes.collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
    });
    if let Some(parent) = span.parent {
        document["parentSpanId"] = json!(id(parent));
    }
    if let Some(error) = &span.error {
        document["status"] = json!({ "code": 2, "message": error });
    }
    document
}

fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
