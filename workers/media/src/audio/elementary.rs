//! The sound of one segment of a stream as bare frames, which can be appended to those of the segment before.

use std::path::Path;

use ffmpeg_next::codec;
use fourmi_model::Failure;

use super::{copy, recording::Recording, track::Part};
use crate::{
    Control, failure,
    libav::{Output, log},
    progress::Pace,
};

/// Sound whose frames stand for themselves: a file of it can grow, be played meanwhile, and be cut off anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elementary {
    /// The codec's name.
    pub codec: String,
    /// The ending of a file of it.
    pub extension: &'static str,
    /// The media type of a file of it.
    pub media_type: &'static str,
    /// How long it is, in microseconds.
    pub duration_us: u64,
}

/// Writes the sound of the segment at `input` to a file at `output`, packets as they are.
///
/// # Errors
/// As [`super::extract`]; `codec_unsupported` for a codec whose frames need a container, such as Opus.
pub fn elementary(input: &Path, output: &Path, control: &dyn Control) -> Result<Elementary, Failure> {
    let _log = log::Capture::start();
    write(input, output, control).map_err(|failure| if control.cancelled() { Failure::cancelled() } else { failure })
}

fn write(input: &Path, output: &Path, control: &dyn Control) -> Result<Elementary, Failure> {
    let mut recording = Recording::open(input, None, control)?;
    let stream = recording.track.stream.clone();
    let (muxer, extension, media_type, options): (_, _, _, &[(&str, &str)]) = match stream.codec {
        codec::Id::AAC => ("adts", "aac", "audio/aac", &[]),
        codec::Id::MP3 => ("mp3", "mp3", "audio/mpeg", &[("id3v2_version", "0"), ("write_xing", "0")]),
        codec::Id::AC3 => ("ac3", "ac3", "audio/ac3", &[]),
        codec::Id::EAC3 => ("eac3", "eac3", "audio/eac3", &[]),
        _ => {
            let message = format!("live sound in {} cannot be recorded; AAC, MP3 and AC-3 can", stream.codec_name);
            return Err(failure::codec_unsupported(&message));
        }
    };
    let preparing = |error| failure::libav(error, "preparing the file");
    let mut file = Output::create(output, muxer, control).map_err(preparing)?;
    copy::declare(&mut file, recording.input.parameters(stream.index), &stream, None)?;
    file.start(options).map_err(preparing)?;
    let start = recording.track.start;
    let mut packets = recording.packets(Part { start: 0, end: None }, copy::MARGIN);
    let tally = copy::run(&mut packets, &mut file, &stream, true, &mut Pace::start(control, "record"))?;
    file.finish().map_err(|error| failure::libav(error, "finishing the file"))?;
    let duration_us = u64::try_from(tally.reached - start).unwrap_or(0);
    Ok(Elementary { codec: stream.codec_name, extension, media_type, duration_us })
}
