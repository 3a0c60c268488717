//! The sound of a recording as a file.

mod analyse;
mod chapters;
mod copy;
mod decode;
mod elementary;
mod encode;
mod extract;
mod formats;
mod hls;
mod judge;
mod labels;
mod level;
mod packets;
mod recording;
mod shape;
mod split;
mod track;
mod waveform;
mod write;

use std::time::Duration;

pub use analyse::{Analysis, analyse};
pub use chapters::{chapters_json, chapters_vtt};
pub use elementary::{Elementary, elementary};
pub use extract::{Extraction, extract};
pub use hls::{Variant, hls, master_playlist};
pub use labels::Extras;
pub use split::{PartFile, split};
pub use waveform::waveform;

/// The longest sound that is written: a file of some megabytes can claim years of silence.
pub const MAX_DURATION: Duration = Duration::from_secs(48 * 3600);
