//! Which container, codec and figures a request comes to, for the sound at hand.

use ffmpeg_next::{codec, format::Sample, format::sample::Type};
use fourmi_kinds::{AudioExtract, AudioFormat, MediaNote};
use fourmi_model::Failure;

use super::{
    shape::Form,
    track::{Part, Track},
};
use crate::{
    failure,
    libav::{Stream, can_hold},
};

/// Sound that starts this much after the recording, in microseconds, starts late.
const LATE: i64 = 100_000;

/// A kind of file.
pub(super) struct Container {
    /// libav's short name of its muxer.
    pub(super) muxer: &'static str,
    pub(super) extension: &'static str,
    pub(super) media_type: &'static str,
    /// The muxer's options.
    pub(super) options: &'static [(&'static str, &'static str)],
    pub(super) covers: Covers,
    pub(super) chapters: Chapters,
    /// Whether it can hold sound that starts late. Others begin with the first packet.
    pub(super) keeps_time: bool,
}

/// How a container carries a cover picture.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Covers {
    /// The muxer attaches it.
    Native,
    /// In a comment; see <https://wiki.xiph.org/VorbisComment#Cover_art>.
    Comment,
    /// Not at all.
    None,
}

/// How a container carries chapters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Chapters {
    /// The muxer writes them.
    Native,
    /// Players look for them in tags. FFmpeg's muxers leave them to us, or (Ogg, up to 5.1) round their seconds up.
    Tags,
    /// Not at all.
    None,
}

const M4A: Container = Container {
    muxer: "ipod",
    extension: "m4a",
    media_type: "audio/mp4",
    // The index goes to the front, so that a player can start with the first bytes.
    options: &[("movflags", "+faststart")],
    covers: Covers::Native,
    chapters: Chapters::Native,
    keeps_time: true,
};
const MP3: Container = Container {
    muxer: "mp3",
    extension: "mp3",
    media_type: "audio/mpeg",
    options: &[],
    covers: Covers::Native,
    chapters: Chapters::Native,
    keeps_time: false,
};
const OPUS: Container = Container {
    muxer: "opus",
    extension: "opus",
    media_type: "audio/ogg",
    options: &[],
    covers: Covers::Comment,
    chapters: Chapters::Tags,
    keeps_time: false,
};
const OGG: Container = Container { muxer: "ogg", extension: "ogg", ..OPUS };
const FLAC: Container = Container {
    muxer: "flac",
    extension: "flac",
    media_type: "audio/flac",
    options: &[],
    covers: Covers::Native,
    chapters: Chapters::Tags,
    keeps_time: false,
};
const WAV: Container = Container {
    muxer: "wav",
    extension: "wav",
    media_type: "audio/wav",
    // Past 4 GiB, where the old header ends.
    options: &[("rf64", "auto")],
    covers: Covers::None,
    chapters: Chapters::None,
    keeps_time: false,
};
const MKA: Container = Container {
    muxer: "matroska",
    extension: "mka",
    media_type: "audio/x-matroska",
    options: &[],
    covers: Covers::None,
    chapters: Chapters::Native,
    keeps_time: true,
};

/// What is to be done.
pub(super) struct Plan {
    pub(super) container: Container,
    /// None: the packets are taken over as they are.
    pub(super) encoding: Option<Encoding>,
}

/// How the sound is encoded.
#[derive(Debug, PartialEq)]
pub(super) struct Encoding {
    /// libav's name of the encoder.
    pub(super) encoder: &'static str,
    pub(super) sample_format: Sample,
    pub(super) sample_rate: u32,
    pub(super) channels: u32,
    /// Bits a second of a lossy codec.
    pub(super) bit_rate: Option<usize>,
    /// Instead of that: how good it is to be, in the encoder's own terms.
    pub(super) quality: Option<f64>,
    /// Bits that count in a sample, if not all.
    pub(super) bits: Option<u32>,
    /// The encoder's own options.
    pub(super) options: &'static [(&'static str, &'static str)],
}

impl Encoding {
    /// The form in which its encoder takes sound.
    pub(super) fn form(&self) -> Form {
        let Self { sample_format, sample_rate, channels, .. } = *self;
        Form { sample_format, sample_rate, channels }
    }
}

/// The form in which sound is listened to before it is encoded: floats, as the encoder will get them.
pub(super) fn listening_form(request: &AudioExtract, stream: &Stream) -> Form {
    encoding(request, stream, &mut Vec::new()).form().in_floats()
}

/// What a request comes to for a part of a track; `is_changed` if its loudness is.
///
/// # Errors
/// `codec_unsupported`, if no container holds a codec that is to be copied.
pub(super) fn plan(
    request: &AudioExtract,
    track: &Track,
    part: Part,
    is_changed: bool,
    notes: &mut Vec<MediaNote>,
) -> Result<Plan, Failure> {
    let stream = &track.stream;
    let (container, codec) = match request.format {
        AudioFormat::M4a => (M4A, codec::Id::AAC),
        AudioFormat::Mp3 => (MP3, codec::Id::MP3),
        AudioFormat::Opus => (OPUS, codec::Id::OPUS),
        AudioFormat::Ogg => (OGG, codec::Id::VORBIS),
        AudioFormat::Flac => (FLAC, codec::Id::FLAC),
        AudioFormat::Wav => (WAV, codec::Id::PCM_S16LE),
        AudioFormat::Copy => return Ok(Plan { container: container_for(stream)?, encoding: None }),
    };
    // Cutting between packets would be rough; where encoding loses nothing, the cut may as well be exact.
    let cut_is_fine = part.is_whole() || stream.lossless_bits.is_none();
    let starts_in_time = container.keeps_time || track.start <= LATE;
    let fits = !is_changed && stream.codec == codec && is_as_asked(request, stream) && cut_is_fine && starts_in_time;
    let encoding = if fits { None } else { Some(encoding(request, stream, notes)) };
    Ok(Plan { container, encoding })
}

impl Plan {
    /// The part that the file will hold: one that cannot start late starts with its first sound.
    pub(super) fn part(&self, part: Part, track: &Track) -> Part {
        let starts_with_sound = self.encoding.is_none() && !self.container.keeps_time && track.start > LATE;
        if starts_with_sound { Part { start: part.start.max(track.start), ..part } } else { part }
    }
}

/// Whether the sound is as it was asked for, but for its codec.
fn is_as_asked(request: &AudioExtract, stream: &Stream) -> bool {
    let channels = match request.channels {
        Some(asked) => stream.channels == Some(u32::from(asked)),
        None => stream.channels.is_some_and(|channels| channels <= 2),
    };
    channels
        && request.bitrate_kbps.is_none()
        && request.quality.is_none()
        && request.sample_rate.is_none_or(|asked| stream.sample_rate == Some(asked))
}

/// The container in which people expect a codec.
///
/// # Errors
/// `codec_unsupported`, if none holds it.
fn container_for(stream: &Stream) -> Result<Container, Failure> {
    let container = match stream.codec {
        codec::Id::AAC | codec::Id::ALAC => M4A,
        codec::Id::MP3 => MP3,
        codec::Id::OPUS => OPUS,
        codec::Id::VORBIS => OGG,
        codec::Id::FLAC => FLAC,
        codec if stream.codec_name.starts_with("pcm_") && can_hold(WAV.muxer, codec) => WAV,
        codec if can_hold(MKA.muxer, codec) => MKA,
        _ => {
            let message =
                format!("no audio file holds {} as it is; choose another format than copy", stream.codec_name);
            return Err(failure::codec_unsupported(&message));
        }
    };
    Ok(container)
}

/// How the sound of a stream is encoded.
pub(super) fn encoding(request: &AudioExtract, stream: &Stream, notes: &mut Vec<MediaNote>) -> Encoding {
    let channels = request.channels.map_or_else(|| stream.channels.unwrap_or(2).min(2), u32::from);
    let source_rate = request.sample_rate.or(stream.sample_rate).unwrap_or(48_000);
    // What a lossy source decodes to has no bits of its own: 16 are as many as anybody hears.
    let fine = stream.lossless_bits.is_some_and(|bits| bits > 16);
    let float = stream.lossless_bits.is_none() || fine;
    let quality = request.quality.and_then(|quality| own_quality(request.format, quality));
    let mut lossy = |encoder, sample_format, rates: &[u32], options| {
        let sample_rate = nearest(source_rate, rates);
        let (low, high) = bit_rates(request.format, sample_rate, channels);
        let asked = request.bitrate_kbps.unwrap_or(if channels == 1 { 64 } else { 128 }) * 1_000;
        let bit_rate = asked.clamp(low, high);
        if bit_rate != asked && request.bitrate_kbps.is_some() {
            notes.push(MediaNote {
                code: "bitrate_limited".to_owned(),
                message: format!(
                    "{} has {} to {} kbit/s for this sound; {} were used",
                    request.format.as_str(),
                    low.div_ceil(1_000),
                    high / 1_000,
                    bit_rate / 1_000
                ),
            });
        }
        Encoding {
            encoder,
            sample_format,
            sample_rate,
            channels,
            bit_rate: quality.is_none().then_some(bit_rate as usize),
            quality,
            bits: None,
            options,
        }
    };
    let lossless = |encoder, sample_format, bits| Encoding {
        encoder,
        sample_format,
        sample_rate: source_rate.min(HIGHEST_RATE),
        channels,
        bit_rate: None,
        quality: None,
        bits,
        options: &[],
    };
    let (float_planar, s16_planar) = (Sample::F32(Type::Planar), Sample::I16(Type::Planar));
    let (float_packed, s16_packed) = (Sample::F32(Type::Packed), Sample::I16(Type::Packed));
    match request.format {
        AudioFormat::M4a | AudioFormat::Copy => lossy("aac", float_planar, AAC_RATES, &[]),
        AudioFormat::Mp3 => lossy("libmp3lame", if float { float_planar } else { s16_planar }, MP3_RATES, &[]),
        AudioFormat::Opus => lossy("libopus", if float { float_packed } else { s16_packed }, OPUS_RATES, &[]),
        AudioFormat::Ogg => lossy("libvorbis", float_planar, OGG_RATES, &[]),
        AudioFormat::Flac if fine => lossless("flac", Sample::I32(Type::Packed), Some(24)),
        AudioFormat::Flac => lossless("flac", s16_packed, None),
        AudioFormat::Wav => lossless("pcm_s16le", s16_packed, None),
    }
}

/// What an encoder takes for a quality from 0 (best) to 9 (smallest). LAME counts the same way (`-V`). Vorbis counts from 10
/// (best) down to -1: 9 to 0 are about 320 to 64 kbit/s of stereo at 44,100 Hz.
fn own_quality(format: AudioFormat, quality: u8) -> Option<f64> {
    match format {
        AudioFormat::Mp3 => Some(f64::from(quality)),
        AudioFormat::Ogg => Some(9.0 - f64::from(quality)),
        _ => None,
    }
}

const AAC_RATES: &[u32] =
    &[7_350, 8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000];
const MP3_RATES: &[u32] = &[8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
const OGG_RATES: &[u32] = &[8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000];
const OPUS_RATES: &[u32] = &[8_000, 12_000, 16_000, 24_000, 48_000];

/// No recorder goes further; what does is damage.
const HIGHEST_RATE: u32 = 384_000;

/// The lowest rate that loses nothing, or else the highest. `rates` ascend.
fn nearest(rate: u32, rates: &[u32]) -> u32 {
    rates.iter().find(|&&known| known >= rate).or(rates.last()).copied().unwrap_or(rate)
}

/// The lowest and the highest bits a second that an encoder takes.
fn bit_rates(format: AudioFormat, sample_rate: u32, channels: u32) -> (u32, u32) {
    match format {
        // MPEG-1, 2 and 2.5, layer III.
        AudioFormat::Mp3 if sample_rate >= 32_000 => (32_000, 320_000),
        AudioFormat::Mp3 if sample_rate >= 16_000 => (8_000, 160_000),
        AudioFormat::Mp3 => (8_000, 64_000),
        AudioFormat::Opus => (6_000, 256_000 * channels),
        // 6144 bits for each channel of a frame of 1024 samples.
        _ => (8_000, (6 * channels * sample_rate).min(512_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_the_encoder_does_not_know_becomes_the_next_higher() {
        assert_eq!(nearest(44_100, OPUS_RATES), 48_000);
        assert_eq!(nearest(22_050, OPUS_RATES), 24_000);
        assert_eq!(nearest(16_000, OPUS_RATES), 16_000);
        assert_eq!(nearest(96_000, MP3_RATES), 48_000);
        assert_eq!(nearest(192_000, AAC_RATES), 96_000);
        assert_eq!(nearest(37_800, AAC_RATES), 44_100);
    }
}
