#![doc = include_str!("../README.md")]

pub mod logging;
pub mod metrics;
pub mod process;
pub mod traces;
