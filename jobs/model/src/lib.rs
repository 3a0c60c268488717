#![doc = include_str!("../README.md")]

mod artifact;
mod envelope;
mod failure;
mod id;
mod job;
mod policy;
mod progress;
mod state;

pub use artifact::{Artifact, BlobId};
pub use envelope::{Envelope, MAX_PAYLOAD_BYTES, MAX_TAGS, Submission};
pub use failure::{ErrorClass, ErrorReport, Failure, NextStep};
pub use id::{InvalidName, JobId, KindName, QueueName};
pub use job::{Job, JobRecord, RunReport};
pub use policy::{Backoff, History, Isolation, Policy, PolicyOverrides, Retention};
pub use progress::Progress;
pub use state::{Priority, State, UnknownWord};
