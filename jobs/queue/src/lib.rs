#![doc = include_str!("../README.md")]

mod backend;
mod error;
mod link;
mod push;
mod queues;
mod read;
mod scripts;
mod subscription;
mod watch;

pub use backend::{BackendHandle, Delivery, Outcome, QueueBackend, SettleLayer, Stop, StopSignal, WorkerConfig};
pub use error::{QueueError, Refusal};
pub use queues::{Cancelled, Counts, JobFilter, Page, Pushed, Queues, RedisHealth, Retried};
pub use watch::{Update, Watch, Watcher};
