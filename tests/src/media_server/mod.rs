//! A web server that serves recordings, well or badly as a test asks, and remembers every request.
//!
//! It writes HTTP/1.1 byte by byte itself, because a library keeps its promises: it would not announce a wrong length or
//! stop in the middle of a body. It runs on a thread of its own, so that a test may block.

mod connection;
mod content;
mod live;
mod route;

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

pub use content::{
    Segments, chapters_of, cover, dash, gzipped, hls, media_type, page_with_og_video, page_with_video, width_of,
};
pub use live::{LiveSource, LiveStream};
pub use route::{Answer, Content, Route};

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD` …
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The headers, their names in lower case.
    pub headers: HashMap<String, String>,
    /// When it had come in.
    pub at: Instant,
}

impl Request {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The `Range` header.
    pub fn range(&self) -> Option<&str> {
        self.header("range")
    }

    /// The offset at which the range starts.
    pub fn offset(&self) -> Option<u64> {
        self.range()?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }
}

/// A running server; it stops when it is dropped.
pub struct MediaServer {
    address: SocketAddr,
    state: Arc<State>,
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Stop(oneshot::Sender<()>),
    Listen(TcpListener),
}

/// What the connections and the test share.
pub(crate) struct State {
    inner: Mutex<Inner>,
    /// Changes with everything that a test can wait for.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
pub(crate) struct Inner {
    routes: HashMap<String, Arc<Route>>,
    requests: Vec<Request>,
    sent: HashMap<String, u64>,
    holds: HashMap<String, Hold>,
}

/// A place where bodies stop.
struct Hold {
    at: u64,
    /// Bodies that wait there.
    waiting: usize,
}

impl State {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits until `look` finds something.
    async fn until<T>(&self, what: &str, look: impl Fn(&Inner) -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        let found = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = look(&self.lock()) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(PATIENCE, found).await;
        waited.unwrap_or_else(|_| panic!("{what} does not happen; requests: {:#?}", self.lock().requests))
    }
}

impl MediaServer {
    /// Starts one without any routes on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { inner: Mutex::default(), changes: watch::Sender::new(0) });
        let (commands, orders) = mpsc::unbounded_channel();
        let shared = state.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(shared, listener, orders));
        });
        Self { address, state, commands, thread: Some(thread) }
    }

    /// Where it listens, as `FOURMI_EGRESS_ALLOW` names it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves this at `path` from now on, and gives its address. Numbers of requests in the route count from here.
    pub fn route(&self, path: &str, route: impl Into<Route>) -> String {
        let mut inner = self.state.lock();
        let mut route: Route = route.into();
        route.asked_before = inner.requests_of(path).count();
        inner.routes.insert(path.to_owned(), Arc::new(route));
        drop(inner);
        self.url(path)
    }

    /// Serves every file of a folder below `prefix`.
    pub fn folder(&self, prefix: &str, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            let name = entry.file_name().into_string().unwrap();
            self.route(&format!("{prefix}/{name}"), Route::file(&entry.path()));
        }
    }

    /// Every request so far.
    pub fn all_requests(&self) -> Vec<Request> {
        self.state.lock().requests.clone()
    }

    /// The requests of a path.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        self.state.lock().requests_of(path).cloned().collect()
    }

    /// Bytes of bodies written for a path.
    pub fn bytes_sent(&self, path: &str) -> u64 {
        self.state.lock().sent.get(path).copied().unwrap_or(0)
    }

    /// Waits for the `n`th request (from 1) of a path, and gives it.
    pub async fn wait_for_request(&self, path: &str, n: usize) -> Request {
        self.state.until(&format!("request {n} of {path}"), |inner| inner.requests_of(path).nth(n - 1).cloned()).await
    }

    /// Stops every body of `path` at this offset of the content, until [`MediaServer::release`].
    pub fn hold(&self, path: &str, at: u64) {
        self.state.lock().holds.insert(path.to_owned(), Hold { at, waiting: 0 });
    }

    /// Waits until a body is stopped.
    pub async fn wait_until_held(&self, path: &str) {
        let held = |inner: &Inner| inner.holds.get(path).filter(|hold| hold.waiting > 0).map(|_| ());
        self.state.until(&format!("a stop in {path}"), held).await;
    }

    /// Lets the bodies of `path` go on.
    pub fn release(&self, path: &str) {
        self.state.lock().holds.remove(path);
        self.state.changed();
    }

    /// Closes the port and every connection.
    pub async fn stop_listening(&self) {
        let (done, stopped) = oneshot::channel();
        assert!(self.commands.send(Command::Stop(done)).is_ok());
        stopped.await.unwrap();
    }

    /// While it is stopped: waits until somebody has tried to connect, who is turned away.
    pub async fn wait_for_attempt(&self) {
        let listener = tokio::net::TcpListener::bind(self.address).await.unwrap();
        tokio::time::timeout(PATIENCE, listener.accept()).await.expect("somebody tries").unwrap();
    }

    /// Opens the same port again.
    pub fn listen_again(&self) {
        let listener = TcpListener::bind(self.address).unwrap();
        assert!(self.commands.send(Command::Listen(listener)).is_ok());
    }
}

impl Inner {
    fn requests_of(&self, path: &str) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(move |request| request.path == path)
    }
}

impl Drop for MediaServer {
    fn drop(&mut self) {
        // The thread ends when nobody can command it any more.
        self.commands = mpsc::unbounded_channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(state: Arc<State>, listener: TcpListener, mut orders: mpsc::UnboundedReceiver<Command>) {
    let open = |listener: TcpListener| {
        listener.set_nonblocking(true).unwrap();
        Some(tokio::net::TcpListener::from_std(listener).unwrap())
    };
    let mut listener = open(listener);
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accept => {
                if let Ok((socket, _)) = accepted {
                    let state = state.clone();
                    connections.spawn(async move { connection::serve(&state, socket).await });
                }
            }
            order = orders.recv() => match order {
                Some(Command::Stop(done)) => {
                    listener = None;
                    connections.shutdown().await;
                    let _ = done.send(());
                }
                Some(Command::Listen(again)) => listener = open(again),
                None => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
