//! `media.probe`: what a recording holds.

use std::{collections::BTreeMap, time::Duration};

use fourmi_model::{Isolation, Policy, Priority};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Chapter, InvalidPayload, JobKind, Source};

/// Looks into a recording: streams, durations, codecs, tags, chapters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MediaProbe {
    /// The recording.
    pub source: Source,
}

impl JobKind for MediaProbe {
    const NAME: &'static str = "media.probe";
    const QUEUE: &'static str = "media";
    const SUMMARY: &'static str = "Looks into a recording: streams, durations, codecs, tags, chapters.";
    type Output = MediaInfo;

    fn policy() -> Policy {
        Policy {
            attempts: Some(3),
            timeout: Duration::from_secs(60),
            priority: Priority::High,
            isolation: Isolation::Process { memory_bytes: 512 * 1024 * 1024 },
            ..Policy::default()
        }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        match self.source {
            Source::Upload(_) => Ok(()),
            Source::Url(_) => {
                Err(InvalidPayload::new("source.url", "only stored files are probed; upload it, or take audio.extract"))
            }
        }
    }
}

/// What `media.probe` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MediaInfo {
    /// The container's short names, as libavformat gives them (`mov,mp4,m4a,3gp,3g2,mj2`).
    pub container: String,
    /// The length in milliseconds, if the container says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// Mean bits a second over the whole file, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_rate: Option<u64>,
    /// The streams, in the order of the container.
    pub streams: Vec<MediaStream>,
    /// Tags of the whole recording.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Chapters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chapters: Vec<Chapter>,
}

/// The type of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamType {
    /// Moving or still picture.
    Video,
    /// Sound.
    Audio,
    /// Text over the picture.
    Subtitle,
    /// Timed data.
    Data,
    /// A file inside the container, such as a font.
    Attachment,
    /// Anything else.
    Other,
}

/// One stream of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MediaStream {
    /// Its number in the container, from 0.
    pub index: u32,
    /// Its type.
    #[serde(rename = "type")]
    pub stream_type: StreamType,
    /// The codec's name (`h264`, `aac`).
    pub codec: String,
    /// The codec's profile, if it has one (`High`, `LC`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The length in milliseconds, if the container says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Bits a second, if the container says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_rate: Option<u64>,
    /// Width of the picture in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height of the picture in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Pictures a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_rate: Option<f64>,
    /// Samples a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<u32>,
    /// Channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u32>,
    /// The language, as the container writes it (`fra`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Whether the stream is a cover picture rather than a film.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cover: bool,
    /// Whether players choose it by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// Tags of the stream.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}
