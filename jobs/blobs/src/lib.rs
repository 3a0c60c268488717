#![doc = include_str!("../README.md")]

mod error;
mod incoming;
mod media_type;
mod name;
mod store;

pub use error::BlobError;
pub use name::clean_name;
pub use store::{Blob, Blobs, Expected, Growing, Origin};
