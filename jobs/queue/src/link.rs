//! The connection to Redis: one, multiplexed, renewed for ever; no call takes longer than a moment.
//!
//! One server, a Sentinel's master and a cluster differ in how they are reached ([`Address`]) and in nothing else: a call
//! that finds its connection dead, or at a server that is a replica now, is sent once more over a new one.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use fourmi_model::{Backoff, QueueName};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, aio::PubSub};
use tokio::time::{sleep, timeout};

use crate::{
    QueueError, RedisHealth,
    address::{Address, Connection},
    scripts::Invocation,
};

/// The longest that a call may take. Callers of the API learn within it that Redis is gone.
const CALL_TIMEOUT: Duration = Duration::from_millis(1_800);

/// The longest that a server may take to accept a connection.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest that one try may take: asking Sentinels, of which some may be gone, and connecting to their master.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);

/// The pause after a failed try to connect.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_millis(500) };

/// The layout of the keys that this version reads and writes: 3 since lanes take turns. What 2 wrote it goes on with.
const LAYOUT: u32 = 3;

/// A connection to Redis, whatever it consists of; cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    address: Arc<Address>,
    line: Arc<ArcSwap<Line>>,
}

/// A connection that is being made or stands. Once lost it is left for a new one, never repaired.
struct Line {
    connecting: Shared<BoxFuture<'static, RedisResult<Connection>>>,
    trouble: Trouble,
}

/// Why the last try to connect failed.
type Trouble = Arc<Mutex<Option<String>>>;

impl Line {
    fn open(address: Arc<Address>) -> Self {
        let trouble = Trouble::default();
        let connecting = connect(address, trouble.clone()).boxed().shared();
        Self { connecting, trouble }
    }

    async fn connection(&self) -> RedisResult<Connection> {
        match self.connecting.peek() {
            Some(connection) => connection.clone(),
            None => self.connecting.clone().await,
        }
    }
}

/// Tries to connect for as long as it takes; gives up only where trying again cannot help.
async fn connect(address: Arc<Address>, trouble: Trouble) -> RedisResult<Connection> {
    let mut failures = 0;
    loop {
        let reason = match timeout(TRY_TIMEOUT, address.connect()).await {
            Ok(Err(error)) if !is_refusal(&error) => error.to_string(),
            Ok(answer) => return answer,
            Err(_) => "no answer to a new connection".to_owned(),
        };
        *trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        failures += 1;
        sleep(BACKOFF.delay(failures, rand::random())).await;
    }
}

/// Whether Redis answers and does not want us.
fn is_refusal(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => true,
        // A client of a cluster wraps what its nodes have said.
        ErrorKind::Io => error.to_string().contains("AuthenticationFailed"),
        _ => matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM")),
    }
}

/// Whether an error says that the connection is dead, or leads to a server that is no longer the master: one without
/// replicas (`min-replicas-to-write`) may be an old one that has not heard of the new one yet.
fn is_lost(error: &RedisError) -> bool {
    let not_the_master = matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "NOREPLICAS"));
    let no_node = error.kind() == ErrorKind::ClusterConnectionNotFound;
    not_the_master || no_node || error.is_io_error() || error.is_connection_dropped()
}

impl Link {
    /// Connects and checks that the server can carry queues.
    pub(crate) async fn connect(url: &str, authorities: Option<&Path>) -> Result<Self, QueueError> {
        let address = Arc::new(Address::parse(url, authorities)?);
        let line = Arc::new(ArcSwap::from_pointee(Line::open(address.clone())));
        let link = Self { address, line };
        link.check_servers().await?;
        Ok(link)
    }

    /// Runs a script. If the connection turns out to be dead it is run again on a new one: every script may be.
    pub(crate) async fn invoke<T: FromRedisValue>(&self, call: &Invocation<'_>) -> Result<T, QueueError> {
        self.bounded(Call::Script(call)).await
    }

    /// Runs a command, which may be run twice as a script may.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, QueueError> {
        self.bounded(Call::Command(command)).await
    }

    async fn bounded<T: FromRedisValue>(&self, call: Call<'_>) -> Result<T, QueueError> {
        let mut line = self.line();
        let twice = async {
            match call.send(&line).await {
                // What a restart or a failover leaves behind is noticed by the first call that uses it.
                Err(error) if is_lost(&error) => {
                    line = self.leave(&line);
                    call.send(&line).await
                }
                answer => answer,
            }
        };
        match timeout(CALL_TIMEOUT, twice).await {
            Ok(answer) => answer.map_err(QueueError::from),
            Err(_) => {
                let trouble = line.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
                // A connection that has gone silent (a cut cable, a frozen host) reports no error.
                if line.connecting.peek().is_some() {
                    self.leave(&line);
                }
                let reason = trouble.map(|reason| format!(" ({reason})")).unwrap_or_default();
                Err(QueueError::Unavailable(format!("no answer within {} ms{reason}", CALL_TIMEOUT.as_millis())))
            }
        }
    }

    /// The line to use now: one that gave up is left, for what refused it may have been put right.
    fn line(&self) -> Arc<Line> {
        let line = self.line.load_full();
        if matches!(line.connecting.peek(), Some(Err(_))) { self.leave(&line) } else { line }
    }

    /// Leaves a line for a new one, unless somebody else did already; gives the one to use.
    fn leave(&self, left: &Arc<Line>) -> Arc<Line> {
        self.line.compare_and_swap(left, Arc::new(Line::open(self.address.clone())));
        self.line.load_full()
    }

    /// A connection of its own for subscriptions.
    pub(crate) async fn pubsub(&self) -> Result<PubSub, QueueError> {
        timeout(CALL_TIMEOUT, self.address.pubsub())
            .await
            .map_err(|_| QueueError::Unavailable("no answer to a subscription".into()))?
            .map_err(QueueError::from)
    }

    /// Claims the layout of a queue's keys, or refuses to touch those of another version.
    pub(crate) async fn check_layout(&self, queue: &QueueName) -> Result<(), QueueError> {
        let meta = format!("{{{queue}}}:m");
        let _: bool = self.query(redis::cmd("HSETNX").arg(&meta).arg("layout").arg(LAYOUT)).await?;
        let found: u32 = self.query(redis::cmd("HGET").arg(&meta).arg("layout")).await?;
        if found == LAYOUT {
            return Ok(());
        }
        if found == LAYOUT - 1 {
            return self.query(redis::cmd("HSET").arg(&meta).arg("layout").arg(LAYOUT)).await;
        }
        Err(QueueError::Unsuitable(format!(
            "queue {queue} is kept in layout {found}, this version reads layout {LAYOUT}; run the version that wrote it"
        )))
    }

    pub(crate) async fn health(&self) -> Result<RedisHealth, QueueError> {
        let started = Instant::now();
        let _: redis::Value = self.query(&redis::cmd("PING")).await?;
        let latency = started.elapsed();
        let servers = self.info().await?;
        // Of a cluster the fullest node counts: a queue lies on one.
        let fullest = servers.iter().max_by_key(|server| server.fullness());
        fullest.map(|server| server.health(latency)).ok_or_else(|| QueueError::Corrupt("an empty cluster".into()))
    }

    /// What every server of ours that takes writes says of itself.
    async fn info(&self) -> Result<Vec<Info>, QueueError> {
        let command = redis::cmd("INFO");
        let texts = match &*self.address {
            Address::Cluster(..) => self.query::<HashMap<String, String>>(&command).await?.into_values().collect(),
            Address::Server(_) | Address::Sentinel(_) => vec![self.query::<String>(&command).await?],
        };
        Ok(texts.iter().map(|text| Info::read(text)).collect())
    }

    async fn check_servers(&self) -> Result<(), QueueError> {
        let servers = self.info().await?;
        for server in &servers {
            server.check(matches!(*self.address, Address::Cluster(..)))?;
        }
        if servers.iter().any(|server| server.text("aof_enabled") != "1") {
            tracing::warn!("{}", self.what_may_be_lost().await);
        }
        Ok(())
    }

    /// What a Redis without an append-only file keeps.
    async fn what_may_be_lost(&self) -> &'static str {
        let asked = redis::cmd("CONFIG").arg("GET").arg("save").to_owned();
        match self.query::<HashMap<String, String>>(&asked).await {
            Ok(settings) if settings.get("save").is_some_and(String::is_empty) => {
                "Redis keeps nothing on disk: all jobs are lost when it stops. Set appendonly to yes"
            }
            // A hosted Redis does not tell.
            _ => {
                "Redis keeps no append-only file: jobs since its last snapshot are lost when it stops. Set appendonly to yes"
            }
        }
    }
}

/// What a server says of itself.
struct Info(HashMap<String, String>);

impl Info {
    fn read(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    fn max_memory(&self) -> Option<u64> {
        Some(self.number("maxmemory")).filter(|bytes| *bytes > 0)
    }

    /// How much of its limit is in use, in thousandths; without limits, how much is in use comes last.
    fn fullness(&self) -> (u64, u64) {
        let used = self.number("used_memory");
        (self.max_memory().map_or(0, |limit| used.saturating_mul(1_000) / limit), used)
    }

    fn health(&self, latency: Duration) -> RedisHealth {
        RedisHealth {
            version: self.text("redis_version").to_owned(),
            latency,
            used_memory: self.number("used_memory"),
            max_memory: self.max_memory(),
        }
    }

    /// Whether it can carry queues, and is what the address says.
    fn check(&self, cluster: bool) -> Result<(), QueueError> {
        let unsuitable = |text: String| Err(QueueError::Unsuitable(text));
        match self.text("redis_mode") {
            "sentinel" => {
                return unsuitable(
                    "REDIS_URL leads to a Sentinel: write redis+sentinel://host:port,host:port/master".into(),
                );
            }
            "cluster" if !cluster => {
                return unsuitable("REDIS_URL leads to a node of a cluster: write redis+cluster://host:port,…".into());
            }
            _ => {}
        }
        if self.text("role") == "slave" {
            return unsuitable(format!(
                "REDIS_URL leads to a replica; its master is {}:{}",
                self.text("master_host"),
                self.text("master_port")
            ));
        }
        let version = self.text("redis_version");
        let major = version.split('.').next().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        if major < 7 {
            return unsuitable(format!("Redis {version} is too old: 7.0 or later is needed"));
        }
        let policy = self.text("maxmemory_policy");
        if !matches!(policy, "" | "noeviction") && self.max_memory().is_some() {
            return unsuitable(format!(
                "Redis would throw jobs away when it is full: set maxmemory-policy to noeviction (it is {policy})"
            ));
        }
        Ok(())
    }
}

/// What is sent to Redis.
#[derive(Clone, Copy)]
enum Call<'a> {
    Script(&'a Invocation<'a>),
    Command(&'a Cmd),
}

impl Call<'_> {
    async fn send<T: FromRedisValue>(self, line: &Line) -> RedisResult<T> {
        let connection = line.connection().await?;
        match self {
            Self::Command(command) => connection.query(command).await,
            Self::Script(script) => match connection.clone().query(script.by_hash()).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    connection.query(&script.by_source()).await
                }
                answer => answer,
            },
        }
    }
}

impl From<RedisError> for QueueError {
    fn from(error: RedisError) -> Self {
        if error.code() == Some("OOM") {
            return Self::Full { retry_after: Duration::from_secs(5) };
        }
        if is_refusal(&error) {
            return Self::Unsuitable(format!(
                "Redis refuses us; are user and password of REDIS_URL right? It says: {error}"
            ));
        }
        match error.kind() {
            ErrorKind::UnexpectedReturnType | ErrorKind::Parse => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
