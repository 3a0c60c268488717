//! Every variable, once. `fourmi config` prints this table and `docs/operations.md` repeats it.

/// A variable of the environment.
#[derive(Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What holds when it is not set: a value, or words in angle brackets; empty for nothing.
    pub default: &'static str,
    /// What a value should look like, to be read after "it should be".
    pub form: &'static str,
    /// What it is for.
    pub meaning: &'static str,
    /// How much of it may be shown.
    pub secrecy: Secrecy,
}

/// How much of a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// All.
    Public,
    /// A URL without its password.
    UrlPassword,
    /// Nothing.
    Secret,
}

impl Setting {
    /// The error for a value that does not have this setting's form.
    pub fn wrong(&'static self, value: &str) -> crate::SettingError {
        crate::environment::wrong(self, value)
    }

    /// A value of this setting as it may be shown.
    pub fn shown(&self, value: &str) -> String {
        match self.secrecy {
            Secrecy::Public => value.to_owned(),
            Secrecy::UrlPassword => without_password(value),
            Secrecy::Secret => "***".to_owned(),
        }
    }
}

/// `redis://user:secret@host?pass=secret` with `***` for each password.
fn without_password(url: &str) -> String {
    let url = without_user_password(url);
    let Some((before, options)) = url.split_once('?') else { return url };
    let masked = options.split('&').map(|option| match option.split_once('=') {
        Some((name, _)) if name.contains("pass") => format!("{name}=***"),
        _ => option.to_owned(),
    });
    format!("{before}?{}", masked.collect::<Vec<_>>().join("&"))
}

/// The last `@` counts: a password may hold one.
fn without_user_password(url: &str) -> String {
    let masked = || {
        let (scheme, rest) = url.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        // Before the path or, if someone left a '/' of the password bare, before the last '@' of all.
        let at = rest[..end].rfind('@').or_else(|| rest.rfind('@'))?;
        let user = rest[..at].split_once(':').map_or(&rest[..at], |(user, _)| user);
        Some(format!("{scheme}://{user}:***{}", &rest[at..]))
    };
    masked().unwrap_or_else(|| url.to_owned())
}

macro_rules! settings {
    ($($(#[doc = $meaning:literal])+ $id:ident = $name:literal, default $default:literal, form $form:literal, $secrecy:ident;)+) => {
        $(
            $(#[doc = $meaning])+
            pub const $id: Setting = Setting {
                name: $name,
                default: $default,
                form: $form,
                meaning: concat!($($meaning),+).trim_ascii(),
                secrecy: Secrecy::$secrecy,
            };
        )+

        /// Every setting, in the order of the documents.
        pub const ALL: &[&Setting] = &[$(&$id),+];
    };
}

settings! {
    /// Folder of everything that is kept: Redis's data, files, keys.
    DATA = "FOURMI_DATA", default "./data", form "the path of a folder, such as /srv/fourmi", Public;
    /// Redis that holds the jobs: one server, Sentinels or a cluster. Without it `fourmi up` starts a private one in the data folder.
    REDIS_URL = "REDIS_URL", default "", form "a URL such as redis://127.0.0.1:6379, redis+unix:///run/redis.sock, redis+sentinel://host:26379,host:26379/master or redis+cluster://host:6379,host:6379 (rediss for TLS)", UrlPassword;
    /// File of the authorities (certificates in PEM form) that Redis's certificate must come from if `REDIS_URL` says rediss; without it those that the system trusts.
    REDIS_CA = "FOURMI_REDIS_CA", default "", form "the path of a file of certificates, such as /etc/redis/ca.pem", Public;
    /// When the private Redis writes its log to disk: after every command, or once a second (a crash of the machine or of Redis may lose about two seconds).
    REDIS_FSYNC = "FOURMI_REDIS_FSYNC", default "everysec", form "\"everysec\" or \"always\"", Public;
    /// PostgreSQL that holds the records; without it they are in a file of SQLite in the data folder.
    DATABASE_URL = "DATABASE_URL", default "", form "a URL such as postgres://user:password@127.0.0.1:5432/fourmi or postgres:///fourmi?host=/run/postgresql", UrlPassword;
    /// Address that the API listens on.
    LISTEN = "FOURMI_LISTEN", default "127.0.0.1:8700", form "an IP address and a port, such as 127.0.0.1:8700 or [::]:8700", Public;
    /// Largest file that may be uploaded.
    MAX_UPLOAD_BYTES = "FOURMI_MAX_UPLOAD_BYTES", default "10GiB", form "a number of bytes, or of KiB, MiB, GiB or TiB, such as 500MiB", Public;
    /// How long a file that arrives in pieces is kept without another piece.
    UPLOAD_EXPIRY_HOURS = "FOURMI_UPLOAD_EXPIRY_HOURS", default "24", form "a whole number of hours from 1 to 8760, such as 24", Public;
    /// Streams of events that one API process keeps open for one key at most.
    STREAMS_PER_KEY = "FOURMI_STREAMS_PER_KEY", default "1000", form "a whole number from 1 to 1000000, such as 1000", Public;
    /// How often the API may be asked, by class of route; what is not named keeps its default.
    RATE_LIMITS = "FOURMI_RATE_LIMITS", default "", form "entries separated by commas, such as read=600/60 (600 in 60 seconds with one key), any@address=100/60, submit:audio.extract=10/60 or upload=off", Public;
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, separated by commas.
    TRUSTED_PROXIES = "FOURMI_TRUSTED_PROXIES", default "", form "addresses or networks separated by commas, such as 10.0.0.0/8,::1", Public;
    /// Names by which the API may be asked, separated by commas; any if there is none.
    TRUSTED_HOSTS = "FOURMI_TRUSTED_HOSTS", default "", form "names of hosts separated by commas, such as jobs.example.org", Public;
    /// Origins whose pages may call the API, separated by commas; `*` for all.
    CORS_ORIGINS = "FOURMI_CORS_ORIGINS", default "", form "origins separated by commas, such as https://app.example.org", Public;
    /// The secret that all keys of the platform are derived from; without it one is made in the data folder.
    SECRET_KEY = "FOURMI_SECRET_KEY", default "", form "at least 32 characters that nobody can guess, such as `openssl rand -hex 32` prints", Secret;
    /// The secret before it was changed, so that what it sealed can still be read.
    SECRET_KEY_BEFORE = "FOURMI_SECRET_KEY_BEFORE", default "", form "at least 32 characters that nobody can guess, such as `openssl rand -hex 32` prints", Secret;
    /// How long an access token is valid.
    ACCESS_TOKEN_MINUTES = "FOURMI_ACCESS_TOKEN_MINUTES", default "15", form "a whole number of minutes from 1 to 1440, such as 15", Public;
    /// How long a person stays logged in without coming back.
    REFRESH_TOKEN_DAYS = "FOURMI_REFRESH_TOKEN_DAYS", default "7", form "a whole number of days from 1 to 365, such as 7", Public;
    /// How long tokens are signed with one key before the next one.
    TOKEN_KEY_DAYS = "FOURMI_TOKEN_KEY_DAYS", default "30", form "a whole number of days from 1 to 365, such as 30", Public;
    /// Whether people may make accounts for themselves, with tenants that allow it.
    REGISTRATION = "FOURMI_REGISTRATION", default "on", form "\"on\" or \"off\"", Public;
    /// Address that people reach the platform by; links in mails begin with it, unless their tenant has an app of its own.
    PUBLIC_URL = "FOURMI_PUBLIC_URL", default "", form "an http or https URL, such as https://jobs.example.org", Public;
    /// Jobs that one worker process runs at a time; a messaging worker runs 64 if nothing is said.
    SLOTS = "FOURMI_SLOTS", default "<number of cores>", form "a whole number from 1 to 1024, such as 4", Public;
    /// How long a worker that was asked to stop lets its jobs run before it gives them back to the queue.
    DRAIN_SECONDS = "FOURMI_DRAIN_SECONDS", default "30", form "a whole number of seconds from 0 to 86400, such as 30", Public;
    /// How long a worker holds a job without a sign of life before another may take it.
    LEASE_MS = "FOURMI_LEASE_MS", default "15000", form "a whole number of milliseconds from 500 to 3600000, such as 15000", Public;
    /// Succeeded and cancelled jobs that a queue keeps in Redis at most; the oldest go first.
    KEEP_DONE = "FOURMI_KEEP_DONE", default "100000", form "a whole number from 0 to 10000000, such as 100000", Public;
    /// Failed jobs that a queue keeps in Redis at most; the oldest go first.
    KEEP_FAILED = "FOURMI_KEEP_FAILED", default "100000", form "a whole number from 0 to 10000000, such as 100000", Public;
    /// How long finished jobs stay in the records.
    KEEP_JOBS_DAYS = "FOURMI_KEEP_JOBS_DAYS", default "90", form "a whole number of days from 0 (for ever) to 36500, such as 90", Public;
    /// How long events stay in the audit log.
    KEEP_EVENTS_DAYS = "FOURMI_KEEP_EVENTS_DAYS", default "400", form "a whole number of days from 0 (for ever) to 36500, such as 400", Public;
    /// How long stored files are kept; what a job that is not over or a schedule names stays.
    KEEP_FILES_DAYS = "FOURMI_KEEP_FILES_DAYS", default "0", form "a whole number of days from 0 (for ever) to 36500, such as 30", Public;
    /// Room that new jobs and files leave on the disk of the data folder, or a twentieth of the disk if that is less.
    KEEP_FREE_BYTES = "FOURMI_KEEP_FREE_BYTES", default "256MiB", form "a number of bytes, or of KiB, MiB, GiB or TiB, such as 1GiB, or 0 for none", Public;
    /// Whether `fourmi-schedules` sees to the platform's own maintenance.
    MAINTENANCE = "FOURMI_MAINTENANCE", default "on", form "\"on\" or \"off\"", Public;
    /// Finished jobs of a queue that wait in Redis to be recorded at most; beyond that the oldest go without a record.
    OUTBOX_LIMIT = "FOURMI_OUTBOX_LIMIT", default "100000", form "a whole number from 1000 to 10000000, such as 100000", Public;
    /// AMQP broker that `fourmi-amqp` joins to the platform.
    AMQP_URL = "AMQP_URL", default "", form "a URL such as amqp://user:password@127.0.0.1:5672/vhost (amqps for TLS)", UrlPassword;
    /// Queue of the broker that submissions are taken from.
    AMQP_QUEUE = "FOURMI_AMQP_QUEUE", default "fourmi.jobs", form "a name of 1 to 200 visible ASCII characters, such as fourmi.jobs", Public;
    /// Topic exchange of the broker that events are published to; `off`: none are.
    AMQP_EVENTS = "FOURMI_AMQP_EVENTS", default "fourmi.events", form "off, or a name of 1 to 200 visible ASCII characters, such as fourmi.events", Public;
    /// Exchange and queue of the broker where messages go that can become no job.
    AMQP_DEAD = "FOURMI_AMQP_DEAD", default "fourmi.dead", form "a name of 1 to 200 visible ASCII characters, such as fourmi.dead", Public;
    /// Hosts on the inside that jobs may fetch from and send to, separated by commas; all others of the inside are refused.
    EGRESS_ALLOW = "FOURMI_EGRESS_ALLOW", default "", form "hosts, host:port pairs, addresses or networks separated by commas, such as nas.local,10.1.0.0/16", Public;
    /// The program yt-dlp.
    YTDLP = "FOURMI_YTDLP", default "yt-dlp", form "the path of the program, or its name if it is in /usr/local/bin, /usr/bin or /bin", Public;
    /// Largest recording that is fetched.
    MEDIA_MAX_BYTES = "FOURMI_MEDIA_MAX_BYTES", default "20GiB", form "a number of bytes, or of KiB, MiB, GiB or TiB, such as 20GiB", Public;
    /// Most bytes a second that one job fetches; 0 for no limit.
    MEDIA_RATE_LIMIT = "FOURMI_MEDIA_RATE_LIMIT", default "0", form "0, or a number of bytes, or of KiB or MiB, such as 5MiB", Public;
    /// How long a host may be silent before it counts as gone.
    MEDIA_STALL_MS = "FOURMI_MEDIA_STALL_MS", default "30000", form "a whole number of milliseconds from 500 to 600000, such as 30000", Public;
    /// How long a download, and what was made of it, is used again for an equal request; 0 for not at all.
    MEDIA_REUSE_HOURS = "FOURMI_MEDIA_REUSE_HOURS", default "24", form "a whole number of hours from 0 to 8760, such as 24", Public;
    /// Room for downloads that are kept for such use; the oldest go first.
    MEDIA_CACHE_BYTES = "FOURMI_MEDIA_CACHE_BYTES", default "20GiB", form "a number of bytes, or of KiB, MiB, GiB or TiB, such as 20GiB", Public;
    /// The most memory that one analysis of a table may take, as is estimated before each of its steps.
    INSIGHT_MEMORY = "FOURMI_INSIGHT_MEMORY", default "4GiB", form "a number of bytes, or of KiB, MiB, GiB or TiB, such as 4GiB", Public;
    /// Address on which workers show their figures to Prometheus; they do not without one. If its port is taken, the next free one is; port 0 takes any.
    METRICS_LISTEN = "FOURMI_METRICS_LISTEN", default "", form "an IP address and a port, such as 127.0.0.1:9700 or [::]:9700", Public;
    /// Token that whoever asks workers for their figures shows (`Authorization: Bearer`); it wins over the file.
    METRICS_TOKEN = "FOURMI_METRICS_TOKEN", default "", form "at least 16 visible characters, such as `openssl rand -hex 32` prints", Secret;
    /// File that holds that token.
    METRICS_TOKEN_FILE = "FOURMI_METRICS_TOKEN_FILE", default "", form "the path of a file", Public;
    /// What is logged: a level, or levels by target.
    LOG = "FOURMI_LOG", default "info", form "a level (error, warn, info, debug, trace) or directives such as info,fourmi_queue=debug", Public;
    /// Form of the log on standard error.
    LOG_FORMAT = "FOURMI_LOG_FORMAT", default "text", form "\"text\" or \"json\"", Public;
    /// Folder in which every process also writes its log, to files of its own; without it the log is on standard error only.
    LOG_FOLDER = "FOURMI_LOG_FOLDER", default "", form "the path of a folder, such as /var/log/fourmi", Public;
    /// Largest log file; then the process begins the next one.
    LOG_FILE_BYTES = "FOURMI_LOG_FILE_BYTES", default "10MiB", form "a number of bytes, or of KiB, MiB or GiB, such as 10MiB", Public;
    /// Log files that a process keeps; the oldest go first.
    LOG_FILES = "FOURMI_LOG_FILES", default "5", form "a whole number from 1 to 1000, such as 5", Public;
    /// Collector of OpenTelemetry that takes traces by OTLP over HTTP (JSON, at `/v1/traces` of this address); without it there are none.
    OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT", default "", form "an http or https URL, such as http://127.0.0.1:4318", UrlPassword;
    /// Headers that the collector wants.
    OTLP_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS", default "", form "name=value pairs separated by commas, such as authorization=Bearer%20secret", Secret;
    /// Share of the traces that begin here which is sent; who sends a `traceparent` decides for theirs.
    TRACES_RATIO = "OTEL_TRACES_SAMPLER_ARG", default "1", form "a number from 0 to 1, such as 0.1", Public;
    /// Address of the API, for the command line and the client library.
    URL = "FOURMI_URL", default "http://127.0.0.1:8700", form "an http or https URL, such as http://127.0.0.1:8700", UrlPassword;
    /// API key, for the command line and the client library; it wins over the key file.
    API_KEY = "FOURMI_API_KEY", default "", form "the key as the API printed it into its key file", Secret;
    /// File that holds the API key, for the command line.
    API_KEY_FILE = "FOURMI_API_KEY_FILE", default "<data folder>/api-key", form "the path of a file", Public;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_once_and_meanings_are_sentences() {
        let mut names: Vec<_> = ALL.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|setting| setting.meaning.ends_with('.') && !setting.form.ends_with('.')));
    }

    #[test]
    fn the_documents_say_the_same() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
        let document = std::fs::read_to_string(path).unwrap();
        for Setting { name, default, meaning, .. } in ALL {
            let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
            let row = format!("| `{name}` | {default} | {meaning} |");
            assert!(document.contains(&row), "docs/operations.md should hold this row:\n{row}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://:pw@127.0.0.1:6379/0", "redis://:***@127.0.0.1:6379/0"),
            ("redis://me:p@w@host", "redis://me:***@host"),
            ("redis://me:p/w@host/0", "redis://me:***@host/0"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
            ("redis+unix:///run/redis.sock?user=me&pass=pw", "redis+unix:///run/redis.sock?user=me&pass=***"),
            ("redis+sentinel://:pw@a,b/main?sentinel_pass=pw", "redis+sentinel://:***@a,b/main?sentinel_pass=***"),
            ("postgres://me:pw@host/fourmi?sslmode=require", "postgres://me:***@host/fourmi?sslmode=require"),
            ("postgres:///fourmi?host=/run&password=pw", "postgres:///fourmi?host=/run&password=***"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(REDIS_URL.shown(url), shown);
        }
        assert_eq!(API_KEY.shown("fourmi_abc"), "***");
    }
}
