//! Decoding and encoding sound.

#![expect(unsafe_code, reason = "sets fields that ffmpeg-next does not show")]

use ffmpeg_next::{
    ChannelLayout, Error, Packet, Rational, codec, codec::context::Context, error::EAGAIN, ffi, format::Sample, frame,
};

use super::dictionary;

const AGAIN: Error = Error::Other { errno: EAGAIN };

/// Turns packets into sound.
pub(crate) struct Decoder(ffmpeg_next::decoder::Audio);

impl Decoder {
    /// A decoder for packets whose times are in `time_base`.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn open(parameters: codec::Parameters, time_base: Rational) -> Result<Self, Error> {
        let mut decoder = Context::from_parameters(parameters)?.decoder();
        // Without it, the samples that are skipped at the start of AAC, MP3 and Opus would not move the times.
        decoder.set_packet_time_base(time_base);
        decoder.audio().map(Self)
    }

    /// Takes a packet in.
    ///
    /// # Errors
    /// libav's; odd ones, too, on bad data.
    pub(crate) fn send(&mut self, packet: &Packet) -> Result<(), Error> {
        self.0.send_packet(packet)
    }

    /// Says that no packet follows.
    pub(crate) fn end(&mut self) {
        // It only fails if it was said before.
        let _ = self.0.send_eof();
    }

    /// Gives sound out; false when it wants another packet or is at its end.
    ///
    /// # Errors
    /// libav's; odd ones, too, on bad data.
    pub(crate) fn receive(&mut self, frame: &mut frame::Audio) -> Result<bool, Error> {
        match self.0.receive_frame(frame) {
            Ok(()) => Ok(true),
            Err(Error::Eof | AGAIN) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// How to encode.
pub(crate) struct EncoderOptions<'a> {
    /// libav's name of the encoder.
    pub(crate) name: &'a str,
    pub(crate) sample_format: Sample,
    pub(crate) sample_rate: u32,
    pub(crate) layout: ChannelLayout,
    /// Bits a second.
    pub(crate) bit_rate: Option<usize>,
    /// Instead of bits a second: how good it is to be, in the encoder's own terms, as for FFmpeg's `-q:a`.
    pub(crate) quality: Option<f64>,
    /// Bits that count in a sample, if not all.
    pub(crate) bits: Option<u32>,
    /// Whether the container wants the codec's header apart from the packets.
    pub(crate) global_header: bool,
    /// The encoder's own options.
    pub(crate) options: &'a [(&'a str, &'a str)],
}

/// Turns sound into packets. The unit of their times is one sample.
pub(crate) struct Encoder(ffmpeg_next::encoder::audio::Encoder);

impl Encoder {
    /// An encoder.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn open(how: &EncoderOptions<'_>) -> Result<Self, Error> {
        let codec = ffmpeg_next::encoder::find_by_name(how.name).ok_or(Error::EncoderNotFound)?;
        let mut encoder = Context::new_with_codec(codec).encoder().audio()?;
        let rate = i32::try_from(how.sample_rate).map_err(|_| Error::InvalidData)?;
        encoder.set_rate(rate);
        encoder.set_time_base(Rational(1, rate));
        encoder.set_format(how.sample_format);
        encoder.set_channel_layout(how.layout);
        if let Some(bit_rate) = how.bit_rate {
            encoder.set_bit_rate(bit_rate);
        }
        let mut flags = codec::Flags::empty();
        flags.set(codec::Flags::GLOBAL_HEADER, how.global_header);
        if let Some(quality) = how.quality {
            flags.insert(codec::Flags::QSCALE);
            // SAFETY: the context is ours and not yet open.
            unsafe { (*encoder.as_mut_ptr()).global_quality = (quality * f64::from(ffi::FF_QP2LAMBDA)).round() as i32 };
        }
        encoder.set_flags(flags);
        if let Some(bits) = how.bits.and_then(|bits| i32::try_from(bits).ok()) {
            // SAFETY: the context is ours and not yet open.
            unsafe { (*encoder.as_mut_ptr()).bits_per_raw_sample = bits };
        }
        encoder.open_as_with(codec, dictionary::write(how.options.iter().copied())).map(Self)
    }

    /// How many samples each frame must have, the last excepted; 0 if any number will do.
    pub(crate) fn frame_size(&self) -> u32 {
        self.0.frame_size()
    }

    /// How the packets are encoded.
    pub(crate) fn parameters(&self) -> codec::Parameters {
        codec::Parameters::from(&self.0)
    }

    /// Takes sound in.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn send(&mut self, frame: &frame::Audio) -> Result<(), Error> {
        self.0.send_frame(frame)
    }

    /// Says that no sound follows.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        self.0.send_eof()
    }

    /// Gives a packet out, if there is one.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn receive(&mut self) -> Result<Option<Packet>, Error> {
        let mut packet = Packet::empty();
        match self.0.receive_packet(&mut packet) {
            Ok(()) => Ok(Some(packet)),
            Err(Error::Eof | AGAIN) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Samples of silence, in the form of `like`.
///
/// # Errors
/// No memory.
pub(crate) fn silence(like: &frame::Audio, samples: usize) -> Result<frame::Audio, Error> {
    let none = Error::Other { errno: ffmpeg_next::error::ENOMEM };
    let layout = match like.channel_layout() {
        layout if layout.is_empty() => ChannelLayout::default(i32::from(like.channels())),
        layout => layout,
    };
    let mut frame = frame::Audio::new(like.format(), samples, layout);
    frame.set_rate(like.rate());
    let (count, channels) = (i32::try_from(samples).map_err(|_| none)?, i32::from(like.channels()));
    // SAFETY: the frame is ours and, unless its planes are null, holds so many samples of so many channels.
    unsafe {
        let raw = frame.as_mut_ptr();
        if (*raw).data[0].is_null()
            || ffi::av_samples_set_silence((*raw).extended_data, 0, count, channels, like.format().into()) < 0
        {
            return Err(none);
        }
    }
    Ok(frame)
}
