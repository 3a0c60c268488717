//! The kinds that make sound files, and the words that they share.

mod derive;
mod extract;
mod live;
mod options;
mod result;

pub use derive::AudioDerive;
pub use extract::{AudioExtract, Source};
pub use live::{AudioLive, AudioRecorded, Gap, LiveEnd};
pub use options::{
    AudioFormat, ChapterOptions, ChapterRange, EbuR128, Hls, LoudnessMode, Normalize, PictureSizes, Points,
    SilenceTrim, TagOptions, Thumbnails, Trim, Waveform,
};
pub use result::{AudioCodec, AudioExtracted, LoudnessReport, NormalizationType, SourceInfo};
