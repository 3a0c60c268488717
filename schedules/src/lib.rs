#![doc = include_str!("../README.md")]

mod metrics;
mod overlap;
mod plan;
mod scheduler;

pub use metrics::Metrics;
pub use scheduler::{Scheduler, StepError};
