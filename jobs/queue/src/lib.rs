#![doc = include_str!("../README.md")]

mod error;
mod queues;
mod watch;

pub use error::{QueueError, Refusal};
pub use queues::{Cancelled, Counts, JobFilter, Page, Pushed, Queues, RedisHealth, Retried};
pub use watch::{Update, Watch, Watcher};
