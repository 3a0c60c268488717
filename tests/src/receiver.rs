//! The other side of webhooks: takes messages, checks their signatures as Standard Webhooks 1.0.0 says, and answers as a test
//! asks.

use std::{
    collections::{HashMap, VecDeque},
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, Router,
    conn::{Acceptor, Listener, TcpListener},
    http::{HeaderName, HeaderValue, StatusCode},
};
use serde_json::Value;
use sha2::Sha256;
use tokio::sync::watch;

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message as it came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// The path with its query.
    pub path: String,
    /// The headers, their names in lower case.
    pub headers: HashMap<String, String>,
    /// The body, to the byte.
    pub body: String,
}

impl Received {
    /// The id of the message.
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Whether one of the signatures is that of this secret (`whsec_…`).
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let signed = format!("{}.{}.{}", self.id(), self.headers["webhook-timestamp"], self.body);
        let verifies = |signature: &str| {
            let Some(bytes) = signature.strip_prefix("v1,").and_then(|text| BASE64_STANDARD.decode(text).ok()) else {
                return false;
            };
            let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(signed.as_bytes());
            mac.verify_slice(&bytes).is_ok()
        };
        self.headers["webhook-signature"].split(' ').any(verifies)
    }
}

/// An answer other than 200.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// Whether it never comes.
    pub hang: bool,
}

impl Reply {
    /// A status without more.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }
}

#[derive(Default)]
struct Inner {
    received: Mutex<Vec<Received>>,
    replies: Mutex<VecDeque<Reply>>,
    always: Mutex<Option<Reply>>,
    count: AtomicUsize,
    counted: watch::Sender<usize>,
    only_counts: bool,
}

/// A running receiver; it stops when it is dropped.
pub struct Receiver {
    inner: Arc<Inner>,
    url: String,
    serving: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Starts a receiver on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::with(Inner::default()).await
    }

    /// One that counts messages and keeps none.
    pub async fn counting() -> Self {
        Self::with(Inner { only_counts: true, ..Inner::default() }).await
    }

    async fn with(inner: Inner) -> Self {
        let inner = Arc::new(inner);
        let acceptor = TcpListener::new((Ipv4Addr::LOCALHOST, 0)).bind().await;
        let address = acceptor.holdings()[0].local_addr.clone().into_std().unwrap();
        let router = Router::with_path("{**rest}").goal(Taker(inner.clone()));
        let serving = tokio::spawn(async move { salvo::Server::new(acceptor).serve(router).await });
        Self { inner, url: format!("http://{address}"), serving }
    }

    /// Its address, without a path.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the setting of hosts on the inside must say, so that messages come.
    pub fn host(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// Answers the next messages so, each with the next of these.
    pub fn reply(&self, replies: impl IntoIterator<Item = Reply>) {
        self.inner.replies.lock().unwrap().extend(replies);
    }

    /// Answers so from now on; with nothing, 200.
    pub fn always(&self, reply: Option<Reply>) {
        *self.inner.always.lock().unwrap() = reply;
    }

    /// What has come so far.
    pub fn received(&self) -> Vec<Received> {
        self.inner.received.lock().unwrap().clone()
    }

    /// How many messages have come.
    pub fn count(&self) -> usize {
        self.inner.count.load(Ordering::SeqCst)
    }

    /// Waits until so many messages have come, and gives them.
    pub async fn wait_for(&self, messages: usize) -> Vec<Received> {
        let mut counted = self.inner.counted.subscribe();
        let came = tokio::time::timeout(PATIENCE, counted.wait_for(|count| *count >= messages)).await;
        assert!(came.is_ok(), "{} messages of {messages} have come", self.count());
        self.received()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Taker(Arc<Inner>);

#[salvo::async_trait]
impl Handler for Taker {
    async fn handle(&self, request: &mut Request, _: &mut Depot, response: &mut Response, _: &mut FlowCtrl) {
        let body = request.payload_with_max_size(1 << 20).await.unwrap().to_vec();
        if !self.0.only_counts {
            let headers = request.headers().iter();
            let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
            let path = request.uri().path_and_query().unwrap().to_string();
            let received = Received { path, headers, body: String::from_utf8(body).unwrap() };
            self.0.received.lock().unwrap().push(received);
        }
        let count = self.0.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.counted.send_modify(|counted| *counted = count.max(*counted));
        let next = self.0.replies.lock().unwrap().pop_front();
        let Some(reply) = next.or_else(|| self.0.always.lock().unwrap().clone()) else {
            response.status_code(StatusCode::OK);
            return;
        };
        if reply.hang {
            std::future::pending::<()>().await;
        }
        response.status_code(StatusCode::from_u16(reply.status).unwrap());
        for (name, value) in reply.headers {
            let name = HeaderName::from_static(name);
            response.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
        }
    }
}
