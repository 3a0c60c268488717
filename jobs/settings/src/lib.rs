#![doc = include_str!("../README.md")]

mod concerns;
mod door;
mod effective;
mod environment;
mod keep;
mod layout;
mod metrics;
mod people;
mod rates;
mod secret;
pub mod table;
mod traces;

pub use concerns::bytes;
pub use concerns::{
    Amqp, ApiKey, ClientSettings, Database, Fsync, Insight, Listen, LogFiles, LogFormat, Logging, Media, Messaging,
    Outbox, PrivateRedis, Redis, Streams, Uploads, Worker,
};
pub use door::Door;
pub use environment::{Environment, SettingError};
pub use keep::{Keep, Maintenance};
pub use layout::Data;
pub use metrics::Metrics;
pub use people::People;
pub use rates::{Per, RateLimit, RateLimits, RouteClass};
pub use secret::{Secret, SecretKeys};
pub use table::{Secrecy, Setting};
pub use traces::Traces;
