//! OVHcloud, as far as text messages go, and a strict one: it checks signatures and times, counts the messages that it
//! takes, and misbehaves as a test asks. Beside it, under `/plain`, whoever speaks the documented JSON.

use std::{
    collections::{HashMap, VecDeque},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use salvo::{
    Depot, FlowCtrl, Handler, Request, Response, Router,
    conn::{Acceptor, Listener, TcpListener},
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    writing::Json,
};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use tokio::sync::watch;

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Seconds by which a signature's time may be off.
const SKEW: i64 = 30;

const KEY: &str = "application-key";
const SECRET: &str = "application-secret";
const CONSUMER: &str = "consumer-key";
const SERVICE: &str = "sms-xx12345-1";
const TOKEN: &str = "plain-token";

/// The most characters of a tag.
const LONGEST_TAG: usize = 20;

/// The id of the first message.
const FIRST_ID: i64 = 1_000;

/// What becomes of the next message that is posted.
#[derive(Debug, Clone)]
pub enum SmsFault {
    /// It is refused with this status, error code and words.
    Refuse(u16, &'static str, &'static str),
    /// It is refused for being one too many, for so many seconds.
    TooMany(u64),
    /// Its number is not taken.
    InvalidReceiver,
    /// It costs nothing, and so is not sent.
    Free,
    /// It is taken, and the answer is this status.
    TakenWith(u16),
    /// It is not taken, and the answer is this status.
    Outage(u16),
    /// It is taken, and the answer never comes.
    TakenAndSilent,
    /// It is not taken, and the answer never comes.
    Silent,
    /// It is taken, and the connection is cut.
    TakenAndCut,
    /// It is not taken, and the connection is cut.
    Cut,
}

/// A message that was taken.
#[derive(Debug, Clone)]
pub struct TakenSms {
    /// The id.
    pub id: i64,
    /// The tag.
    pub tag: String,
    /// The body that was posted.
    pub body: Value,
    /// What became of it, as OVHcloud says it.
    pub ptt: i64,
    /// When those who ask for it are told of it: before, it is pending.
    shown_at: Instant,
}

/// Says what becomes of a message that is posted; nothing bad, if it says nothing.
type Whim = Box<dyn FnMut() -> Option<SmsFault> + Send>;

#[derive(Default)]
struct State {
    taken: Vec<TakenSms>,
    /// Places in `taken`.
    by_tag: HashMap<String, Vec<usize>>,
    faults: VecDeque<SmsFault>,
    whim: Option<Whim>,
    /// What it answers to everything but the question for the time.
    is_down: Option<u16>,
    /// How long it keeps a new message from those who ask for it.
    tag_delay: Duration,
    /// Seconds by which its clock is ahead.
    ahead: i64,
    /// Whether those who ask for a tag are told of it.
    are_tags_hidden: bool,
    /// What ptt messages have from now on.
    ptt: i64,
    credits: f64,
    /// How often it was asked what is left of them.
    checks: usize,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    posts: watch::Sender<usize>,
    lookups: watch::Sender<usize>,
    times: watch::Sender<usize>,
    receipts: watch::Sender<usize>,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What becomes of the message that is posted now.
    fn next_fault(&self) -> Option<SmsFault> {
        let mut state = self.state();
        state.faults.pop_front().or_else(|| state.whim.as_mut().and_then(|whim| whim()))
    }

    fn take(&self, tag: &str, body: &Value) -> i64 {
        let mut state = self.state();
        let place = state.taken.len();
        let id = FIRST_ID + i64::try_from(place).unwrap();
        let (ptt, shown_at) = (state.ptt, Instant::now() + state.tag_delay);
        state.taken.push(TakenSms { id, tag: tag.to_owned(), body: body.clone(), ptt, shown_at });
        state.by_tag.entry(tag.to_owned()).or_default().push(place);
        id
    }
}

/// A running server; it stops when it is dropped.
pub struct SmsServer {
    inner: Arc<Inner>,
    host: String,
    serving: tokio::task::JoinHandle<()>,
}

impl SmsServer {
    /// Starts a server on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let inner = Arc::new(Inner::default());
        {
            let mut state = inner.state();
            (state.ptt, state.credits) = (3, 98.5);
        }
        let acceptor = TcpListener::new((Ipv4Addr::LOCALHOST, 0)).bind().await;
        let address = acceptor.holdings()[0].local_addr.clone().into_std().unwrap();
        let router = Router::with_path("{**rest}").goal(Provider { inner: inner.clone(), host: address.to_string() });
        let serving = tokio::spawn(async move { salvo::Server::new(acceptor).serve(router).await });
        Self { inner, host: address.to_string(), serving }
    }

    /// What the setting of hosts on the inside must say, so that messages come.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The secret of an account with it as OVHcloud, with more settings.
    pub fn account(&self, more: Value) -> Value {
        let mut account = json!({
            "provider": "ovh", "endpoint": format!("http://{}/1.0", self.host), "application_key": KEY,
            "application_secret": SECRET, "consumer_key": CONSUMER, "service": SERVICE, "sender": "Fourmi",
        });
        account.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        account
    }

    /// The secret of an account with it as somebody who speaks plain JSON, with more settings.
    pub fn plain_account(&self, more: Value) -> Value {
        let mut account = json!({"provider": "http", "url": format!("http://{}/plain", self.host), "token": TOKEN});
        account.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        account
    }

    /// Misbehaves so with the next messages, each with the next of these.
    pub fn misbehave(&self, faults: impl IntoIterator<Item = SmsFault>) {
        self.inner.state().faults.extend(faults);
    }

    /// Misbehaves with messages for which nothing else is said as this says of each; `None`: it does not.
    pub fn misbehave_by(&self, whim: Option<impl FnMut() -> Option<SmsFault> + Send + 'static>) {
        self.inner.state().whim = whim.map(|whim| Box::new(whim) as Whim);
    }

    /// Answers with this status whatever is asked, but the time.
    pub fn be_down(&self, status: Option<u16>) {
        self.inner.state().is_down = status;
    }

    /// Keeps messages that it takes from now on for so long from those who ask for them, by tag or by id.
    pub fn delay_tags(&self, delay: Duration) {
        self.inner.state().tag_delay = delay;
    }

    /// Tells those who ask of all messages that it has taken.
    pub fn show(&self) {
        let now = Instant::now();
        self.inner.state().taken.iter_mut().for_each(|message| message.shown_at = now);
    }

    /// Sets its clock.
    pub fn set_ahead(&self, seconds: i64) {
        self.inner.state().ahead = seconds;
    }

    /// Tells those who ask for a tag that there is none, or no longer.
    pub fn hide_tags(&self, hidden: bool) {
        self.inner.state().are_tags_hidden = hidden;
    }

    /// Says this of all messages when asked.
    pub fn set_ptt(&self, ptt: i64) {
        let mut state = self.inner.state();
        state.ptt = ptt;
        for message in &mut state.taken {
            message.ptt = ptt;
        }
    }

    /// Says that so many credits are left.
    pub fn set_credits(&self, credits: f64) {
        self.inner.state().credits = credits;
    }

    /// How often it was asked what is left of them.
    pub fn checks(&self) -> usize {
        self.inner.state().checks
    }

    /// The messages that it has taken.
    pub fn taken(&self) -> Vec<TakenSms> {
        self.inner.state().taken.clone()
    }

    /// How many messages of a tag it has taken.
    pub fn count(&self, tag: &str) -> usize {
        self.inner.state().by_tag.get(tag).map_or(0, Vec::len)
    }

    /// How often messages were posted, taken or not.
    pub fn posts(&self) -> usize {
        *self.inner.posts.borrow()
    }

    /// How often it was asked for a tag.
    pub fn lookups(&self) -> usize {
        *self.inner.lookups.borrow()
    }

    /// How often it was asked for the time.
    pub fn times(&self) -> usize {
        *self.inner.times.borrow()
    }

    /// Waits until messages were posted so often.
    pub async fn wait_for_posts(&self, posts: usize) {
        wait(&self.inner.posts, posts, "posted").await;
    }

    /// Waits until it was asked for tags so often.
    pub async fn wait_for_lookups(&self, lookups: usize) {
        wait(&self.inner.lookups, lookups, "asked for").await;
    }

    /// Waits until it was asked so often what became of a message.
    pub async fn wait_for_receipts(&self, receipts: usize) {
        wait(&self.inner.receipts, receipts, "asked what became of").await;
    }
}

async fn wait(counter: &watch::Sender<usize>, wanted: usize, what: &str) {
    let mut counted = counter.subscribe();
    let came = tokio::time::timeout(PATIENCE, counted.wait_for(|count| *count >= wanted)).await;
    assert!(came.is_ok(), "messages were {what} {} times of {wanted}", *counter.borrow());
}

impl Drop for SmsServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Provider {
    inner: Arc<Inner>,
    host: String,
}

#[salvo::async_trait]
impl Handler for Provider {
    async fn handle(&self, request: &mut Request, _: &mut Depot, response: &mut Response, _: &mut FlowCtrl) {
        let body = request.payload_with_max_size(1 << 20).await.unwrap().to_vec();
        let body = String::from_utf8(body).unwrap();
        let path = request.uri().path().to_owned();
        let is_down = {
            let mut state = self.inner.state();
            state.checks += usize::from(path == format!("/1.0/sms/{SERVICE}"));
            state.is_down
        };
        if let Some(status) = is_down.filter(|_| path != "/1.0/auth/time") {
            refuse(response, status, "INTERNAL_ERROR", "Internal server error");
        } else if path == "/plain" {
            self.plain(request, &body, response).await;
        } else if path == "/1.0/auth/time" {
            self.inner.times.send_modify(|count| *count += 1);
            response.render(Json(self.now()));
        } else if let Some((status, code, message)) = self.mistake(request, &body) {
            refuse(response, status, code, message);
        } else {
            self.ovh(request, &path, &body, response).await;
        }
    }
}

impl Provider {
    fn now(&self) -> i64 {
        Timestamp::now().as_second() + self.inner.state().ahead
    }

    /// What is wrong with the signature of a request.
    fn mistake(&self, request: &Request, body: &str) -> Option<(u16, &'static str, &'static str)> {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if header("x-ovh-application") != KEY {
            return Some((403, "INVALID_KEY", "This application key is invalid"));
        }
        if header("x-ovh-consumer") != CONSUMER {
            return Some((403, "INVALID_CREDENTIAL", "This credential is not valid"));
        }
        let time = header("x-ovh-timestamp");
        if time.parse().map_or(true, |time: i64| (time - self.now()).abs() > SKEW) {
            return Some((400, "QUERY_TIME_OUT", "Query out of time"));
        }
        let target = request.uri().path_and_query().unwrap();
        let signed = format!("{SECRET}+{CONSUMER}+{}+http://{}{target}+{body}+{time}", request.method(), self.host);
        let digits: String = Sha1::digest(signed.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        if header("x-ovh-signature") != format!("$1${digits}") {
            return Some((400, "INVALID_SIGNATURE", "Invalid signature"));
        }
        None
    }

    async fn ovh(&self, request: &Request, path: &str, body: &str, response: &mut Response) {
        if path == format!("/1.0/sms/{SERVICE}") {
            let left = self.inner.state().credits;
            response.render(Json(json!({"name": SERVICE, "status": "enabled", "creditsLeft": left})));
            return;
        }
        let Some(rest) = path.strip_prefix(&format!("/1.0/sms/{SERVICE}/")) else {
            refuse(response, 404, "NOT_FOUND", "This service does not exist");
            return;
        };
        match (request.method().as_str(), rest) {
            ("POST", "jobs") => {
                let body: Value = serde_json::from_str(body).unwrap();
                let tag = body["tag"].as_str().unwrap().to_owned();
                if tag.len() > LONGEST_TAG {
                    refuse(response, 400, "INVALID_ARGUMENT", "tag is too long");
                } else if let Some(id) = self.post(&tag, &body, response).await {
                    response.render(Json(json!({
                        "ids": [id], "validReceivers": body["receivers"], "invalidReceivers": [],
                        "totalCreditsRemoved": 1.5, "creditsLeft": self.inner.state().credits, "tag": tag,
                    })));
                }
            }
            ("GET", "outgoing") => {
                let ids: Vec<i64> = self.tagged(request).iter().map(|message| message.id).collect();
                response.render(Json(ids));
            }
            ("GET", rest) => self.tell(rest.strip_prefix("outgoing/").unwrap_or_default(), response),
            _ => refuse(response, 404, "NOT_FOUND", "Got an invalid (or empty) URL"),
        }
    }

    /// The messages of the tag that is asked for.
    fn tagged(&self, request: &Request) -> Vec<TakenSms> {
        self.inner.lookups.send_modify(|count| *count += 1);
        let tag = request.query::<String>("tag").unwrap();
        let state = self.inner.state();
        let places = state.by_tag.get(&tag).into_iter().flatten();
        let tagged = places.map(|place| &state.taken[*place]);
        tagged.filter(|message| !state.are_tags_hidden && message.shown_at <= Instant::now()).cloned().collect()
    }

    fn tell(&self, id: &str, response: &mut Response) {
        let place = id.parse::<i64>().ok().and_then(|id| usize::try_from(id - FIRST_ID).ok());
        let found = place.and_then(|place| self.inner.state().taken.get(place).cloned());
        match found.filter(|message| message.shown_at <= Instant::now()) {
            Some(TakenSms { id, tag, ptt, .. }) => response.render(Json(json!({
                "id": id, "tag": tag, "ptt": ptt, "deliveryReceipt": 0, "sentAt": Timestamp::now(),
                "deliveredAt": (ptt == 4).then(Timestamp::now), "credits": 1.5, "numberOfSms": 1,
            }))),
            None => refuse(response, 404, "NOT_FOUND", "The requested object does not exist"),
        }
        self.inner.receipts.send_modify(|count| *count += 1);
    }

    /// Takes a message or misbehaves; the id of one that is taken and whose answer is to be sent.
    async fn post(&self, tag: &str, body: &Value, response: &mut Response) -> Option<i64> {
        let fault = self.inner.next_fault();
        let is_taken =
            matches!(fault, None | Some(SmsFault::TakenWith(_) | SmsFault::TakenAndSilent | SmsFault::TakenAndCut));
        let id = is_taken.then(|| self.inner.take(tag, body));
        self.inner.posts.send_modify(|count| *count += 1);
        match fault {
            None => return id,
            Some(SmsFault::Refuse(status, code, message)) => refuse(response, status, code, message),
            Some(SmsFault::TooMany(seconds)) => {
                refuse(response, 429, "TOO_MANY_REQUESTS", "Too many requests");
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            Some(SmsFault::InvalidReceiver) => response.render(Json(json!({
                "ids": [], "validReceivers": [], "invalidReceivers": body["receivers"], "totalCreditsRemoved": 0,
            }))),
            Some(SmsFault::Free) => response.render(Json(json!({
                "ids": [], "validReceivers": body["receivers"], "invalidReceivers": [], "totalCreditsRemoved": 0,
                "creditsLeft": 0,
            }))),
            Some(SmsFault::TakenWith(status) | SmsFault::Outage(status)) => {
                refuse(response, status, "INTERNAL_ERROR", "Internal server error");
            }
            Some(SmsFault::TakenAndSilent | SmsFault::Silent) => std::future::pending().await,
            Some(SmsFault::TakenAndCut | SmsFault::Cut) => cut(response),
        }
        None
    }

    async fn plain(&self, request: &Request, body: &str, response: &mut Response) {
        let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if token != Some(&format!("Bearer {TOKEN}")) {
            refuse(response, 401, "unauthorized", "the token is wrong");
            return;
        }
        if request.method() == "GET" {
            let messages: Vec<Value> = self.tagged(request).iter().map(as_plain).collect();
            response.render(Json(json!({"messages": messages})));
            return;
        }
        let body: Value = serde_json::from_str(body).unwrap();
        let tag = body["tag"].as_str().unwrap().to_owned();
        if let Some(id) = self.post(&tag, &body, response).await {
            response.render(Json(json!({"id": id.to_string(), "credits": 2})));
        }
    }
}

fn as_plain(message: &TakenSms) -> Value {
    let state = match message.ptt {
        4 => "delivered",
        5.. => "undelivered",
        _ => "accepted",
    };
    json!({"id": message.id.to_string(), "tag": message.tag, "state": state})
}

/// Begins an answer that is longer than what comes of it.
fn cut(response: &mut Response) {
    response.status_code(StatusCode::OK);
    let broken = futures_util::stream::iter([Err::<Vec<u8>, _>(std::io::Error::other("cut"))]);
    response.stream(broken);
}

fn refuse(response: &mut Response, status: u16, code: &str, message: &str) {
    response.status_code(StatusCode::from_u16(status).unwrap());
    let body: HashMap<_, _> = [("errorCode", code), ("code", code), ("message", message)].into();
    response.render(Json(body));
}
