//! Decodes the packets of a track, and gives out its sound in the form that is wanted.
//!
//! ```text
//! packets → decoder → shaper: fill gaps, drop repeats, cut, mix, resample → sink
//! ```

use ffmpeg_next::{Error, Packet, codec, frame};
use fourmi_model::Failure;

use super::{
    packets::Packets,
    shape::{Form, Shaper, Sink},
    track::{Part, Track},
};
use crate::{
    failure,
    libav::Decoder,
    progress::{Pace, Place},
};

/// So much before a part is decoded, too, in microseconds: longer than any codec needs to warm up.
pub(super) const MARGIN: i64 = 1_000_000;

/// Sound on its way out of packets.
pub(super) struct Decode {
    decoder: Decoder,
    decoded: frame::Audio,
    shaper: Shaper,
    /// Where the part starts, in microseconds.
    start: i64,
}

impl Decode {
    /// Opens the decoder.
    ///
    /// # Errors
    /// `codec_unsupported`, `corrupt_media`, and what libav says.
    pub(super) fn prepare(
        parameters: codec::Parameters,
        track: &Track,
        part: Part,
        form: Form,
    ) -> Result<Self, Failure> {
        let stream = &track.stream;
        let decoder =
            Decoder::open(parameters, stream.time_base).map_err(|error| undecodable(error, &stream.codec_name))?;
        let shaper = Shaper::new(part, stream.time_base, form);
        Ok(Self { decoder, decoded: frame::Audio::empty(), shaper, start: part.start })
    }

    /// Decodes all packets into `sink`; `written` says how many bytes came of it so far.
    ///
    /// # Errors
    /// `cancelled`, `duration_exceeded`, `corrupt_media`, and what the sink and libav say.
    pub(super) fn run<S: Sink>(
        mut self,
        packets: &mut Packets<'_, '_>,
        sink: &mut S,
        pace: &mut Pace<'_>,
        written: impl Fn(&S) -> u64,
    ) -> Result<(), Failure> {
        while let Some(packet) = packets.next(pace)? {
            let whole = self.decode(&packet, sink, pace)?;
            // A packet that the container itself called corrupt is already counted.
            packets.tally.damaged += u64::from(!whole && !packet.is_corrupt());
            if self.shaper.is_past_end() {
                break;
            }
            if pace.is_due() {
                pace.tell(&self.place(packets, written(sink)));
            }
        }
        self.decoder.end();
        self.shape_decoded(sink, pace)?;
        self.shaper.end(sink)
    }

    /// False if the packet, or some of it, could not be decoded.
    fn decode(&mut self, packet: &Packet, sink: &mut dyn Sink, pace: &Pace<'_>) -> Result<bool, Failure> {
        let sent = fatal_or(self.decoder.send(packet))?.is_some();
        Ok(self.shape_decoded(sink, pace)? && sent)
    }

    fn shape_decoded(&mut self, sink: &mut dyn Sink, pace: &Pace<'_>) -> Result<bool, Failure> {
        loop {
            match fatal_or(self.decoder.receive(&mut self.decoded))? {
                Some(true) => self.shaper.take(&mut self.decoded, sink, pace)?,
                Some(false) => return Ok(true),
                None => return Ok(false),
            }
        }
    }

    fn place(&self, packets: &Packets<'_, '_>, output_bytes: u64) -> Place {
        let position = self.shaper.position();
        let media_ms = (position.saturating_sub(self.start).max(0) / 1_000).unsigned_abs();
        Place { fraction: packets.fraction(position), media_ms, output_bytes }
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
