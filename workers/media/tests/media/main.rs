//! Real recordings, made by the `ffmpeg` program, through the library, and back through the `ffprobe` program.

mod control;
mod damage;
mod formats;
mod hostile;
mod labels;
mod parts;
mod studio;
