//! Decodes, levels and encodes.
//!
//! ```text
//! decode → level, if the loudness is to change → waveform, if one is asked for → writer: frames of the encoder's size → file
//! ```

use ffmpeg_next::{codec, frame};
use fourmi_kinds::LoudnessReport;
use fourmi_model::Failure;
use tempfile::TempPath;

use super::{
    decode::Decode,
    formats::Encoding,
    level::{Level, Levelling},
    packets::Packets,
    shape::Sink,
    track::{Part, Track},
    write::Writer,
};
use crate::{libav::Output, progress::Pace, waveform::Collector};

/// What came of it.
pub(super) struct Encoded {
    /// Samples of each channel that were written.
    pub(super) samples: i64,
    pub(super) loudness: Option<LoudnessReport>,
    pub(super) waveform: Option<TempPath>,
}

/// How sound is to be encoded.
pub(super) struct Recipe<'a> {
    pub(super) encoding: &'a Encoding,
    pub(super) levelling: Option<Levelling<'a>>,
    pub(super) waveform: Option<Collector>,
    pub(super) language: Option<&'a str>,
}

/// Sound on its way from packets to packets.
pub(super) struct Encode<'o, 'c> {
    decode: Decode,
    stages: Stages<'o, 'c>,
}

/// What decoded sound passes.
struct Stages<'o, 'c> {
    level: Option<Level<'o>>,
    desk: Desk<'o, 'c>,
}

/// Where sound in the encoder's form arrives.
struct Desk<'o, 'c> {
    waveform: Option<Collector>,
    writer: Writer<'o, 'c>,
}

impl<'o, 'c> Encode<'o, 'c> {
    /// Opens decoder and encoder, and declares the sound to `output`.
    ///
    /// # Errors
    /// `codec_unsupported`, and what libav says.
    pub(super) fn prepare(
        parameters: codec::Parameters,
        track: &Track,
        part: Part,
        recipe: Recipe<'o>,
        output: &'o mut Output<'c>,
    ) -> Result<Self, Failure> {
        let Recipe { encoding, levelling, waveform, language } = recipe;
        let level = levelling.map(|how| Level::new(how, encoding.form())).transpose()?;
        let form = level.as_ref().map_or(encoding.form(), Level::form);
        let decode = Decode::prepare(parameters, track, part, form)?;
        let writer = Writer::open(encoding, output, language)?;
        Ok(Self { decode, stages: Stages { level, desk: Desk { waveform, writer } } })
    }

    /// Where `prepare` declared the sound.
    pub(super) fn output(&mut self) -> &mut Output<'c> {
        self.stages.desk.writer.output()
    }

    /// Encodes all packets.
    ///
    /// # Errors
    /// `cancelled`, `disk_full`, `duration_exceeded`, `corrupt_media`, and what libav says.
    pub(super) fn run(mut self, packets: &mut Packets<'_, '_>, pace: &mut Pace<'_>) -> Result<Encoded, Failure> {
        self.decode.run(packets, &mut self.stages, pace, |stages| stages.desk.writer.written_bytes())?;
        let Stages { level, mut desk } = self.stages;
        let loudness = level.map(|level| level.end(&mut desk)).transpose()?;
        let waveform = desk.waveform.map(Collector::end).transpose()?;
        Ok(Encoded { samples: desk.writer.end()?, loudness, waveform })
    }
}

impl Sink for Stages<'_, '_> {
    fn take(&mut self, frame: &mut frame::Audio) -> Result<(), Failure> {
        match &mut self.level {
            Some(level) => level.take(frame, &mut self.desk),
            None => self.desk.take(frame),
        }
    }
}

impl Sink for Desk<'_, '_> {
    fn take(&mut self, frame: &mut frame::Audio) -> Result<(), Failure> {
        if let Some(waveform) = &mut self.waveform {
            waveform.take(frame)?;
        }
        self.writer.take(frame)
    }
}
