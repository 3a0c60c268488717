//! `audio.extract`: the sound of a recording as a file.

use std::time::Duration;

use fourmi_model::{Backoff, BlobId, Isolation, Policy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AudioExtracted, AudioFormat, ChapterOptions, EbuR128, Hls, Normalize, TagOptions, Thumbnails, Trim, Waveform,
    options::{Encoding, is_default},
};
use crate::{InvalidPayload, JobKind};

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
    /// Instead of a bit rate, for mp3 and ogg: a variable one, from 0 (best) to 9 (smallest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9))]
    pub quality: Option<u8>,
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
    /// How loud it is to be; by default -16 LUFS in two passes, and as the source for `copy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalize>,
    /// Chapters.
    #[serde(default, skip_serializing_if = "is_default")]
    pub chapters: ChapterOptions,
    /// Tags and cover.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tags: TagOptions,
    /// Pictures beside the file.
    #[serde(default, skip_serializing_if = "is_default")]
    pub thumbnails: Thumbnails,
    /// The shape of the sound, to be drawn.
    #[serde(default, skip_serializing_if = "is_default")]
    pub waveform: Waveform,
    /// The sound for HTTP Live Streaming, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hls: Option<Hls>,
    /// The largest source to fetch; the operator's own limit holds in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_bytes: Option<u64>,
    /// The longest source to take, in milliseconds; never more than 48 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_duration_ms: Option<u64>,
    /// The most bytes a second to fetch; the operator's own limit holds in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024))]
    pub rate_limit: Option<u64>,
    /// The name of a secret of the operator's: cookies for the source, as a browser's `cookies.txt` (Netscape's form).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[a-z0-9_-]{1,64}$"))]
    pub cookies_ref: Option<String>,
    /// Whether what an equal request made, or an earlier download, may be used again.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub reuse: bool,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_yes(value: &bool) -> bool {
    *value
}

/// Where a recording comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// A file that was uploaded (`POST /api/v1/files`) or made by another job.
    Upload(BlobId),
    /// The address (http or https) of a page that shows it, of the recording itself, or of its HLS or DASH manifest.
    Url(#[schemars(length(max = 2048), extend("format" = "uri"))] String),
}

impl AudioExtract {
    /// The sound of `source`, with everything as it is by default.
    pub fn of(source: Source) -> Self {
        Self {
            source,
            format: AudioFormat::default(),
            bitrate_kbps: None,
            quality: None,
            channels: None,
            sample_rate: None,
            trim: None,
            normalize: None,
            chapters: ChapterOptions::default(),
            tags: TagOptions::default(),
            thumbnails: Thumbnails::default(),
            waveform: Waveform::default(),
            hls: None,
            max_bytes: None,
            max_duration_ms: None,
            rate_limit: None,
            cookies_ref: None,
            reuse: true,
        }
    }

    /// The targets of loudness, those of the default included.
    pub fn loudness(&self) -> Option<EbuR128> {
        match self.normalize {
            Some(normalize) => normalize.targets(),
            None if self.format == AudioFormat::Copy => None,
            None => Some(EbuR128::default()),
        }
    }
}

/// Checks an address as far as it can be done without a look at the network.
pub(super) fn check_url(path: &str, url: &str) -> Result<(), InvalidPayload> {
    let mistake = |message: &str| Err(InvalidPayload::new(path, message));
    if url.len() > 2048 {
        return mistake("must have at most 2048 bytes");
    }
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return mistake("must not hold blanks or control characters; write them as %20 and the like");
    }
    let Ok(url) = url::Url::parse(url) else {
        return mistake("must be a URL, such as https://example.org/debate");
    };
    if !matches!(url.scheme(), "http" | "https") {
        return mistake("must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return mistake("must not hold a user name or password: payloads are shown to whoever may read the job");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return mistake("must name a host");
    }
    Ok(())
}

impl Source {
    pub(crate) fn check(&self) -> Result<(), InvalidPayload> {
        match self {
            Self::Upload(_) => Ok(()),
            Self::Url(url) => check_url("source.url", url),
        }
    }
}

impl JobKind for AudioExtract {
    const NAME: &'static str = "audio.extract";
    const QUEUE: &'static str = "media";
    // 2: sources by address, loudness, and everything beside the file.
    const SCHEMA_VERSION: u32 = 2;
    const SUMMARY: &'static str = "Extracts the sound of a recording or of a page that shows one.";
    type Output = AudioExtracted;

    fn policy() -> Policy {
        Policy {
            // Networks fail more often than files.
            attempts: Some(5),
            backoff: Backoff { base: Duration::from_secs(10), cap: Duration::from_secs(10 * 60) },
            timeout: Duration::from_secs(4 * 3600),
            // Native code on foreign input.
            isolation: Isolation::Process { memory_bytes: 1024 * 1024 * 1024 },
            ..Policy::default()
        }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        self.source.check()?;
        let Self { format, bitrate_kbps, quality, channels, sample_rate, .. } = *self;
        Encoding { format, bitrate_kbps, quality, channels, sample_rate }.check()?;
        self.trim.as_ref().map_or(Ok(()), Trim::check)?;
        self.normalize.map_or(Ok(()), |normalize| normalize.check(format))?;
        self.chapters.check()?;
        self.tags.check()?;
        self.thumbnails.check()?;
        self.waveform.check()?;
        self.hls.as_ref().map_or(Ok(()), Hls::check)?;
        if let Some(name) = &self.cookies_ref {
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
            if name.is_empty() || name.len() > 64 || !name.chars().all(fine) {
                return Err(InvalidPayload::new("cookies_ref", "must be 1 to 64 of a-z, 0-9, _ and -"));
            }
        }
        for (path, value, least) in [
            ("max_bytes", self.max_bytes, 1),
            ("max_duration_ms", self.max_duration_ms, 1),
            ("rate_limit", self.rate_limit, 1024),
        ] {
            if value.is_some_and(|value| value < least) {
                return Err(InvalidPayload::new(path, format!("must be at least {least}")));
            }
        }
        Ok(())
    }
}
