#![doc = include_str!("../README.md")]

mod audio;
mod catalogue;
mod media;
mod media_probe;

pub use audio::{
    AudioCodec, AudioDerive, AudioExtract, AudioExtracted, AudioFormat, AudioLive, AudioRecorded, ChapterOptions,
    ChapterRange, EbuR128, Gap, Hls, LiveEnd, LoudnessMode, LoudnessReport, NormalizationType, Normalize, PictureSizes,
    Points, SilenceTrim, Source, SourceInfo, TagOptions, Thumbnails, Trim, Waveform,
};
pub use catalogue::{Catalogue, InvalidPayload, JobKind, KindInfo, catalogue};
pub use media::{Chapter, MediaNote};
pub use media_probe::{MediaInfo, MediaProbe, MediaStream, StreamType};
