//! A collector of traces: takes OTLP over HTTP, as JSON.

use std::sync::{Arc, Mutex};

use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, Router, Service, async_trait, conn::tcp::TcpAcceptor, http::StatusCode,
};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::eventually_async;

/// The largest request, in bytes.
const LARGEST: usize = 8 * 1024 * 1024;

/// A collector of the test's own on a free port.
pub struct OtlpReceiver {
    url: String,
    received: Received,
}

#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Value>>>);

impl OtlpReceiver {
    /// Starts one, which wants the token `collector-token`.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = Received::default();
        let service = Service::new(Router::with_path("v1/traces").post(received.clone()));
        tokio::spawn(salvo::Server::new(TcpAcceptor::try_from(listener).unwrap()).serve(service));
        Self { url, received }
    }

    /// What programs must be told to send there.
    pub fn settings(&self) -> [(&'static str, &str); 2] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &self.url),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20collector-token"),
        ]
    }

    /// The spans that have come so far, each with the name of its program as `service`.
    pub fn spans(&self) -> Vec<Value> {
        self.received.0.lock().unwrap().clone()
    }

    /// Waits for a span of this name for which something holds.
    pub async fn span(&self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        eventually_async(&format!("the span {name}"), async || {
            self.spans().into_iter().find(|span| span["name"] == name && is_it(span))
        })
        .await
    }
}

#[async_trait]
impl Handler for Received {
    async fn handle(&self, request: &mut Request, _: &mut Depot, response: &mut Response, _: &mut FlowCtrl) {
        if request.headers().get("authorization").is_none_or(|shown| shown != "Bearer collector-token") {
            response.status_code(StatusCode::UNAUTHORIZED);
            return;
        }
        let body = request.payload_with_max_size(LARGEST).await.unwrap();
        let body: Value = serde_json::from_slice(body).unwrap();
        for resource in body["resourceSpans"].as_array().unwrap() {
            let attributes = resource["resource"]["attributes"].as_array().unwrap();
            let service =
                attributes.iter().find(|it| it["key"] == "service.name").unwrap()["value"]["stringValue"].clone();
            for span in resource["scopeSpans"].as_array().unwrap().iter().flat_map(|it| it["spans"].as_array().unwrap())
            {
                let mut span = span.clone();
                span["service"] = service.clone();
                self.0.lock().unwrap().push(span);
            }
        }
        response.render("{}");
    }
}
