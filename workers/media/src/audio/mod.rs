//! The sound of a recording as a file.

mod copy;
mod encode;
mod extract;
mod formats;
mod labels;
mod packets;
mod shape;
mod track;
mod write;

use std::time::Duration;

pub use extract::{Extraction, extract};

/// The longest sound that is written: a file of some megabytes can claim years of silence.
pub const MAX_DURATION: Duration = Duration::from_secs(48 * 3600);
