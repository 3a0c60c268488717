#![doc = include_str!("../README.md")]

mod error;
mod jobs;
mod store;

pub use error::RecordsError;
pub use store::Records;
