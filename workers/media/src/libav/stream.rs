//! What is known of a stream.

#![expect(unsafe_code, reason = "reads fields that ffmpeg-next does not show")]

use ffmpeg_next::{Rational, codec, ffi, media};

use super::{
    Tags,
    dictionary::{self, text},
};

/// What is known of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    /// Its number in the container.
    pub(crate) index: usize,
    pub(crate) medium: media::Type,
    pub(crate) codec: codec::Id,
    pub(crate) codec_name: String,
    pub(crate) profile: Option<String>,
    /// The unit of its times.
    pub(crate) time_base: Rational,
    /// Where it starts, in its own unit.
    pub(crate) start: Option<i64>,
    /// How long it is, in its own unit.
    pub(crate) duration: Option<i64>,
    pub(crate) bit_rate: Option<u64>,
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    /// Pictures a second.
    pub(crate) frame_rate: Option<f64>,
    pub(crate) sample_rate: Option<u32>,
    pub(crate) channels: Option<u32>,
    /// Bits that count in a sample, if the codec loses none.
    pub(crate) lossless_bits: Option<u32>,
    /// A picture that is attached, not a film.
    pub(crate) cover: bool,
    pub(crate) default: bool,
    pub(crate) tags: Tags,
}

/// A length in microseconds, and how far to trust it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duration {
    /// The container says it.
    Said(i64),
    /// Estimated from the size of the file; it may be far off.
    Estimated(i64),
    Unknown,
}

impl Duration {
    /// The length, whoever says it.
    pub(crate) fn any(self) -> Option<i64> {
        match self {
            Self::Said(length) | Self::Estimated(length) => Some(length),
            Self::Unknown => None,
        }
    }
}

/// Reads what is known of a stream.
///
/// # Safety
/// Its context lives, and nothing reads from it meanwhile.
pub(super) unsafe fn read(stream: &ffmpeg_next::Stream<'_>) -> Stream {
    // SAFETY: a stream and its parameters live as long as the context.
    let (raw, parameters) = unsafe { (&*stream.as_ptr(), &*(*stream.as_ptr()).codecpar) };
    // SAFETY: both give constants of libav's, or null.
    let (name, profile) = unsafe {
        let profile = ffi::avcodec_profile_name(parameters.codec_id, parameters.profile);
        (text(ffi::avcodec_get_name(parameters.codec_id)), text(profile))
    };
    let rate = stream.avg_frame_rate();
    let cover = raw.disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0;
    Stream {
        index: stream.index(),
        medium: media::Type::from(parameters.codec_type),
        codec: codec::Id::from(parameters.codec_id),
        codec_name: name,
        profile: (!profile.is_empty()).then_some(profile),
        time_base: stream.time_base(),
        start: known(raw.start_time),
        duration: known(raw.duration).filter(|&length| length > 0),
        bit_rate: u64::try_from(parameters.bit_rate).ok().filter(|&rate| rate > 0),
        width: positive(parameters.width),
        height: positive(parameters.height),
        frame_rate: (!cover && rate.0 > 0 && rate.1 > 0).then(|| f64::from(rate)),
        sample_rate: positive(parameters.sample_rate),
        channels: positive(parameters.ch_layout.nb_channels),
        lossless_bits: is_lossless(parameters.codec_id)
            .then(|| positive(parameters.bits_per_raw_sample).or(positive(parameters.bits_per_coded_sample)))
            .flatten(),
        cover,
        default: raw.disposition & ffi::AV_DISPOSITION_DEFAULT != 0,
        // SAFETY: by the contract of this function.
        tags: unsafe { dictionary::read(raw.metadata) },
    }
}

fn is_lossless(codec: ffi::AVCodecID) -> bool {
    // SAFETY: gives a constant of libav's, or null.
    let properties = unsafe { ffi::avcodec_descriptor_get(codec).as_ref() }.map_or(0, |codec| codec.props);
    properties & ffi::AV_CODEC_PROP_LOSSLESS != 0 && properties & ffi::AV_CODEC_PROP_LOSSY == 0
}

fn known(time: i64) -> Option<i64> {
    (time != ffi::AV_NOPTS_VALUE).then_some(time)
}

fn positive(number: i32) -> Option<u32> {
    u32::try_from(number).ok().filter(|&number| number > 0)
}
