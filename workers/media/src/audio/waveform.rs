//! The waveform of an audio file that is there already.

use std::path::Path;

use ffmpeg_next::{format::Sample, format::sample::Type, frame};
use fourmi_kinds::Waveform;
use fourmi_model::Failure;

use super::{
    decode::{self, Decode},
    recording::Recording,
    shape::{Form, Sink},
    track::Part,
};
use crate::{
    Control, failure, files,
    libav::log,
    progress::{Pace, Place},
    waveform::Collector,
};

/// Draws the waveform of the audio file at `audio` into the file `output`; nothing if `form` is off. Tells how far it is as the
/// stage `waveform`.
///
/// # Errors
/// Those of [`super::extract`].
pub fn waveform(audio: &Path, form: Waveform, output: &Path, control: &dyn Control) -> Result<(), Failure> {
    let _log = log::Capture::start();
    draw(audio, form, output, control).map_err(|failure| {
        // libav has many words for being interrupted.
        if control.cancelled() { Failure::cancelled() } else { failure::in_stage(failure, "waveform") }
    })
}

fn draw(audio: &Path, form: Waveform, output: &Path, control: &dyn Control) -> Result<(), Failure> {
    let mut recording = Recording::open(audio, None, control)?;
    let stream = &recording.track.stream;
    let sound = Form {
        sample_format: Sample::I16(Type::Packed),
        sample_rate: stream.sample_rate.unwrap_or(48_000),
        channels: stream.channels.unwrap_or(2).min(2),
    };
    let Some(mut collector) = Collector::create(form, sound.sample_rate, files::folder_of(output))? else {
        return Ok(());
    };
    let decode = Decode::prepare(recording.input.parameters(stream.index), &recording.track, Part::WHOLE, sound)?;
    let mut pace = Pace::start(control, "waveform");
    let mut packets = recording.packets(Part::WHOLE, decode::MARGIN);
    decode.run(&mut packets, &mut collector, &mut pace, |_| 0)?;
    let media_ms = u64::try_from(packets.tally.reached / 1_000).unwrap_or(0);
    let file = collector.end()?;
    pace.done(&Place { fraction: 1.0, media_ms, output_bytes: files::size_of(&file) });
    files::name(file, output.to_owned()).map(drop)
}

impl Sink for Collector {
    fn take(&mut self, frame: &mut frame::Audio) -> Result<(), Failure> {
        Self::take(self, frame)
    }
}
