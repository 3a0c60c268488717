//! What the API answers, by subject.

mod actions;
mod archived;
mod bulk;
mod bulk_items;
mod dead;
mod delete;
pub(crate) mod docs;
mod download;
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
