//! What the API answers, by subject.

pub(crate) mod docs;
pub mod files;
pub mod health;
mod job_list;
pub mod jobs;
pub mod kinds;
pub mod queues;
mod submission;
