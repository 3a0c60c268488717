#![doc = include_str!("../README.md")]

mod address;
mod backend;
mod dead;
mod error;
mod flows;
mod limits;
mod link;
mod list;
mod outbox;
mod pressure;
mod push;
mod queues;
mod read;
mod scripts;
mod subscription;
mod transitions;
mod watch;

pub use backend::{BackendHandle, Delivery, QueueBackend, SettleLayer, Stop, StopSignal, WorkerConfig};
pub use dead::{DeadAction, DeadStep};
pub use error::{QueueError, Refusal};
pub use flows::{Flow, FlowEdge, FlowJob, Relay, Told, relay_all};
pub use limits::{MAX_QUEUE_LIMITS, MAX_WEIGHT};
pub use outbox::{Batch, Outbox, OutboxConfig, OutboxState};
pub use queues::{Cancelled, Counts, JobFilter, Page, Pushed, Queues, RedisHealth, Retried, Unparked};
pub use transitions::{Claim, Fetched, Lease, Outcome, Run, Settlement, Transitions};
pub use watch::{Update, Watch, Watcher};
