//! Decodes, shapes and encodes.
//!
//! ```text
//! packets → decoder → shaper: fill gaps, drop repeats, cut, mix, resample → writer: frames of the encoder's size → file
//! ```

use ffmpeg_next::{Error, Packet, codec, frame};
use fourmi_model::Failure;

use super::{
    formats::Encoding,
    packets::{Packets, Tally},
    shape::Shaper,
    track::{Part, Track},
    write::Writer,
};
use crate::{
    failure,
    libav::{Decoder, Output},
    progress::{Pace, Place},
};

/// So much before a part is decoded, too, in microseconds: longer than any codec needs to warm up.
pub(super) const MARGIN: i64 = 1_000_000;

/// What came of it.
pub(super) struct Encoded {
    pub(super) tally: Tally,
    /// Samples of each channel that were written.
    pub(super) samples: i64,
}

/// Sound on its way from packets to packets.
pub(super) struct Encode<'o, 'c> {
    decoder: Decoder,
    decoded: frame::Audio,
    shaper: Shaper<'o>,
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
        encoding: &'o Encoding,
        output: &'o mut Output<'c>,
    ) -> Result<Self, Failure> {
        let stream = &track.stream;
        let decoder =
            Decoder::open(parameters, stream.time_base).map_err(|error| undecodable(error, &stream.codec_name))?;
        let language = stream.tags.get("language").map(String::as_str);
        Ok(Self {
            decoder,
            decoded: frame::Audio::empty(),
            shaper: Shaper::new(part, stream.time_base, encoding),
            writer: Writer::open(encoding, output, language)?,
        })
    }

    /// Where `prepare` declared the sound.
    pub(super) fn output(&mut self) -> &mut Output<'c> {
        self.writer.output()
    }

    /// Encodes all packets.
    ///
    /// # Errors
    /// `cancelled`, `disk_full`, `duration_exceeded`, `corrupt_media`, and what libav says.
    pub(super) fn run(mut self, packets: &mut Packets<'_, '_>, pace: &mut Pace<'_>) -> Result<Encoded, Failure> {
        while let Some(packet) = packets.next(pace)? {
            let whole = self.decode(&packet, pace)?;
            // A packet that the container itself called corrupt is already counted.
            packets.tally.damaged += u64::from(!whole && !packet.is_corrupt());
            if self.shaper.is_past_end() {
                break;
            }
            if pace.is_due() {
                pace.tell(&self.place(packets));
            }
        }
        self.decoder.end();
        self.shape_decoded(pace)?;
        self.shaper.end(&mut self.writer)?;
        let samples = self.writer.end()?;
        Ok(Encoded { tally: packets.tally, samples })
    }

    /// False if the packet, or some of it, could not be decoded.
    fn decode(&mut self, packet: &Packet, pace: &Pace<'_>) -> Result<bool, Failure> {
        let sent = fatal_or(self.decoder.send(packet))?.is_some();
        Ok(self.shape_decoded(pace)? && sent)
    }

    fn shape_decoded(&mut self, pace: &Pace<'_>) -> Result<bool, Failure> {
        loop {
            match fatal_or(self.decoder.receive(&mut self.decoded))? {
                Some(true) => self.shaper.take(&mut self.decoded, &mut self.writer, pace)?,
                Some(false) => return Ok(true),
                None => return Ok(false),
            }
        }
    }

    fn place(&self, packets: &Packets<'_, '_>) -> Place {
        Place {
            fraction: packets.fraction(self.shaper.position()),
            media_ms: self.writer.written_ms(),
            output_bytes: self.writer.written_bytes(),
        }
    }
}

/// Decoders give all sorts of errors on bad data, some of them no errors of libav's at all: none is a reason to give up, unless
/// there is no memory.
fn fatal_or<T>(result: Result<T, Error>) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if failure::is_out_of_memory(error) => Err(failure::libav(error, "decoding")),
        Err(_) => Ok(None),
    }
}

fn undecodable(error: Error, codec: &str) -> Failure {
    match error {
        Error::DecoderNotFound => {
            failure::codec_unsupported(&format!("the sound is encoded as {codec}, which nothing here decodes"))
        }
        error if failure::is_out_of_memory(error) => failure::libav(error, "opening the decoder"),
        _ => failure::corrupt(&format!("the header of its sound ({codec}) makes no sense")),
    }
}
