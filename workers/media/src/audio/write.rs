//! Cuts sound into frames of the encoder's size, encodes them and writes them to the file.

use ffmpeg_next::{Error, Rational, frame};
use fourmi_model::Failure;

use super::{MAX_DURATION, formats::Encoding, shape::Sink};
use crate::{
    failure,
    libav::{Chain, Encoder, EncoderOptions, Output, tame},
};

/// Encodes and writes.
pub(super) struct Writer<'o, 'c> {
    chunks: Chain,
    chunk: frame::Audio,
    encoder: Encoder,
    output: &'o mut Output<'c>,
    rate: u32,
    /// Samples of each channel that were taken.
    samples: i64,
    fragments: Option<Fragments>,
}

/// Where a file is cut into fragments, in samples.
struct Fragments {
    length: i64,
    /// Where the next begins.
    next: i64,
    /// The length of each, the last of which is not whole yet.
    lengths: Vec<u64>,
}

impl Fragments {
    /// Whether a packet begins a new fragment, and not the first; takes note of it.
    fn begins(&mut self, time: i64, samples: i64) -> bool {
        let is_first = self.lengths.is_empty();
        let begins = is_first || time >= self.next;
        if begins {
            while self.next <= time {
                self.next += self.length;
            }
            self.lengths.push(0);
        }
        if let Some(last) = self.lengths.last_mut() {
            *last += samples.unsigned_abs();
        }
        begins && !is_first
    }
}

impl<'o, 'c> Writer<'o, 'c> {
    /// Opens the encoder and declares its sound to `output`.
    ///
    /// # Errors
    /// What libav says.
    pub(super) fn open(
        encoding: &Encoding,
        output: &'o mut Output<'c>,
        language: Option<&str>,
    ) -> Result<Self, Failure> {
        let encoder = Encoder::open(&EncoderOptions {
            name: encoding.encoder,
            sample_format: encoding.sample_format,
            sample_rate: encoding.sample_rate,
            layout: encoding.form().layout(),
            bit_rate: encoding.bit_rate,
            quality: encoding.quality,
            bits: encoding.bits,
            global_header: output.wants_global_header(),
            options: encoding.options,
        })
        .map_err(|error| failure::libav(error, "opening the encoder"))?;
        let chunks =
            chunks(encoding, encoder.frame_size()).map_err(|error| failure::libav(error, "preparing the encoder"))?;
        let rate = encoding.sample_rate;
        output
            .add_sound(encoder.parameters(), unit(rate), language)
            .map_err(|error| failure::libav(error, "preparing the file"))?;
        Ok(Self { chunks, chunk: frame::Audio::empty(), encoder, output, rate, samples: 0, fragments: None })
    }

    /// Cuts the file into fragments of so many samples, which the muxer must know how to do.
    pub(super) fn in_fragments(self, length: i64) -> Self {
        let length = length.max(1);
        Self { fragments: Some(Fragments { length, next: length, lengths: Vec::new() }), ..self }
    }

    pub(super) fn output(&mut self) -> &mut Output<'c> {
        self.output
    }

    /// Writes what is still on its way; gives the number of samples in all.
    ///
    /// # Errors
    /// `disk_full`, and what libav says.
    pub(super) fn end(mut self) -> Result<i64, Failure> {
        self.flush()?;
        Ok(self.samples)
    }

    /// The same, and the length of each fragment in samples.
    ///
    /// # Errors
    /// `disk_full`, and what libav says.
    pub(super) fn end_fragments(mut self) -> Result<(i64, Vec<u64>), Failure> {
        self.flush()?;
        self.output.end_fragment().map_err(writing)?;
        Ok((self.samples, self.fragments.map(|fragments| fragments.lengths).unwrap_or_default()))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.chunks.end().map_err(encoding)?;
        self.encode()?;
        self.encoder.end().map_err(encoding)?;
        self.write()
    }

    pub(super) fn written_bytes(&self) -> u64 {
        self.output.position()
    }

    fn encode(&mut self) -> Result<(), Failure> {
        while self.chunks.receive(&mut self.chunk).map_err(encoding)? {
            self.encoder.send(&self.chunk).map_err(encoding)?;
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Failure> {
        while let Some(packet) = self.encoder.receive().map_err(encoding)? {
            let (time, samples) = (packet.pts().unwrap_or(0), packet.duration());
            if packet.size() > 0 && self.fragments.as_mut().is_some_and(|it| it.begins(time, samples)) {
                self.output.end_fragment().map_err(writing)?;
            }
            self.output.write(packet, unit(self.rate)).map_err(writing)?;
        }
        Ok(())
    }
}

impl Sink for Writer<'_, '_> {
    /// Takes sound in the encoder's form, and leaves the frame empty.
    ///
    /// # Errors
    /// `duration_exceeded`, `disk_full`, and what libav says.
    fn take(&mut self, frame: &mut frame::Audio) -> Result<(), Failure> {
        frame.set_pts(Some(self.samples));
        self.samples += frame.samples() as i64;
        if self.samples.unsigned_abs() > MAX_DURATION.as_secs() * u64::from(self.rate) {
            return Err(failure::duration_exceeded(MAX_DURATION.as_micros() as i64));
        }
        tame(frame).map_err(encoding)?;
        self.chunks.send(frame).map_err(encoding)?;
        self.encode()
    }
}

/// A chain of its own, because a change of the source's shape must not end a frame early: encoders refuse short frames.
fn chunks(encoding: &Encoding, frame_size: u32) -> Result<Chain, Error> {
    let mut chain = Chain::new(&encoding.form().shape(), "anull")?;
    if frame_size > 0 {
        chain.set_frame_size(frame_size);
    }
    Ok(chain)
}

fn unit(rate: u32) -> Rational {
    Rational(1, i32::try_from(rate).unwrap_or(i32::MAX))
}

fn encoding(error: Error) -> Failure {
    failure::libav(error, "encoding")
}

fn writing(error: Error) -> Failure {
    failure::libav(error, "writing the file")
}
