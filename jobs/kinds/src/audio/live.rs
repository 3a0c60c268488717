//! `audio.live`: a stream that is on the air, recorded until it ends.

use std::time::Duration;

use fourmi_model::{Artifact, Backoff, Isolation, Policy};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AudioCodec, AudioFormat, TagOptions,
    extract::check_url,
    options::{Encoding, is_default},
};
use crate::{InvalidPayload, JobKind, MediaNote};

/// Records the sound of a running HLS stream until it ends, its time is over, or the job is cancelled: then what was
/// recorded is kept, and the job succeeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AudioLive {
    /// The address (http or https) of the stream's playlist (`.m3u8`).
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    pub url: String,
    /// The form of the file in the end; by default the stream's own encoding.
    #[serde(default = "copy", skip_serializing_if = "is_copy")]
    pub format: AudioFormat,
    /// Kilobits a second, if it is encoded anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 512))]
    pub bitrate_kbps: Option<u32>,
    /// Stops after so much sound, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_duration_ms: Option<u64>,
    /// Stops at this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub stop_at: Option<Timestamp>,
    /// How long the stream may be away before the recording ends, in milliseconds; 5 minutes by default.
    #[serde(default = "patience", skip_serializing_if = "is_patience")]
    #[schemars(range(min = 1_000, max = 86_400_000))]
    pub patience_ms: u64,
    /// Tags of the file.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tags: TagOptions,
}

const fn copy() -> AudioFormat {
    AudioFormat::Copy
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_copy(format: &AudioFormat) -> bool {
    *format == AudioFormat::Copy
}

const fn patience() -> u64 {
    5 * 60 * 1000
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_patience(ms: &u64) -> bool {
    *ms == patience()
}

impl JobKind for AudioLive {
    const NAME: &'static str = "audio.live";
    const QUEUE: &'static str = "media";
    const SUMMARY: &'static str = "Records the sound of a running HLS stream until it ends or is stopped.";
    type Output = AudioRecorded;

    fn policy() -> Policy {
        Policy {
            attempts: Some(20),
            backoff: Backoff { base: Duration::from_secs(2), cap: Duration::from_secs(60) },
            timeout: Duration::from_secs(24 * 3600),
            isolation: Isolation::Process { memory_bytes: 512 * 1024 * 1024 },
            // What was recorded is finished and stored when the job is told to stop.
            stop_grace: Duration::from_secs(120),
            ..Policy::default()
        }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        check_url("url", &self.url)?;
        let (format, bitrate_kbps) = (self.format, self.bitrate_kbps);
        Encoding { format, bitrate_kbps, quality: None, channels: None, sample_rate: None }.check()?;
        if self.max_duration_ms == Some(0) {
            return Err(InvalidPayload::new("max_duration_ms", "must be at least 1"));
        }
        if !(1_000..=86_400_000).contains(&self.patience_ms) {
            return Err(InvalidPayload::new("patience_ms", "must be between 1000 and 86400000 (one day)"));
        }
        self.tags.check()
    }
}

/// What `audio.live` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AudioRecorded {
    /// The audio file (`role` is `audio`).
    pub files: Vec<Artifact>,
    /// The length of the audio file, in milliseconds.
    pub duration_ms: u64,
    /// How it is encoded.
    pub codec: AudioCodec,
    /// Where sound is missing.
    pub gaps: Vec<Gap>,
    /// Why the recording ended.
    pub ended: LiveEnd,
    /// Segments that were recorded.
    pub segments: u64,
    /// Times that the stream was away and came back.
    pub reconnects: u64,
    /// What is worth knowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<MediaNote>,
}

/// A place where sound of the stream is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// Where it is in the file, in milliseconds.
    pub at_ms: u64,
    /// How much is missing, in milliseconds, as far as anybody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_ms: Option<u64>,
    /// Segments that are missing, if the stream counted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u64>,
}

/// Why a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LiveEnd {
    /// The stream said that it was over.
    Finished,
    /// The job was cancelled.
    Stopped,
    /// `max_duration_ms` or `stop_at` was reached.
    Limit,
    /// The stream stayed away for longer than `patience_ms`.
    Lost,
}
