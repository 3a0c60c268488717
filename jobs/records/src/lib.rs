#![doc = include_str!("../README.md")]

mod deletion;
mod error;
mod jobs;
mod keys;
mod list;
mod postgres;
mod row;
mod sqlite;
mod statement;
mod store;

pub use error::RecordsError;
pub use keys::ApiKey;
pub use list::RecordFilter;
pub use store::Records;
