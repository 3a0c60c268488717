#![doc = include_str!("../README.md")]

mod audio_extract;
mod catalogue;
mod media;
mod media_probe;

pub use audio_extract::{AudioCodec, AudioExtract, AudioExtracted, AudioFormat, Source, Trim};
pub use catalogue::{Catalogue, InvalidPayload, JobKind, KindInfo, catalogue};
pub use media::{Chapter, MediaNote};
pub use media_probe::{MediaInfo, MediaProbe, MediaStream, StreamType};
