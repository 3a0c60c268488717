#![doc = include_str!("../README.md")]

mod chores;
mod metrics;
mod overlap;
mod plan;
mod scheduler;

pub use chores::add_chores;
pub use metrics::Metrics;
pub use scheduler::{Scheduler, StepError};
