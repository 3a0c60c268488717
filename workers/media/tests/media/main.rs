//! Real recordings, made by the `ffmpeg` program, through the library, and back through the `ffprobe` program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod control;
mod damage;
mod formats;
mod hls;
mod hostile;
mod labels;
mod loudness;
mod parts;
mod pictures;
mod studio;
mod waveform;
