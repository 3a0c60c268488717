//! The sound that is taken, and which part of it.

use ffmpeg_next::{Rescale, media};
use fourmi_kinds::{Chapter, ChapterRange, Trim};
use fourmi_model::Failure;
use serde::{Deserialize, Serialize};

use crate::{
    failure,
    libav::{Duration, Input, MICROSECONDS, Stream},
};

/// The sound of a recording. Times are in microseconds from the start of the recording.
pub(super) struct Track {
    pub(super) stream: Stream,
    /// Whether it is the only stream, covers aside.
    pub(super) alone: bool,
    /// Where it starts: often later than the picture.
    pub(super) start: i64,
    /// Where the container says that it ends.
    pub(super) promised_end: Option<i64>,
    /// Where it ends by the best guess: good enough for a percentage.
    pub(super) likely_end: Option<i64>,
}

impl Track {
    /// The one that a player would choose.
    ///
    /// # Errors
    /// `no_audio_stream`, `drm`.
    pub(super) fn choose(input: &Input<'_>) -> Result<Self, Failure> {
        let streams = input.streams();
        let stream = input.best_audio().and_then(|index| streams.iter().find(|stream| stream.index == index));
        let stream = stream.ok_or_else(|| failure::no_audio_stream(&holdings(&streams)))?.clone();
        if input.is_encrypted(stream.index) {
            return Err(failure::drm(&stream.codec_name));
        }
        let alone = streams.iter().all(|other| other.index == stream.index || other.cover);
        let start =
            stream.start.map_or(0, |start| start.rescale(stream.time_base, MICROSECONDS) - input.origin()).max(0);
        let promised_end = promised_end(input, &stream, start, alone);
        let likely_end = promised_end.or(input.duration().any());
        Ok(Self { stream, alone, start, promised_end, likely_end })
    }
}

fn holdings(streams: &[Stream]) -> String {
    let names = streams.iter().map(|stream| match stream.medium {
        media::Type::Video if stream.cover => format!("a picture ({})", stream.codec_name),
        media::Type::Video => format!("video ({})", stream.codec_name),
        media::Type::Subtitle => format!("subtitles ({})", stream.codec_name),
        _ => format!("data ({})", stream.codec_name),
    });
    let names: Vec<_> = names.collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Where the stream says that it ends, or else the container if it can only mean this stream: a film may be longer than its
/// sound.
fn promised_end(input: &Input<'_>, stream: &Stream, start: i64, alone: bool) -> Option<i64> {
    let (said, is_said) = match input.duration() {
        Duration::Said(length) => (length, true),
        Duration::Estimated(length) => (length, false),
        Duration::Unknown => return None,
    };
    if let Some(excess) = input.claimed_excess.filter(|_| !input.is_matroska()) {
        return Some((said as f64 * excess) as i64);
    }
    let own = stream.duration.map(|length| start.saturating_add(length.rescale(stream.time_base, MICROSECONDS)));
    // Some muxers of Matroska write where the stream ends, others how long it is: the one is never before the other.
    let tagged = || stream.tags.get("duration").and_then(|text| parse_clock(text));
    let only_this = alone || input.claimed_excess.is_some();
    own.or_else(tagged).or(only_this.then_some(said)).filter(|_| is_said)
}

/// Reads `01:02:03.456000000`, as Matroska's muxers tag a stream's length, in microseconds.
fn parse_clock(text: &str) -> Option<i64> {
    let mut parts = text.trim().splitn(3, ':');
    let mut next = || parts.next()?.parse::<f64>().ok().filter(|number| (0.0..1e9).contains(number));
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    Some(((hours * 3600.0 + minutes * 60.0 + seconds) * 1e6) as i64)
}

/// The part to keep, in microseconds from the start of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) start: i64,
    /// By default the end of the recording.
    pub(super) end: Option<i64>,
}

impl Part {
    pub(super) const WHOLE: Self = Self { start: 0, end: None };

    /// The part that is asked for; `chapters` are those of the recording.
    ///
    /// # Errors
    /// `trim_out_of_range`, if it is known beforehand.
    pub(super) fn of(trim: Option<Trim>, chapters: &[Chapter], track: &Track) -> Result<Self, Failure> {
        let Trim { start_ms, end_ms, chapters: range, .. } = trim.unwrap_or_default();
        let part = match range {
            Some(range) => Self::of_chapters(range, chapters, track)?,
            None => Self { start: microseconds(start_ms), end: end_ms.map(microseconds) },
        };
        part.within(track)
    }

    /// The part from one time to another, in milliseconds.
    ///
    /// # Errors
    /// `trim_out_of_range`, if it is known beforehand.
    pub(super) fn between(start_ms: u64, end_ms: u64, track: &Track) -> Result<Self, Failure> {
        Self { start: microseconds(start_ms), end: Some(microseconds(end_ms)) }.within(track)
    }

    fn within(self, track: &Track) -> Result<Self, Failure> {
        match track.promised_end {
            Some(end) if self.start > 0 && self.start >= end => Err(self.out_of_range(track)),
            _ => Ok(self),
        }
    }

    fn of_chapters(range: ChapterRange, chapters: &[Chapter], track: &Track) -> Result<Self, Failure> {
        let (first, last) = (range.first, range.last.unwrap_or(range.first));
        let chapter = |number: u32| chapters.get((number as usize).checked_sub(1)?);
        let (Some(from), Some(to)) = (chapter(first), chapter(last)) else {
            return Err(failure::no_such_chapters(first, last, chapters.len()));
        };
        let (start, end) = (microseconds(from.start_ms), microseconds(to.end_ms));
        // The last chapter often ends a little after the sound.
        let reaches_end = track.promised_end.is_some_and(|promised| end >= promised);
        Ok(Self { start, end: (!reaches_end).then_some(end) })
    }

    pub(super) fn is_whole(self) -> bool {
        self == Self::WHOLE
    }

    pub(super) fn out_of_range(self, track: &Track) -> Failure {
        let milliseconds = |time: i64| u64::try_from(time / 1_000).unwrap_or(0);
        failure::trim_out_of_range(milliseconds(self.start), track.promised_end.map(milliseconds))
    }

    /// Where it ends in `track`, as far as anybody says.
    pub(super) fn promised_end(self, track: &Track) -> Option<i64> {
        [self.end, track.promised_end].into_iter().flatten().min()
    }

    /// How much of it is done at `time`, from 0 to 1; by the bytes read of all if no length is known.
    pub(super) fn fraction(self, time: i64, track: &Track, read: f64) -> f64 {
        let end = [self.end, track.likely_end].into_iter().flatten().min();
        match end {
            Some(end) if end > self.start => (time - self.start) as f64 / (end - self.start) as f64,
            _ => read,
        }
    }
}

fn microseconds(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_in_tags_are_read() {
        assert_eq!(parse_clock("00:00:05.015000000"), Some(5_015_000));
        assert_eq!(parse_clock("01:02:03"), Some(3_723_000_000));
        for nonsense in ["", "5", "a:b:c", "-1:0:0", "1:2:3:4", "1:2:NaN", "inf:0:0"] {
            assert_eq!(parse_clock(nonsense), None, "{nonsense}");
        }
    }
}
