//! What can be asked for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Chapter, InvalidPayload};

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The form of an audio file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AudioFormat {
    /// AAC in MP4, playable from its first bytes.
    #[default]
    M4a,
    /// MP3 with ID3 tags.
    Mp3,
    /// Opus in Ogg.
    Opus,
    /// Vorbis in Ogg.
    Ogg,
    /// FLAC, lossless.
    Flac,
    /// PCM, 16 bits, in WAV.
    Wav,
    /// The source's own encoding, whatever it is, in the container that fits it.
    Copy,
}

impl AudioFormat {
    /// Every format, in the order of the documents.
    pub const ALL: [Self; 7] = [Self::M4a, Self::Mp3, Self::Opus, Self::Ogg, Self::Flac, Self::Wav, Self::Copy];

    /// The word for it in payloads and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::M4a => "m4a",
            Self::Mp3 => "mp3",
            Self::Opus => "opus",
            Self::Ogg => "ogg",
            Self::Flac => "flac",
            Self::Wav => "wav",
            Self::Copy => "copy",
        }
    }

    /// Whether a bit rate means something to it.
    pub const fn is_lossy(self) -> bool {
        matches!(self, Self::M4a | Self::Mp3 | Self::Opus | Self::Ogg)
    }

    /// Whether a quality (a variable bit rate) means something to it.
    pub const fn has_quality(self) -> bool {
        matches!(self, Self::Mp3 | Self::Ogg)
    }
}

/// Whether the sound is made as loud as other sound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// As loud as the source.
    Off,
    /// To a loudness by EBU R 128.
    EbuR128(EbuR128),
}

impl Normalize {
    /// The targets, if it is on.
    pub const fn targets(self) -> Option<EbuR128> {
        match self {
            Self::Off => None,
            Self::EbuR128(targets) => Some(targets),
        }
    }
}

/// Targets of loudness, by EBU R 128 and ITU-R BS.1770.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EbuR128 {
    /// Integrated loudness, in LUFS.
    #[schemars(range(min = -70.0, max = -5.0))]
    pub integrated_lufs: f64,
    /// The highest true peak, in dBTP.
    #[schemars(range(min = -9.0, max = 0.0))]
    pub true_peak_dbtp: f64,
    /// The widest loudness range, in LU.
    #[schemars(range(min = 1.0, max = 50.0))]
    pub range_lu: f64,
    /// How many times the sound is gone through.
    pub mode: LoudnessMode,
}

impl Default for EbuR128 {
    fn default() -> Self {
        Self { integrated_lufs: -16.0, true_peak_dbtp: -1.5, range_lu: 11.0, mode: LoudnessMode::TwoPass }
    }
}

/// How many times the sound is gone through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoudnessMode {
    /// Measured first, then changed: by one factor where that meets the targets.
    #[default]
    TwoPass,
    /// Changed while it is measured: faster, and louder and softer as it goes.
    OnePass,
}

/// A part of a recording. Without anything it is the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trim {
    /// Where to start, in milliseconds from the start of the recording.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start_ms: u64,
    /// Where to end; by default the end of the recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_ms: Option<u64>,
    /// Instead of times: these chapters of the recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chapters: Option<ChapterRange>,
    /// Leaves out silence at the head and the tail of the part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<SilenceTrim>,
}

/// Chapters one after the other, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChapterRange {
    /// The first.
    #[schemars(range(min = 1))]
    pub first: u32,
    /// The last; by default the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
}

/// What counts as silence, and how much of it stays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SilenceTrim {
    /// What is softer than this is silence, in dB below full scale.
    #[schemars(range(min = -90.0, max = -10.0))]
    pub threshold_db: f64,
    /// So much of the silence stays at either end, in milliseconds.
    #[schemars(range(min = 0, max = 10_000))]
    pub keep_ms: u32,
}

impl Default for SilenceTrim {
    fn default() -> Self {
        Self { threshold_db: -50.0, keep_ms: 200 }
    }
}

/// What becomes of chapters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChapterOptions {
    /// These instead of the source's own, in the source's times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<Vec<Chapter>>,
    /// Writes them into the audio file, where its format can hold them.
    pub embed: bool,
    /// Writes them beside it as JSON (role `chapters`) and WebVTT (role `chapters_vtt`).
    pub sidecar: bool,
    /// Also makes one audio file a chapter (role `chapter`).
    pub split: bool,
}

impl Default for ChapterOptions {
    fn default() -> Self {
        Self { list: None, embed: true, sidecar: true, split: false }
    }
}

/// What the audio file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TagOptions {
    /// Takes over what the source says of itself, or the page it is on.
    pub from_source: bool,
    /// Tags to set, by their common names (`title`, `artist`, `album`, `date`, `genre`, `comment` …). An empty value takes
    /// one away.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Attaches the source's picture as cover, where the format can hold one.
    pub cover: bool,
}

impl Default for TagOptions {
    fn default() -> Self {
        Self { from_source: true, set: BTreeMap::new(), cover: true }
    }
}

/// Pictures beside the audio file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Thumbnails {
    /// None.
    Off,
    /// As JPEG.
    Jpg(PictureSizes),
    /// As WebP.
    Webp(PictureSizes),
}

impl Default for Thumbnails {
    fn default() -> Self {
        Self::Jpg(PictureSizes::default())
    }
}

/// The longest sides of pictures, in pixels. No picture is made larger than its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PictureSizes {
    /// Of the large one (role `cover`).
    #[schemars(range(min = 16, max = 4096))]
    pub cover: u32,
    /// Of the small one (role `thumbnail`).
    #[schemars(range(min = 16, max = 4096))]
    pub small: u32,
}

impl Default for PictureSizes {
    fn default() -> Self {
        Self { cover: 1280, small: 320 }
    }
}

/// The shape of the sound, to be drawn: a file (role `waveform`) in a form of audiowaveform's, version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Waveform {
    /// None.
    Off,
    /// As JSON.
    Json(Points),
    /// As binary data (`.dat`).
    Binary(Points),
}

impl Default for Waveform {
    fn default() -> Self {
        Self::Json(Points::default())
    }
}

/// How fine a waveform is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Points {
    /// Pairs of lowest and highest sample a second.
    #[schemars(range(min = 1, max = 1000))]
    pub per_second: u32,
    /// Bits a number: 8 or 16.
    pub bits: u8,
}

impl Default for Points {
    fn default() -> Self {
        Self { per_second: 20, bits: 8 }
    }
}

/// HTTP Live Streaming: a playlist (role `hls`) that names one more for each bit rate (role `hls_variant`), whose sound is
/// AAC in fragmented MP4 (role `hls_media`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hls {
    /// The length of a segment.
    #[schemars(range(min = 1, max = 30))]
    pub segment_seconds: u32,
    /// Kilobits a second, from which a player chooses.
    #[schemars(length(min = 1, max = 6), inner(range(min = 16, max = 512)))]
    pub bitrates_kbps: Vec<u32>,
}

impl Default for Hls {
    fn default() -> Self {
        Self { segment_seconds: 6, bitrates_kbps: vec![64, 128] }
    }
}

/// How the sound is encoded, as far as it is asked for.
pub(super) struct Encoding {
    pub(super) format: AudioFormat,
    pub(super) bitrate_kbps: Option<u32>,
    pub(super) quality: Option<u8>,
    pub(super) channels: Option<u8>,
    pub(super) sample_rate: Option<u32>,
}

fn mistake<T>(path: &str, message: impl Into<String>) -> Result<T, InvalidPayload> {
    Err(InvalidPayload::new(path, message))
}

fn within<T: PartialOrd>(path: &str, value: T, least: T, most: T, words: &str) -> Result<(), InvalidPayload> {
    // Written so that NaN is refused.
    if value >= least && value <= most { Ok(()) } else { mistake(path, words) }
}

impl Encoding {
    pub(super) fn check(&self) -> Result<(), InvalidPayload> {
        let format = self.format.as_str();
        if let Some(kbps) = self.bitrate_kbps {
            within("bitrate_kbps", kbps, 16, 512, "must be between 16 and 512")?;
            if !self.format.is_lossy() {
                return mistake("bitrate_kbps", format!("means nothing to {format}; leave it out"));
            }
        }
        if let Some(quality) = self.quality {
            within("quality", quality, 0, 9, "must be between 0 (best) and 9")?;
            if !self.format.has_quality() {
                return mistake("quality", format!("means nothing to {format}; give bitrate_kbps, or take mp3 or ogg"));
            }
            if self.bitrate_kbps.is_some() {
                return mistake("quality", "cannot be given together with bitrate_kbps; leave one out");
            }
        }
        if let Some(channels) = self.channels {
            within("channels", channels, 1, 2, "must be 1 or 2")?;
        }
        if let Some(rate) = self.sample_rate {
            within("sample_rate", rate, 8_000, 96_000, "must be between 8000 and 96000")?;
        }
        if self.format == AudioFormat::Copy && (self.channels.is_some() || self.sample_rate.is_some()) {
            let field = if self.channels.is_some() { "channels" } else { "sample_rate" };
            return mistake(field, "cannot be changed without encoding; choose another format than copy");
        }
        Ok(())
    }
}

impl Normalize {
    pub(super) fn check(self, format: AudioFormat) -> Result<(), InvalidPayload> {
        let Some(targets) = self.targets() else { return Ok(()) };
        if format == AudioFormat::Copy {
            return mistake("normalize", "needs encoding; choose another format than copy, or \"off\"");
        }
        let path = |field: &str| format!("normalize.ebu_r128.{field}");
        within(&path("integrated_lufs"), targets.integrated_lufs, -70.0, -5.0, "must be between -70 and -5")?;
        within(&path("true_peak_dbtp"), targets.true_peak_dbtp, -9.0, 0.0, "must be between -9 and 0")?;
        within(&path("range_lu"), targets.range_lu, 1.0, 50.0, "must be between 1 and 50")
    }
}

impl Trim {
    pub(super) fn check(&self) -> Result<(), InvalidPayload> {
        if self.end_ms.is_some_and(|end| end <= self.start_ms) {
            return mistake("trim.end_ms", "must be greater than trim.start_ms");
        }
        if let Some(range) = self.chapters {
            if self.start_ms != 0 || self.end_ms.is_some() {
                return mistake("trim.chapters", "cannot be given together with times; leave one out");
            }
            within("trim.chapters.first", range.first, 1, u32::MAX, "must be 1 or more: the first chapter is 1")?;
            if range.last.is_some_and(|last| last < range.first) {
                return mistake("trim.chapters.last", "must not be smaller than trim.chapters.first");
            }
        }
        if let Some(silence) = self.silence {
            let path = "trim.silence.threshold_db";
            within(path, silence.threshold_db, -90.0, -10.0, "must be between -90 and -10")?;
            within("trim.silence.keep_ms", silence.keep_ms, 0, 10_000, "must be at most 10000")?;
        }
        Ok(())
    }
}

impl ChapterOptions {
    /// The most chapters that can be given.
    pub(super) const MOST: usize = 500;

    pub(super) fn check(&self) -> Result<(), InvalidPayload> {
        let Some(list) = &self.list else { return Ok(()) };
        if list.len() > Self::MOST {
            return mistake("chapters.list", format!("must hold at most {} chapters", Self::MOST));
        }
        let mut end = 0;
        for (number, chapter) in list.iter().enumerate() {
            let path = |field: &str| format!("chapters.list[{number}].{field}");
            if chapter.start_ms < end {
                return mistake(&path("start_ms"), "must not lie before the end of the chapter before");
            }
            if chapter.end_ms <= chapter.start_ms {
                return mistake(&path("end_ms"), "must be greater than start_ms");
            }
            if chapter.title.chars().count() > 500 {
                return mistake(&path("title"), "must have at most 500 characters");
            }
            end = chapter.end_ms;
        }
        Ok(())
    }
}

impl TagOptions {
    pub(super) fn check(&self) -> Result<(), InvalidPayload> {
        if self.set.len() > 50 {
            return mistake("tags.set", "must hold at most 50 tags");
        }
        for (name, value) in &self.set {
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || name.len() > 40 || !name.chars().all(fine) {
                return mistake("tags.set", "names must be 1 to 40 of a-z, 0-9 and _, such as album_artist");
            }
            if value.chars().count() > 4_000 || value.contains('\0') {
                return mistake(&format!("tags.set.{name}"), "must have at most 4000 characters, and none of them NUL");
            }
        }
        Ok(())
    }
}

impl Thumbnails {
    pub(super) fn check(self) -> Result<(), InvalidPayload> {
        let (word, sizes) = match self {
            Self::Off => return Ok(()),
            Self::Jpg(sizes) => ("jpg", sizes),
            Self::Webp(sizes) => ("webp", sizes),
        };
        let words = "must be between 16 and 4096";
        within(&format!("thumbnails.{word}.cover"), sizes.cover, 16, 4096, words)?;
        within(&format!("thumbnails.{word}.small"), sizes.small, 16, 4096, words)
    }
}

impl Waveform {
    /// How fine it is, if there is one.
    pub const fn points(self) -> Option<Points> {
        match self {
            Self::Off => None,
            Self::Json(points) | Self::Binary(points) => Some(points),
        }
    }

    pub(super) fn check(self) -> Result<(), InvalidPayload> {
        let word = if matches!(self, Self::Json(_)) { "json" } else { "binary" };
        let Some(points) = self.points() else { return Ok(()) };
        let path = format!("waveform.{word}.per_second");
        within(&path, points.per_second, 1, 1000, "must be between 1 and 1000")?;
        if points.bits != 8 && points.bits != 16 {
            return mistake(&format!("waveform.{word}.bits"), "must be 8 or 16");
        }
        Ok(())
    }
}

impl Hls {
    pub(super) fn check(&self) -> Result<(), InvalidPayload> {
        within("hls.segment_seconds", self.segment_seconds, 1, 30, "must be between 1 and 30")?;
        let path = "hls.bitrates_kbps";
        within(path, self.bitrates_kbps.len(), 1, 6, "must hold 1 to 6 bit rates")?;
        for kbps in &self.bitrates_kbps {
            within(path, *kbps, 16, 512, "must be between 16 and 512")?;
        }
        let mut sorted = self.bitrates_kbps.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() == self.bitrates_kbps.len() { Ok(()) } else { mistake(path, "must differ from one another") }
    }
}
