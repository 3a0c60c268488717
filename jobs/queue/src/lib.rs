#![doc = include_str!("../README.md")]

mod address;
mod advance;
mod backend;
mod control;
mod dead;
mod error;
mod estimate;
mod limits;
mod link;
mod list;
mod obliterate;
mod outbox;
mod pressure;
mod push;
mod queues;
mod read;
mod registry;
mod scripts;
mod subscription;
mod transitions;
mod walk;
mod watch;
mod why;

pub use advance::{Prioritized, PromoteStep};
pub use backend::{BackendHandle, Delivery, QueueBackend, SettleLayer, Stop, StopSignal, WorkerConfig};
pub use control::{Control, ControlChange};
pub use dead::{DeadAction, DeadStep};
pub use error::{QueueError, Refusal};
pub use limits::{MAX_QUEUE_LIMITS, MAX_WEIGHT};
pub use obliterate::{ObliterateOffer, Obliterated};
pub use outbox::{Batch, Outbox, OutboxConfig, OutboxState};
pub use queues::{Cancelled, Counts, JobFilter, Page, Pushed, Queues, RedisHealth, Retried, Unparked};
pub use registry::Orders;
pub use transitions::{Claim, Fetched, Lease, Outcome, Run, Settlement, Transitions};
pub use watch::{Update, Watch, Watcher};
