//! One struct per concern.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use tracing_subscriber::EnvFilter;

use crate::{Data, Environment, Secret, SettingError, environment::wrong, table};

/// How a URL of Redis starts. The queue reads the rest.
const REDIS_SCHEMES: [&str; 8] =
    ["redis", "rediss", "redis+unix", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"];

/// Redis, for programs that cannot do without it.
#[derive(Debug, Clone)]
pub struct Redis {
    /// The URL, which may hold a password.
    pub url: Secret,
    /// The file of the authorities that are trusted with TLS, if not those of the system.
    pub authorities: Option<PathBuf>,
}

impl Redis {
    /// Reads `REDIS_URL` and `FOURMI_REDIS_CA`.
    ///
    /// # Errors
    /// If the first is not set or no URL of Redis.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let missing = SettingError::Missing { name: table::REDIS_URL.name, form: table::REDIS_URL.form };
        Self::optional(environment)?.ok_or(missing)
    }

    /// Reads `REDIS_URL`, which may be left out, and `FOURMI_REDIS_CA`.
    ///
    /// # Errors
    /// If the first is no URL of Redis.
    pub fn optional(environment: &Environment) -> Result<Option<Self>, SettingError> {
        let Some(url) = environment.text(&table::REDIS_URL)? else { return Ok(None) };
        let known =
            url.split_once("://").is_some_and(|(scheme, rest)| REDIS_SCHEMES.contains(&scheme) && !rest.is_empty());
        if !known {
            return Err(wrong(&table::REDIS_URL, &url));
        }
        Ok(Some(Self { url: Secret::new(url), authorities: environment.path(&table::REDIS_CA) }))
    }
}

/// The database of the records.
#[derive(Debug, Clone)]
pub struct Database {
    /// The URL of PostgreSQL, which may hold a password; without it the records are in the data folder.
    pub url: Option<Secret>,
}

impl Database {
    /// Reads `DATABASE_URL`.
    ///
    /// # Errors
    /// If it is no URL of PostgreSQL.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let Some(url) = environment.text(&table::DATABASE_URL)? else { return Ok(Self { url: None }) };
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        if rest.is_none_or(str::is_empty) {
            return Err(wrong(&table::DATABASE_URL, &url));
        }
        Ok(Self { url: Some(Secret::new(url)) })
    }
}

/// The Redis that `fourmi up` starts when no other is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateRedis {
    /// When its log is written to disk.
    pub fsync: Fsync,
}

/// When Redis writes its log to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Once a second: a crash may lose about two seconds.
    EverySecond,
    /// Before a command is answered.
    Always,
}

impl Fsync {
    /// Redis's own word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EverySecond => "everysec",
            Self::Always => "always",
        }
    }
}

impl PrivateRedis {
    /// Reads `FOURMI_REDIS_FSYNC`.
    ///
    /// # Errors
    /// If it is an unknown word.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let fsync = environment.parsed(&table::REDIS_FSYNC, |text| {
            [Fsync::EverySecond, Fsync::Always].into_iter().find(|fsync| fsync.as_str() == text)
        })?;
        Ok(Self { fsync })
    }
}

/// The API's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address to listen on; port 0 takes a free one.
    pub address: SocketAddr,
}

impl Listen {
    /// Reads `FOURMI_LISTEN`.
    ///
    /// # Errors
    /// If it is no address with a port.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let address = environment.parsed(&table::LISTEN, |text| text.parse().ok())?;
        Ok(Self { address })
    }
}

/// Uploaded files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploads {
    /// The largest file, in bytes.
    pub max_bytes: u64,
    /// How long a file that arrives in pieces is kept without another piece.
    pub expiry: Duration,
}

impl Uploads {
    /// Reads `FOURMI_MAX_UPLOAD_BYTES` and `FOURMI_UPLOAD_EXPIRY_HOURS`.
    ///
    /// # Errors
    /// If one does not have its form.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let max_bytes = environment.parsed(&table::MAX_UPLOAD_BYTES, bytes)?;
        let hours = environment.parsed(&table::UPLOAD_EXPIRY_HOURS, |text| within(text, 1, 8_760))?;
        Ok(Self { max_bytes, expiry: Duration::from_secs(hours * 3600) })
    }
}

/// Reads a size, such as `500`, `64KiB` or `10 GiB`; `None` if it is none, or nothing.
pub fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

/// A worker process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Jobs at a time, if it is said.
    pub slots: Option<usize>,
    /// How long running jobs may go on after the worker was asked to stop.
    pub drain: Duration,
    /// How long a job is held without a sign of life.
    pub lease: Duration,
    /// Succeeded and cancelled jobs that its queue keeps at most.
    pub keep_done: u64,
    /// Failed jobs that its queue keeps at most.
    pub keep_failed: u64,
}

impl Worker {
    /// Reads `FOURMI_SLOTS`, `FOURMI_DRAIN_SECONDS`, `FOURMI_LEASE_MS`, `FOURMI_KEEP_DONE` and `FOURMI_KEEP_FAILED`.
    ///
    /// # Errors
    /// If one is no number or out of its range.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let slots = environment.parsed(&table::SLOTS, |text| {
            if text == table::SLOTS.default { Some(None) } else { within(text, 1, 1024).map(Some) }
        })?;
        let lease = environment.parsed(&table::LEASE_MS, |text| within(text, 500, 3_600_000))?;
        let drain = environment.parsed(&table::DRAIN_SECONDS, |text| within(text, 0, 86_400))?;
        let keep_done = environment.parsed(&table::KEEP_DONE, |text| within(text, 0, 10_000_000))?;
        let keep_failed = environment.parsed(&table::KEEP_FAILED, |text| within(text, 0, 10_000_000))?;
        let (drain, lease) = (Duration::from_secs(drain), Duration::from_millis(lease));
        Ok(Self { slots, drain, lease, keep_done, keep_failed })
    }
}

/// Finished jobs on their way into the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    /// How many of a queue wait at most.
    pub limit: u64,
}

impl Outbox {
    /// Reads `FOURMI_OUTBOX_LIMIT`.
    ///
    /// # Errors
    /// If it is no number or out of its range.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let limit = environment.parsed(&table::OUTBOX_LIMIT, |text| within(text, 1_000, 10_000_000))?;
        Ok(Self { limit })
    }
}

/// Streams of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streams {
    /// How many one API process keeps open for one key at most.
    pub per_key: usize,
}

impl Streams {
    /// Reads `FOURMI_STREAMS_PER_KEY`.
    ///
    /// # Errors
    /// If it is no number or out of its range.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let per_key = environment.parsed(&table::STREAMS_PER_KEY, |text| within(text, 1, 1_000_000))?;
        Ok(Self { per_key })
    }
}

/// What the media worker fetches, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Hosts on the inside that may be reached, as the guard reads them.
    pub egress_allow: String,
    /// The program yt-dlp.
    pub ytdlp: PathBuf,
    /// The largest recording, in bytes.
    pub max_bytes: u64,
    /// The most bytes a second.
    pub rate_limit: Option<u64>,
    /// How long a host may be silent.
    pub stall: Duration,
    /// How long downloads and results are used again; none if not at all.
    pub reuse: Option<Duration>,
    /// Room for kept downloads, in bytes.
    pub cache_bytes: u64,
}

/// An AMQP broker that is joined to the platform.
#[derive(Debug, Clone)]
pub struct Amqp {
    /// Its URL, which may hold a password.
    pub url: Secret,
    /// The queue that submissions are taken from.
    pub queue: String,
    /// The topic exchange that events are published to; `None` if none are.
    pub events: Option<String>,
    /// The exchange, and the queue behind it, where messages go that can become no job.
    pub dead: String,
}

impl Amqp {
    /// Reads `AMQP_URL` and `FOURMI_AMQP_*`.
    ///
    /// # Errors
    /// If there is no URL, or one does not have its form.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let missing = SettingError::Missing { name: table::AMQP_URL.name, form: table::AMQP_URL.form };
        Ok(Self { url: Self::url(environment)?.ok_or(missing)?, ..Self::names(environment)? })
    }

    /// The first mistake in those of these settings that are set.
    pub(crate) fn mistake(environment: &Environment) -> Option<SettingError> {
        Self::url(environment).err().or_else(|| Self::names(environment).err())
    }

    fn url(environment: &Environment) -> Result<Option<Secret>, SettingError> {
        let Some(url) = environment.text(&table::AMQP_URL)? else { return Ok(None) };
        let rest = url.strip_prefix("amqp://").or_else(|| url.strip_prefix("amqps://"));
        match rest {
            Some(rest) if !rest.is_empty() => Ok(Some(Secret::new(url))),
            _ => Err(wrong(&table::AMQP_URL, &url)),
        }
    }

    fn names(environment: &Environment) -> Result<Self, SettingError> {
        let is_name = |text: &str| (1..=200).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
        let name = |setting| environment.parsed(setting, |text| is_name(text).then(|| text.to_owned()));
        Ok(Self {
            url: Secret::new(""),
            queue: name(&table::AMQP_QUEUE)?,
            events: Some(name(&table::AMQP_EVENTS)?).filter(|events| events != "off"),
            dead: name(&table::AMQP_DEAD)?,
        })
    }
}

/// Where messages come from, and where they may go.
#[derive(Debug, Clone)]
pub struct Messaging {
    /// Hosts on the inside that may be reached, as the guard reads them.
    pub egress_allow: String,
    /// The data folder.
    pub data: crate::Data,
    /// The records.
    pub database: Database,
    /// What opens the secrets in the records.
    pub secrets: crate::SecretKeys,
    /// The address that people reach the platform by, without a slash at its end: links in mails lead there.
    pub public_url: Option<String>,
}

impl Messaging {
    /// The variables that it reads.
    pub const SETTINGS: &'static [&'static crate::Setting] = &[
        &table::EGRESS_ALLOW,
        &table::DATA,
        &table::DATABASE_URL,
        &table::SECRET_KEY,
        &table::SECRET_KEY_BEFORE,
        &table::PUBLIC_URL,
    ];

    /// Reads `FOURMI_EGRESS_ALLOW`, `FOURMI_DATA`, `DATABASE_URL`, `FOURMI_SECRET_KEY`, `FOURMI_SECRET_KEY_BEFORE` and
    /// `FOURMI_PUBLIC_URL`.
    ///
    /// # Errors
    /// If one does not have its form.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            egress_allow: environment.text(&table::EGRESS_ALLOW)?.unwrap_or_default(),
            data: crate::Data::read(environment)?,
            database: Database::read(environment)?,
            secrets: crate::SecretKeys::read(environment)?,
            public_url: environment.parsed(&table::PUBLIC_URL, crate::people::public_url)?,
        })
    }
}

/// What an analysis of a table may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insight {
    /// Memory, in bytes.
    pub memory_bytes: u64,
}

impl Insight {
    /// The variables that it reads.
    pub const SETTINGS: &'static [&'static crate::Setting] = &[&table::INSIGHT_MEMORY];

    /// Reads `FOURMI_INSIGHT_MEMORY`.
    ///
    /// # Errors
    /// If it is no number of bytes.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self { memory_bytes: environment.parsed(&table::INSIGHT_MEMORY, bytes)? })
    }
}

impl Media {
    /// The variables that it reads.
    pub const SETTINGS: &'static [&'static crate::Setting] = &[
        &table::EGRESS_ALLOW,
        &table::YTDLP,
        &table::MEDIA_MAX_BYTES,
        &table::MEDIA_RATE_LIMIT,
        &table::MEDIA_STALL_MS,
        &table::MEDIA_REUSE_HOURS,
        &table::MEDIA_CACHE_BYTES,
    ];

    /// Reads `FOURMI_EGRESS_ALLOW`, `FOURMI_YTDLP` and `FOURMI_MEDIA_*`.
    ///
    /// # Errors
    /// If one does not have its form.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let rate =
            environment.parsed(&table::MEDIA_RATE_LIMIT, |text| if text == "0" { Some(0) } else { bytes(text) })?;
        let hours = environment.parsed(&table::MEDIA_REUSE_HOURS, |text| within(text, 0, 8_760))?;
        let stall = environment.parsed(&table::MEDIA_STALL_MS, |text| within(text, 500, 600_000))?;
        Ok(Self {
            egress_allow: environment.text(&table::EGRESS_ALLOW)?.unwrap_or_default(),
            ytdlp: environment.path(&table::YTDLP).unwrap_or_else(|| table::YTDLP.default.into()),
            max_bytes: environment.parsed(&table::MEDIA_MAX_BYTES, bytes)?,
            rate_limit: (rate > 0).then_some(rate),
            stall: Duration::from_millis(stall),
            reuse: (hours > 0).then(|| Duration::from_secs(hours * 3600)),
            cache_bytes: environment.parsed(&table::MEDIA_CACHE_BYTES, bytes)?,
        })
    }
}

/// Reads a number between two others.
pub(crate) fn within<T: std::str::FromStr + PartialOrd>(text: &str, least: T, most: T) -> Option<T> {
    text.parse().ok().filter(|number| *number >= least && *number <= most)
}

/// What a program logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// Directives of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// The form.
    pub format: LogFormat,
    /// The files, beside standard error.
    pub files: Option<LogFiles>,
}

/// The log files of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFiles {
    /// Where they are.
    pub folder: PathBuf,
    /// The largest, in bytes.
    pub bytes: u64,
    /// How many are kept.
    pub count: usize,
}

/// The form of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

impl Logging {
    /// The variables that a child process must know to log as its parent does.
    pub const OF_CHILDREN: &'static [&'static crate::Setting] = &[&table::LOG, &table::LOG_FORMAT];

    /// Reads `FOURMI_LOG` and `FOURMI_LOG_*`.
    ///
    /// # Errors
    /// If one does not have its form.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let is_filter = |text: &str| EnvFilter::try_new(text).is_ok();
        let filter = environment.parsed(&table::LOG, |text| is_filter(text).then(|| text.to_owned()))?;
        let format = environment.parsed(&table::LOG_FORMAT, |text| match text {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        })?;
        let bytes = environment.parsed(&table::LOG_FILE_BYTES, bytes)?;
        let count = environment.parsed(&table::LOG_FILES, |text| within(text, 1, 1_000))?;
        let files = environment.path(&table::LOG_FOLDER).map(|folder| LogFiles { folder, bytes, count });
        Ok(Self { filter, format, files })
    }
}

/// How a client reaches the API.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// The API's address.
    pub url: String,
    /// Where its key is.
    pub key: ApiKey,
}

/// Where a client's API key is.
#[derive(Debug, Clone)]
pub enum ApiKey {
    /// In the environment.
    Given(Secret),
    /// In a file.
    File(PathBuf),
}

impl ClientSettings {
    /// Reads `FOURMI_URL`, `FOURMI_API_KEY` and `FOURMI_API_KEY_FILE`.
    ///
    /// # Errors
    /// If the first is no URL.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let url = environment.parsed(&table::URL, |text| {
            let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
            (!rest.is_empty() && !rest.starts_with('/')).then(|| text.trim_end_matches('/').to_owned())
        })?;
        let key = match environment.text(&table::API_KEY)? {
            Some(key) => ApiKey::Given(Secret::new(key.trim())),
            None => ApiKey::File(match environment.path(&table::API_KEY_FILE) {
                Some(path) => path,
                None => Data::read(environment)?.api_key(),
            }),
        };
        Ok(Self { url, key })
    }
}

impl ApiKey {
    /// The key itself, read from its file if it lies in one.
    ///
    /// # Errors
    /// If the file cannot be read or is empty; the error says what to do.
    pub fn load(&self) -> Result<Secret, SettingError> {
        let path = match self {
            Self::Given(key) => return Ok(key.clone()),
            Self::File(path) => path,
        };
        let failed =
            |reason: String| SettingError::KeyFile { name: table::API_KEY_FILE.name, path: path.clone(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let key = text.trim();
        if key.is_empty() { Err(failed("it is empty".to_owned())) } else { Ok(Secret::new(key)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Environment {
        Environment::of([(name, value)])
    }

    #[test]
    fn without_an_environment_every_default_holds() {
        let environment = Environment::of::<&str, &str>([]);
        assert_eq!(environment.mistakes(), []);
        assert_eq!(Listen::read(&environment).unwrap().address.port(), 8700);
        assert_eq!(Uploads::read(&environment).unwrap().max_bytes, 10 * 1024 * 1024 * 1024);
        let worker = Worker::read(&environment).unwrap();
        assert_eq!(worker.slots, None);
        assert_eq!((worker.drain.as_secs(), worker.lease.as_secs()), (30, 15));
        assert!(Redis::optional(&environment).unwrap().is_none());
        assert!(Database::read(&environment).unwrap().url.is_none());
        assert_eq!(ClientSettings::read(&environment).unwrap().url, "http://127.0.0.1:8700");
    }

    #[test]
    fn an_error_names_the_variable_and_its_form() {
        for (name, value) in [
            ("REDIS_URL", "localhost:6379"),
            ("FOURMI_REDIS_FSYNC", "no"),
            ("DATABASE_URL", "sqlite://records.db"),
            ("FOURMI_LISTEN", "8700"),
            ("FOURMI_MAX_UPLOAD_BYTES", "10GB"),
            ("FOURMI_MAX_UPLOAD_BYTES", "0"),
            ("FOURMI_MAX_UPLOAD_BYTES", "99999999999TiB"),
            ("FOURMI_UPLOAD_EXPIRY_HOURS", "0"),
            ("FOURMI_STREAMS_PER_KEY", "0"),
            ("FOURMI_SLOTS", "0"),
            ("FOURMI_DRAIN_SECONDS", "-1"),
            ("FOURMI_LEASE_MS", "10"),
            ("FOURMI_MEDIA_MAX_BYTES", "0"),
            ("FOURMI_MEDIA_RATE_LIMIT", "fast"),
            ("FOURMI_MEDIA_STALL_MS", "1"),
            ("FOURMI_MEDIA_REUSE_HOURS", "9999"),
            ("FOURMI_MEDIA_CACHE_BYTES", "-1"),
            ("FOURMI_LOG", "info,=loud"),
            ("FOURMI_LOG_FORMAT", "xml"),
            ("FOURMI_URL", "127.0.0.1:8700"),
        ] {
            let mistakes = with(name, value).mistakes();
            assert_eq!(mistakes.len(), 1, "{name}={value}");
            let text = mistakes[0].to_string();
            assert!(text.starts_with(&format!("{name} is {value:?}; it should be ")), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_in_the_error() {
        let text = with("REDIS_URL", "http://:hunter2@host").mistakes()[0].to_string();
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn redis_is_missed_where_it_is_needed() {
        let text = Redis::read(&with("REDIS_URL", "")).unwrap_err().to_string();
        assert!(text.starts_with("REDIS_URL is not set; it should be"), "{text}");
    }

    #[test]
    fn the_key_in_the_environment_wins_over_the_file() {
        let environment = Environment::of([("FOURMI_API_KEY", " key\n"), ("FOURMI_API_KEY_FILE", "/nowhere")]);
        let key = ClientSettings::read(&environment).unwrap().key.load().unwrap();
        assert_eq!(key.expose(), "key");
        let file = ClientSettings::read(&with("FOURMI_API_KEY_FILE", "/nowhere")).unwrap().key.load();
        assert!(file.unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in
            [("1", Some(1)), ("2KiB", Some(2048)), ("3 MiB", Some(3 << 20)), ("1.5GiB", None), ("GiB", None)]
        {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
