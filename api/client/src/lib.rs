#![doc = include_str!("../README.md")]

mod actions;
mod bulk;
mod client;
mod control;
mod dead;
mod documents;
mod download;
mod error;
mod events;
mod flows;
mod jobs;
mod keys;
mod limits;
mod patience;
mod resumable;
mod scale;
#[cfg(test)]
mod scripted;
mod sse;
mod steps;
mod submit;
mod upload;

pub use actions::{ActionTotal, ActionWalk, JobAction};
pub use bulk::{SubmitMany, Submitted};
pub use client::Client;
pub use control::{Obliteration, Promoted, QueuePatch};
pub use dead::{DeadAction, DeadQuery, DeadTotal, DeadWalk, ParkedWalk};
pub use documents::{FileLink, Health, JobPage, JobQuery, KindDocument, OutboxDocument, QueueDocument, StoredFile};
pub use download::Download;
pub use error::{ClientError, FieldError, Problem};
pub use events::{EventQuery, JobsUpdate, JobsUpdates, Update, Updates};
pub use flows::{Flow, FlowAccepted, FlowEdge, FlowJob, FlowMember};
pub use keys::{KeyChange, NewKey};
pub use limits::LimitsDocument;
pub use scale::ScaleChange;
pub use submit::{JobHandle, Raw, Submit};
pub use upload::Upload;
