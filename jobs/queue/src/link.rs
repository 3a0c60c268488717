//! The connection to Redis: one, multiplexed, renewed for ever; no call takes longer than a moment.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use fourmi_model::QueueName;
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, RedisError, ScriptInvocation,
    aio::{ConnectionManager, ConnectionManagerConfig, PubSub},
};
use tokio::time::timeout;

use crate::{QueueError, RedisHealth};

/// The longest that a call may take. Callers of the API learn within it that Redis is gone.
const CALL_TIMEOUT: Duration = Duration::from_millis(1_800);

/// The layout of the keys that this version reads and writes.
const LAYOUT: u32 = 1;

/// A connection to Redis; cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    client: Client,
    manager: Arc<ArcSwap<ConnectionManager>>,
}

impl Link {
    /// Connects and checks that the server can carry queues.
    pub(crate) async fn connect(url: &str) -> Result<Self, QueueError> {
        let client = Client::open(url).map_err(|error| {
            QueueError::Unsuitable(format!(
                "REDIS_URL is not a Redis address ({error}); it looks like redis://host:6379/0"
            ))
        })?;
        let manager = Arc::new(ArcSwap::from_pointee(lazy_manager(&client)?));
        let link = Self { client, manager };
        link.check_server().await?;
        Ok(link)
    }

    /// Runs a script. If the connection turns out to be dead it is run again on a new one: every script may be.
    pub(crate) async fn invoke<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, QueueError> {
        self.bounded(Call::Script(call)).await
    }

    /// Runs a command, which may be run twice as a script may.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, QueueError> {
        self.bounded(Call::Command(command)).await
    }

    async fn bounded<T: FromRedisValue>(&self, call: Call<'_>) -> Result<T, QueueError> {
        let used = self.manager.load_full();
        let twice = async {
            match call.send((*used).clone()).await {
                // What a restart of Redis leaves behind is noticed by the first call that uses it.
                Err(error) if error.is_io_error() || error.is_connection_dropped() => call.send((*used).clone()).await,
                answer => answer,
            }
        };
        match timeout(CALL_TIMEOUT, twice).await {
            Ok(answer) => answer.map_err(QueueError::from),
            Err(_) => {
                // A connection that has gone silent (a cut cable, a frozen host) reports no error: leave it for a new one.
                self.manager.compare_and_swap(&used, Arc::new(lazy_manager(&self.client)?));
                Err(QueueError::Unavailable(format!("no answer within {} ms", CALL_TIMEOUT.as_millis())))
            }
        }
    }

    /// A connection of its own for subscriptions.
    pub(crate) async fn pubsub(&self) -> Result<PubSub, QueueError> {
        timeout(CALL_TIMEOUT, self.client.get_async_pubsub())
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
        Err(QueueError::Unsuitable(format!(
            "queue {queue} is kept in layout {found}, this version reads layout {LAYOUT}; run the version that wrote it"
        )))
    }

    pub(crate) async fn health(&self) -> Result<RedisHealth, QueueError> {
        let started = Instant::now();
        let _: String = self.query(&redis::cmd("PING")).await?;
        let latency = started.elapsed();
        let info = self.info().await?;
        let number = |name: &str| info.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Ok(RedisHealth {
            version: info.get("redis_version").cloned().unwrap_or_default(),
            latency,
            used_memory: number("used_memory"),
            max_memory: Some(number("maxmemory")).filter(|bytes| *bytes > 0),
        })
    }

    async fn info(&self) -> Result<HashMap<String, String>, QueueError> {
        let text: String = self.query(&redis::cmd("INFO")).await?;
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    async fn check_server(&self) -> Result<(), QueueError> {
        let info = self.info().await?;
        let value = |name: &str| info.get(name).map_or("", String::as_str);
        let version = value("redis_version");
        let major = version.split('.').next().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        if major < 7 {
            return Err(QueueError::Unsuitable(format!("Redis {version} is too old: 7.0 or later is needed")));
        }
        let policy = value("maxmemory_policy");
        if !matches!(policy, "" | "noeviction") && value("maxmemory") != "0" {
            return Err(QueueError::Unsuitable(format!(
                "Redis would throw jobs away when it is full: set maxmemory-policy to noeviction (it is {policy})"
            )));
        }
        if value("aof_enabled") != "1" {
            tracing::warn!("Redis keeps no append-only file: jobs are lost when it stops. Set appendonly to yes");
        }
        Ok(())
    }
}

/// What is sent to Redis.
#[derive(Clone, Copy)]
enum Call<'a> {
    Script(&'a ScriptInvocation<'a>),
    Command(&'a Cmd),
}

impl Call<'_> {
    async fn send<T: FromRedisValue>(self, mut connection: ConnectionManager) -> Result<T, RedisError> {
        match self {
            Self::Script(script) => script.invoke_async(&mut connection).await,
            Self::Command(command) => command.query_async(&mut connection).await,
        }
    }
}

fn lazy_manager(client: &Client) -> Result<ConnectionManager, QueueError> {
    let config = ConnectionManagerConfig::new()
        .set_min_delay(Duration::from_millis(20))
        .set_max_delay(Duration::from_millis(500))
        .set_number_of_retries(usize::MAX)
        .set_connection_timeout(Some(Duration::from_secs(1)))
        // Calls are bounded here, where a silent connection can be replaced.
        .set_response_timeout(None);
    ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(QueueError::from)
}

impl From<RedisError> for QueueError {
    fn from(error: RedisError) -> Self {
        if error.code() == Some("OOM") {
            return Self::Full { retry_after: Duration::from_secs(5) };
        }
        match error.kind() {
            ErrorKind::UnexpectedReturnType | ErrorKind::Parse => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
