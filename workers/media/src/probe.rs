//! What a recording holds.

use std::path::Path;

use ffmpeg_next::{Rescale, media};
use fourmi_kinds::{MediaInfo, MediaStream, StreamType};
use fourmi_model::Failure;

use crate::{
    Control, failure,
    libav::{Duration, Input, MILLISECONDS, Stream, log},
};

/// Looks into the recording at `input`: container, streams, tags, chapters. It reads the first megabytes at most, and
/// believes what the container says; whether all of it is there and sound is known only after [`crate::audio::extract`].
///
/// # Errors
/// `source_gone`, `storage_failed`, `empty_file`, `not_media`, `truncated_media` (without its index), `corrupt_media`,
/// `cancelled`, `out_of_memory`, `ffmpeg_failed`.
pub fn probe(input: &Path, control: &dyn Control) -> Result<MediaInfo, Failure> {
    let _log = log::Capture::start();
    look(input, control).map_err(|failure| match failure {
        // libav has many words for being interrupted.
        _ if control.cancelled() => Failure::cancelled(),
        failure => failure.in_stage("probe"),
    })
}

fn look(input: &Path, control: &dyn Control) -> Result<MediaInfo, Failure> {
    let bytes = std::fs::metadata(input).map(|file| file.len()).unwrap_or(0);
    let recording = Input::open(input, control)?;
    let streams = recording.streams();
    if streams.is_empty() {
        return Err(failure::corrupt("it has no streams"));
    }
    Ok(MediaInfo {
        container: recording.container(),
        duration_ms: milliseconds(recording.duration()),
        bytes,
        bit_rate: recording.bit_rate(),
        streams: streams.into_iter().map(describe).collect(),
        tags: recording.tags(),
        chapters: recording.chapters(),
    })
}

fn milliseconds(duration: Duration) -> Option<u64> {
    let length = duration.any()?;
    u64::try_from(length.rescale(crate::libav::MICROSECONDS, MILLISECONDS)).ok()
}

fn describe(stream: Stream) -> MediaStream {
    let duration = stream.duration.map(|length| length.rescale(stream.time_base, MILLISECONDS));
    MediaStream {
        index: u32::try_from(stream.index).unwrap_or(u32::MAX),
        stream_type: stream_type(stream.medium),
        codec: stream.codec_name,
        profile: stream.profile,
        duration_ms: duration.and_then(|ms| u64::try_from(ms).ok()),
        bit_rate: stream.bit_rate,
        width: stream.width,
        height: stream.height,
        frame_rate: stream.frame_rate,
        sample_rate: stream.sample_rate,
        channels: stream.channels,
        language: stream.tags.get("language").filter(|language| *language != "und").cloned(),
        cover: stream.cover,
        default: stream.default,
        tags: stream.tags,
    }
}

fn stream_type(medium: media::Type) -> StreamType {
    match medium {
        media::Type::Video => StreamType::Video,
        media::Type::Audio => StreamType::Audio,
        media::Type::Subtitle => StreamType::Subtitle,
        media::Type::Data => StreamType::Data,
        media::Type::Attachment => StreamType::Attachment,
        media::Type::Unknown => StreamType::Other,
    }
}
