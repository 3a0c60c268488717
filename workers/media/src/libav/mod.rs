//! A safe layer over libav, and the only place of this crate with unsafe code.
//!
//! `ffmpeg-next` does most of it. What it leaves out, or does in a way that foreign input could turn against us, is
//! here: opening with a demuxer that was chosen beforehand, text that need not be UTF-8, the log, the interrupt.
//! FFmpeg 5.1 or newer.

mod codec;
pub(crate) mod detect;
mod dictionary;
mod filter;
mod input;
mod interrupt;
pub(crate) mod log;
mod output;
mod picture;
mod samples;
mod stream;

pub(crate) use codec::{Decoder, Encoder, EncoderOptions, silence};
pub(crate) use dictionary::Tags;
pub(crate) use filter::{Chain, Shape};
pub(crate) use input::{Cover, Input, Read};
pub(crate) use output::{Output, can_hold};
pub(crate) use picture::{EncodedPicture, MAX_PIXELS, Picture, PictureDecoder, PictureFormat};
pub(crate) use samples::{planes, planes_mut, tame};
pub(crate) use stream::{Duration, Stream};

/// libav's own unit of time, microseconds.
pub(crate) const MICROSECONDS: ffmpeg_next::Rational = ffmpeg_next::Rational(1, 1_000_000);

/// Milliseconds.
pub(crate) const MILLISECONDS: ffmpeg_next::Rational = ffmpeg_next::Rational(1, 1_000);
