#![doc = include_str!("../README.md")]

mod error;
mod jobs;
mod keys;
mod postgres;
mod row;
mod sqlite;
mod store;

pub use error::RecordsError;
pub use keys::ApiKey;
pub use store::Records;
