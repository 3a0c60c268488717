//! `audio.derive`: something else from a sound file that is stored already.

use fourmi_model::{BlobId, Policy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AudioExtract, AudioExtracted, AudioFormat, ChapterOptions, Hls, Normalize, Source, TagOptions, Thumbnails, Trim,
    Waveform,
    options::{Encoding, is_default},
};
use crate::{InvalidPayload, JobKind};

/// Makes another format, a waveform or a stream of a stored sound file, without fetching its source again. At least one of
/// `format`, `waveform` and `hls` must be asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AudioDerive {
    /// The stored file, such as the `audio` of an `audio.extract`.
    pub file: BlobId,
    /// The form of the file to make; by default none is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<AudioFormat>,
    /// As in `audio.extract`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 512))]
    pub bitrate_kbps: Option<u32>,
    /// As in `audio.extract`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9))]
    pub quality: Option<u8>,
    /// As in `audio.extract`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2))]
    pub channels: Option<u8>,
    /// As in `audio.extract`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8_000, max = 96_000))]
    pub sample_rate: Option<u32>,
    /// The part to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trim: Option<Trim>,
    /// How loud it is to be; by default as the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalize>,
    /// The shape of the sound, to be drawn; by default none is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waveform: Option<Waveform>,
    /// The sound for HTTP Live Streaming.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hls: Option<Hls>,
    /// Tags and cover.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tags: TagOptions,
}

impl AudioDerive {
    /// The extraction that makes the same, and whether it makes an audio file at all.
    pub fn into_extract(self) -> (AudioExtract, bool) {
        let wants_file = self.format.is_some();
        let extract = AudioExtract {
            format: self.format.unwrap_or(AudioFormat::Copy),
            bitrate_kbps: self.bitrate_kbps,
            quality: self.quality,
            channels: self.channels,
            sample_rate: self.sample_rate,
            trim: self.trim,
            normalize: Some(self.normalize.unwrap_or(Normalize::Off)),
            chapters: ChapterOptions { sidecar: false, ..ChapterOptions::default() },
            tags: self.tags,
            thumbnails: Thumbnails::Off,
            waveform: self.waveform.unwrap_or(Waveform::Off),
            hls: self.hls,
            ..AudioExtract::of(Source::Upload(self.file))
        };
        (extract, wants_file)
    }
}

impl JobKind for AudioDerive {
    const NAME: &'static str = "audio.derive";
    const QUEUE: &'static str = "media";
    const SUMMARY: &'static str = "Makes another format, a waveform or an HLS stream of a stored sound file.";
    type Output = AudioExtracted;

    fn policy() -> Policy {
        Policy { attempts: Some(3), ..AudioExtract::policy() }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        if self.format.is_none() && self.waveform.is_none_or(|form| form == Waveform::Off) && self.hls.is_none() {
            return Err(InvalidPayload::new("", "asks for nothing; give format, waveform or hls"));
        }
        let Self { format, bitrate_kbps, quality, channels, sample_rate, .. } = *self;
        match format {
            Some(format) => Encoding { format, bitrate_kbps, quality, channels, sample_rate }.check()?,
            None => {
                let given = [
                    ("bitrate_kbps", bitrate_kbps.is_some()),
                    ("quality", quality.is_some()),
                    ("channels", channels.is_some()),
                    ("sample_rate", sample_rate.is_some()),
                    ("normalize", self.normalize.is_some_and(|how| how != Normalize::Off)),
                    ("trim", self.trim.is_some()),
                ];
                if let Some((path, _)) = given.into_iter().find(|(_, given)| *given) {
                    return Err(InvalidPayload::new(path, "means nothing without format"));
                }
            }
        }
        self.trim.as_ref().map_or(Ok(()), Trim::check)?;
        self.normalize.map_or(Ok(()), |normalize| normalize.check(format.unwrap_or_default()))?;
        self.waveform.map_or(Ok(()), Waveform::check)?;
        self.hls.as_ref().map_or(Ok(()), Hls::check)?;
        self.tags.check()
    }
}
