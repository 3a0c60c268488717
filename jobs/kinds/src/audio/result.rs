//! What the kinds give.

use std::collections::BTreeMap;

use fourmi_model::Artifact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Chapter, MediaNote};

/// What `audio.extract` and `audio.derive` give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AudioExtracted {
    /// The files, by their role: `audio`, `info`, `chapters`, `chapters_vtt`, `chapter`, `waveform`, `cover`, `thumbnail`,
    /// `hls`, `hls_variant`, `hls_media`.
    pub files: Vec<Artifact>,
    /// The length of the sound, in milliseconds.
    pub duration_ms: u64,
    /// How the audio file is encoded.
    pub codec: AudioCodec,
    /// The tags of the audio file, by their common names (`title`, `artist`, `album`, `date` …).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The chapters, in the times of the audio file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chapters: Vec<Chapter>,
    /// What was measured of its loudness, and done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loudness: Option<LoudnessReport>,
    /// Where the recording came from, if it was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceInfo>,
    /// Whether these files were made by an earlier, equal request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
    /// How long each stage took, in milliseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub timings_ms: BTreeMap<String, u64>,
    /// What is worth knowing, such as damage in the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<MediaNote>,
}

impl AudioExtracted {
    /// The first file of that role.
    pub fn file(&self, role: &str) -> Option<&Artifact> {
        self.files.iter().find(|file| file.role == role)
    }
}

/// How an audio file is encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AudioCodec {
    /// The codec's name (`aac`, `mp3`, `opus`, `vorbis`, `flac`, `pcm_s16le` …).
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

/// Loudness by EBU R 128, before and after; the names are those of FFmpeg's `loudnorm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoudnessReport {
    /// Integrated loudness of the source, in LUFS; null if it is silent or was not measured (`one_pass`).
    pub input_i: Option<f64>,
    /// Highest true peak of the source, in dBTP.
    pub input_tp: Option<f64>,
    /// Loudness range of the source, in LU.
    pub input_lra: Option<f64>,
    /// What is softer than this did not count, in LUFS.
    pub input_thresh: Option<f64>,
    /// Integrated loudness of the file, before it was encoded, in LUFS.
    pub output_i: Option<f64>,
    /// Highest true peak of the file, before it was encoded, in dBTP.
    pub output_tp: Option<f64>,
    /// How it was changed.
    pub normalization_type: NormalizationType,
    /// By how much, in dB, if by one factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain_db: Option<f64>,
}

/// How loudness was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormalizationType {
    /// Not at all: the source is silent.
    None,
    /// All of it by one factor.
    Linear,
    /// More and less as it goes, because one factor would have passed the true peak or the loudness range.
    Dynamic,
}

/// Where a recording came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceInfo {
    /// The address that was asked for.
    pub url: String,
    /// What names the recording whatever its address: who knows it (`generic`, `http`, a site), and its id there.
    pub canonical_id: String,
    /// The page that shows it, if it was found on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// Its title there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Who published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploader: Option<String>,
    /// When, as `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Its size in bytes.
    pub bytes: u64,
    /// The SHA-256 of its content, in lower-case hexadecimal digits.
    pub sha256: String,
}
