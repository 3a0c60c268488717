//! What the API answers, by subject.

mod dead;
pub(crate) mod docs;
mod download;
mod events;
pub mod files;
mod flow_plan;
mod flows;
pub mod health;
mod job_list;
pub mod jobs;
pub mod keys;
pub mod kinds;
mod limits;
mod links;
mod obliterate;
mod parents;
mod parked;
mod promote;
pub mod queues;
mod scale;
mod submission;
mod waiting;
pub mod workers;
