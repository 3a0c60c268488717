#![doc = include_str!("../README.md")]

mod blob;
mod content;
mod error;
mod incoming;
mod media_type;
mod name;
mod shards;
mod store;
mod uploads;

pub use blob::{Blob, Growing, Origin, Owner};
pub use error::{BlobError, UploadError};
pub use name::clean_name;
pub use store::{Blobs, Expected, Shard};
pub use uploads::{Announced, Upload, UploadState, Uploads};
