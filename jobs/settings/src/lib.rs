#![doc = include_str!("../README.md")]

mod concerns;
mod door;
mod effective;
mod environment;
mod layout;
pub mod logging;
mod rates;
mod secret;
pub mod table;

pub use concerns::bytes;
pub use concerns::{
    ApiKey, ClientSettings, Database, Fsync, Listen, LogFormat, Logging, Media, Outbox, PrivateRedis, Redis, Streams,
    Uploads, Worker,
};
pub use door::Door;
pub use environment::{Environment, SettingError};
pub use layout::Data;
pub use rates::{Per, RateLimit, RateLimits, RouteClass};
pub use secret::Secret;
pub use table::{Secrecy, Setting};
