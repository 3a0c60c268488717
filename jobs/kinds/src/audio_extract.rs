//! `audio.extract`: the sound of a recording as a file.

use std::{collections::BTreeMap, time::Duration};

use fourmi_model::{Artifact, Backoff, BlobId, Isolation, Policy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Chapter, InvalidPayload, JobKind, MediaNote};

/// Extracts the sound of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AudioExtract {
    /// The recording.
    pub source: Source,
    /// The form of the file to make.
    #[serde(default, skip_serializing_if = "is_default")]
    pub format: AudioFormat,
    /// Kilobits a second of a lossy format; by default 64 for one channel and 128 for two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 512))]
    pub bitrate_kbps: Option<u32>,
    /// 1 or 2; by default as the source, more than two channels mixed down to two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2))]
    pub channels: Option<u8>,
    /// Samples a second; by default as the source, or the nearest that the format knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8_000, max = 96_000))]
    pub sample_rate: Option<u32>,
    /// The part to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trim: Option<Trim>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where a recording comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// A file that was uploaded (`POST /api/v1/files`) or made by another job.
    Upload(BlobId),
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
    /// FLAC, lossless.
    Flac,
    /// PCM, 16 bits, in WAV.
    Wav,
    /// The source's own encoding, whatever it is, in the container that fits it.
    Copy,
}

impl AudioFormat {
    /// Every format, in the order of the documents.
    pub const ALL: [Self; 6] = [Self::M4a, Self::Mp3, Self::Opus, Self::Flac, Self::Wav, Self::Copy];

    /// The word for it in payloads and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::M4a => "m4a",
            Self::Mp3 => "mp3",
            Self::Opus => "opus",
            Self::Flac => "flac",
            Self::Wav => "wav",
            Self::Copy => "copy",
        }
    }

    /// Whether a bit rate means something to it.
    pub const fn is_lossy(self) -> bool {
        matches!(self, Self::M4a | Self::Mp3 | Self::Opus)
    }
}

/// A part of a recording, in milliseconds from its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trim {
    /// Where to start.
    #[serde(default)]
    pub start_ms: u64,
    /// Where to end; by default the end of the recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_ms: Option<u64>,
}

impl JobKind for AudioExtract {
    const NAME: &'static str = "audio.extract";
    const QUEUE: &'static str = "media";
    const SUMMARY: &'static str = "Extracts the sound of a recording as an audio file.";
    type Output = AudioExtracted;

    fn policy() -> Policy {
        Policy {
            attempts: Some(3),
            backoff: Backoff { base: Duration::from_secs(10), cap: Duration::from_secs(10 * 60) },
            timeout: Duration::from_secs(4 * 3600),
            // Native code on foreign input.
            isolation: Isolation::Process { memory_bytes: 1024 * 1024 * 1024 },
            ..Policy::default()
        }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        if self.bitrate_kbps.is_some_and(|kbps| !(16..=512).contains(&kbps)) {
            return Err(InvalidPayload::new("bitrate_kbps", "must be between 16 and 512"));
        }
        if self.bitrate_kbps.is_some() && !self.format.is_lossy() {
            let message = format!("means nothing to {}; leave it out", self.format.as_str());
            return Err(InvalidPayload::new("bitrate_kbps", message));
        }
        if self.channels.is_some_and(|channels| !(1..=2).contains(&channels)) {
            return Err(InvalidPayload::new("channels", "must be 1 or 2"));
        }
        if self.sample_rate.is_some_and(|rate| !(8_000..=96_000).contains(&rate)) {
            return Err(InvalidPayload::new("sample_rate", "must be between 8000 and 96000"));
        }
        if self.format == AudioFormat::Copy && (self.channels.is_some() || self.sample_rate.is_some()) {
            let field = if self.channels.is_some() { "channels" } else { "sample_rate" };
            return Err(InvalidPayload::new(
                field,
                "cannot be changed without encoding; choose another format than copy",
            ));
        }
        match self.trim {
            Some(Trim { start_ms, end_ms: Some(end_ms) }) if end_ms <= start_ms => {
                Err(InvalidPayload::new("trim.end_ms", "must be greater than trim.start_ms"))
            }
            _ => Ok(()),
        }
    }
}

/// What `audio.extract` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AudioExtracted {
    /// The audio file (`role` is `audio`).
    pub files: Vec<Artifact>,
    /// The length of the audio file, in milliseconds.
    pub duration_ms: u64,
    /// How it is encoded.
    pub codec: AudioCodec,
    /// The tags that were carried over, by their common names (`title`, `artist`, `album`, `date` …).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The chapters that were carried over, in the times of the audio file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chapters: Vec<Chapter>,
    /// What is worth knowing, such as damage in the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<MediaNote>,
}

/// How an audio file is encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AudioCodec {
    /// The codec's name (`aac`, `mp3`, `opus`, `flac`, `pcm_s16le` …).
    pub name: String,
    /// Whether the source's encoding was kept.
    pub copied: bool,
    /// Samples a second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
    /// Mean bits a second over the whole file.
    pub bit_rate: u64,
}
