//! Firebase Cloud Messaging, as strict as Google's: tokens for whoever signs with the right key, messages by HTTP/2 alone, read
//! field by field. It counts what it takes, and misbehaves as a test asks.

mod message;

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// A key that was made for these tests, and opens nothing.
const KEY: &str = include_str!("key.pem");

const KEY_ID: &str = "key-of-the-tests";

const EMAIL: &str = "fourmi@project-1.iam.gserviceaccount.com";

const PROJECT: &str = "project-1";

/// The token of the message by which workers check whether they would be let in.
const OF_CHECKS: &str = "fourmi-check";

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// What it does with a message instead of taking it.
#[derive(Debug, Clone)]
pub enum Act {
    /// Answers with an error.
    Error {
        /// The status.
        status: u16,
        /// FCM's own word; without one, the error is Google's alone.
        code: Option<&'static str>,
        /// The field that is wrong.
        field: Option<&'static str>,
        /// `Retry-After`, in seconds.
        after_s: Option<u32>,
    },
    /// Never answers.
    Hang,
    /// Closes the connection, and has not taken it.
    CutBefore,
    /// Takes it, and closes the connection instead of saying so.
    CutAfter,
    /// Takes it, after a while.
    Slowly(Duration),
}

impl Act {
    /// An error of FCM's own.
    pub fn error(status: u16, code: &'static str) -> Self {
        Self::Error { status, code: Some(code), field: None, after_s: None }
    }

    /// An error of Google's, which FCM says nothing of.
    pub fn google(status: u16) -> Self {
        Self::Error { status, code: None, field: None, after_s: None }
    }
}

/// Says what is done with a message; it is taken, if this says nothing.
type Whim = Box<dyn FnMut() -> Option<Act> + Send>;

struct Inner {
    url: String,
    /// Whether it knows whom it has taken messages for, and what they said.
    remembers: bool,
    taken: Mutex<HashMap<String, u32>>,
    messages: Mutex<Vec<Value>>,
    count: AtomicU64,
    requests: AtomicU64,
    checks: AtomicU64,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    token_requests: AtomicUsize,
    token_answer: Mutex<Option<u16>>,
    token_life_s: AtomicU64,
    tokens: Mutex<HashMap<String, Instant>>,
    acts: Mutex<HashMap<String, VecDeque<Act>>>,
    always: Mutex<Option<Act>>,
    whim: Mutex<Option<Whim>>,
}

/// A running server; it stops when it is dropped.
pub struct FcmServer {
    inner: Arc<Inner>,
    serving: tokio::task::JoinHandle<()>,
}

impl FcmServer {
    /// Starts a server on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::with(true).await
    }

    /// One that counts messages and remembers nothing of them.
    pub async fn counting() -> Self {
        Self::with(false).await
    }

    async fn with(remembers: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            url: format!("http://{address}"),
            remembers,
            taken: Mutex::default(),
            messages: Mutex::default(),
            count: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            checks: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            token_requests: AtomicUsize::new(0),
            token_answer: Mutex::default(),
            token_life_s: AtomicU64::new(3_599),
            tokens: Mutex::default(),
            acts: Mutex::default(),
            always: Mutex::default(),
            whim: Mutex::default(),
        });
        let shared = inner.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { inner, serving }
    }

    /// What the setting of hosts on the inside must say, so that messages come.
    pub fn host(&self) -> &str {
        self.inner.url.strip_prefix("http://").unwrap()
    }

    /// The service account, as Google gives it, with the address of this server.
    pub fn account(&self) -> Value {
        json!({
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": KEY_ID,
            "private_key": KEY,
            "client_email": EMAIL,
            "client_id": "1",
            "token_uri": format!("{}/token", self.inner.url),
            "fcm_url": self.inner.url,
        })
    }

    /// Does this with the next messages to a token, one after the other.
    pub fn on(&self, token: &str, acts: impl IntoIterator<Item = Act>) {
        self.inner.acts.lock().unwrap().entry(token.to_owned()).or_default().extend(acts);
    }

    /// Does this with all messages for which nothing else is said.
    pub fn always(&self, act: Option<Act>) {
        *self.inner.always.lock().unwrap() = act;
    }

    /// Does with messages for which nothing else is said what this says of each; `None`: it takes them.
    pub fn act_by(&self, whim: Option<impl FnMut() -> Option<Act> + Send + 'static>) {
        *self.inner.whim.lock().unwrap() = whim.map(|whim| Box::new(whim) as Whim);
    }

    /// Answers requests for tokens with this status.
    pub fn refuse_tokens(&self, status: Option<u16>) {
        *self.inner.token_answer.lock().unwrap() = status;
    }

    /// Takes back all tokens that it has given.
    pub fn revoke_tokens(&self) {
        self.inner.tokens.lock().unwrap().clear();
    }

    /// Gives tokens of which it says that they live so long, in seconds; none lives longer than an hour.
    pub fn token_life(&self, seconds: u64) {
        self.inner.token_life_s.store(seconds, Ordering::SeqCst);
    }

    /// How often a message to this token was taken.
    pub fn taken(&self, token: &str) -> u32 {
        self.inner.taken.lock().unwrap().get(token).copied().unwrap_or(0)
    }

    /// How often messages were taken, by token.
    pub fn all_taken(&self) -> HashMap<String, u32> {
        self.inner.taken.lock().unwrap().clone()
    }

    /// The messages that were taken.
    pub fn messages(&self) -> Vec<Value> {
        self.inner.messages.lock().unwrap().clone()
    }

    /// How many messages were taken.
    pub fn count(&self) -> u64 {
        self.inner.count.load(Ordering::SeqCst)
    }

    /// How many messages came, whatever became of them.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::SeqCst)
    }

    /// How often somebody checked whether they would be let in: by a message that is only to be looked at. No other figure
    /// counts these.
    pub fn checks(&self) -> u64 {
        self.inner.checks.load(Ordering::SeqCst)
    }

    /// The most messages that were being looked at at once.
    pub fn most_in_flight(&self) -> usize {
        self.inner.most_in_flight.load(Ordering::SeqCst)
    }

    /// How often somebody asked for a token of OAuth 2.
    pub fn token_requests(&self) -> usize {
        self.inner.token_requests.load(Ordering::SeqCst)
    }
}

impl Drop for FcmServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Speaks HTTP/2 with prior knowledge, and nothing else.
async fn serve(stream: TcpStream, inner: Arc<Inner>) {
    let _ = stream.set_nodelay(true);
    let cut = Arc::new(Notify::new());
    let service = {
        let cut = cut.clone();
        service_fn(move |request| {
            let (inner, cut) = (inner.clone(), cut.clone());
            async move { Ok::<_, Infallible>(inner.answer(request, &cut).await) }
        })
    };
    let serving = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = serving => {}
        () = cut.notified() => {}
    }
}

impl Inner {
    async fn answer(&self, request: Request<Incoming>, cut: &Notify) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return text(400, "the body broke off") };
        let body = body.to_bytes();
        let is_post = parts.method == hyper::Method::POST;
        match parts.uri.path() {
            "/token" if is_post => self.grant(&body),
            path if is_post && path == format!("/v1/projects/{PROJECT}/messages:send") => {
                let of_check = format!("\"token\":\"{OF_CHECKS}\"");
                let is_check = body.windows(of_check.len()).any(|part| part == of_check.as_bytes());
                if is_check {
                    self.checks.fetch_add(1, Ordering::SeqCst);
                } else {
                    self.requests.fetch_add(1, Ordering::SeqCst);
                }
                let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
                self.most_in_flight.fetch_max(now, Ordering::SeqCst);
                let bearer = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
                let is_json = parts.headers.get(CONTENT_TYPE).is_some_and(|value| value == "application/json");
                let answer = match is_json {
                    true => self.send(bearer, &body, cut).await,
                    false => error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), None, None),
                };
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
                answer
            }
            _ => error(404, "NOT_FOUND", None, None, None),
        }
    }

    /// RFC 7523: a token for an assertion that is signed and says what it must.
    fn grant(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let number = self.token_requests.fetch_add(1, Ordering::SeqCst);
        if let Some(status) = *self.token_answer.lock().unwrap() {
            return json_answer(status, &json!({"error": "invalid_grant"}));
        }
        let form = std::str::from_utf8(body).unwrap_or_default();
        let prefix = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
        let assertion = form.strip_prefix(prefix).unwrap_or_default();
        if let Err(wrong) = self.check(assertion) {
            return json_answer(400, &json!({"error": "invalid_grant", "error_description": wrong}));
        }
        let token = format!("ya29.{number}");
        let life = self.token_life_s.load(Ordering::SeqCst);
        let lives = Duration::from_secs(life.min(3_600));
        self.tokens.lock().unwrap().insert(token.clone(), Instant::now() + lives);
        json_answer(200, &json!({"access_token": token, "expires_in": life, "token_type": "Bearer"}))
    }

    fn check(&self, assertion: &str) -> Result<(), &'static str> {
        let parts: Vec<_> = assertion.split('.').collect();
        let [header, claims, signature] = parts[..] else { return Err("it is no JWT") };
        let signed = format!("{header}.{claims}");
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| "its signature is not base64url")?;
        let key = RsaKeyPair::from_pkcs8(&der()).unwrap();
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref().to_vec());
        key.verify(signed.as_bytes(), &signature).map_err(|_| "its signature is another's")?;
        let read = |part| -> Option<Value> { serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
        let (header, claims) = read(header).zip(read(claims)).ok_or("it is not JSON")?;
        if header != json!({"alg": "RS256", "typ": "JWT", "kid": KEY_ID}) {
            return Err("its header is wrong");
        }
        let (iat, exp) = claims["iat"].as_i64().zip(claims["exp"].as_i64()).ok_or("it has no times")?;
        let now = Timestamp::now().as_second();
        let token_uri = format!("{}/token", self.url);
        if claims["iss"] != EMAIL || claims["scope"] != SCOPE || claims["aud"] != token_uri.as_str() {
            return Err("its claims are wrong");
        }
        if (iat - now).abs() > 60 || exp <= now || exp > iat + 3_600 {
            return Err("its times are wrong");
        }
        Ok(())
    }

    async fn send(&self, bearer: Option<&str>, body: &[u8], cut: &Notify) -> Response<Full<Bytes>> {
        let token = bearer.and_then(|bearer| bearer.strip_prefix("Bearer ")).unwrap_or_default();
        let is_valid = self.tokens.lock().unwrap().get(token).is_some_and(|until| *until > Instant::now());
        if !is_valid {
            return error(401, "UNAUTHENTICATED", None, None, None);
        }
        let (target, validate_only) = match message::check(body) {
            Ok(checked) => checked,
            Err(field) => return error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), Some(&field), None),
        };
        assert!(validate_only || target != OF_CHECKS, "a check must not be sent");
        let act = self.acts.lock().unwrap().get_mut(&target).and_then(VecDeque::pop_front);
        let act = act.or_else(|| self.always.lock().unwrap().clone());
        match act.or_else(|| self.whim.lock().unwrap().as_mut().and_then(|whim| whim())) {
            None if target == OF_CHECKS => {
                error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), Some("message.token"), None)
            }
            None => self.take(&target, body, validate_only),
            Some(Act::Error { status, code, field, after_s }) => {
                error(status, code.unwrap_or("SOMETHING"), code, field, after_s)
            }
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::CutBefore) => {
                cut.notify_one();
                std::future::pending().await
            }
            Some(Act::CutAfter) => {
                self.take(&target, body, validate_only);
                cut.notify_one();
                std::future::pending().await
            }
            Some(Act::Slowly(time)) => {
                tokio::time::sleep(time).await;
                self.take(&target, body, validate_only)
            }
        }
    }

    fn take(&self, target: &str, body: &[u8], validate_only: bool) -> Response<Full<Bytes>> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        if self.remembers && !validate_only {
            *self.taken.lock().unwrap().entry(target.to_owned()).or_default() += 1;
            self.messages.lock().unwrap().push(serde_json::from_slice(body).unwrap());
        }
        json_answer(200, &json!({"name": format!("projects/{PROJECT}/messages/{number}")}))
    }
}

fn der() -> Vec<u8> {
    let lines = KEY.lines().filter(|line| !line.starts_with("-----"));
    BASE64_STANDARD.decode(lines.collect::<String>()).unwrap()
}

fn error(
    status: u16,
    word: &str,
    code: Option<&str>,
    field: Option<&str>,
    after_s: Option<u32>,
) -> Response<Full<Bytes>> {
    let own = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
    let mut details: Vec<_> = code.map(|code| json!({"@type": own, "errorCode": code})).into_iter().collect();
    if let Some(field) = field {
        let violations = json!([{"field": field, "description": "it is wrong"}]);
        details.push(json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}));
    }
    let body = json!({"error": {"code": status, "message": "no", "status": word, "details": details}});
    let mut answer = json_answer(status, &body);
    if let Some(seconds) = after_s {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}

fn json_answer(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut answer = text(status, &body.to_string());
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    answer
}

fn text(status: u16, text: &str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
    answer
}
