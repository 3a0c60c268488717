//! Why a recording could not be read, or a file not be written: the codes, in one place.
//!
//! | code | what is wrong | again? |
//! |---|---|---|
//! | `source_gone` | there is no such file | no |
//! | `storage_failed` | a file could not be read or written | yes |
//! | `empty_file` | 0 bytes | no |
//! | `not_media` | text, a web page, a picture, a playlist, noise | no |
//! | `no_audio_stream` | a film without sound, for one | no |
//! | `drm` | the sound is encrypted | no |
//! | `codec_unsupported` | nothing here decodes or holds it | no |
//! | `truncated_media` | it ends before its promised end | no |
//! | `corrupt_media` | too much of it cannot be decoded | no |
//! | `zero_duration` | its sound is 0 seconds long | no |
//! | `duration_exceeded` | its sound is longer than was asked for, or than [`crate::audio::MAX_DURATION`] | no |
//! | `trim_out_of_range` | the part to keep lies after its end, or is of chapters that it has not | no |
//! | `disk_full`, `out_of_memory` | the worker's machine is short of it | yes |
//! | `cancelled` | asked to stop | no |
//! | `ffmpeg_failed` | anything else, with what libav logged | no |

use std::io;

use ffmpeg_next::Error;
use fourmi_model::{ErrorClass, Failure};

use crate::libav::log;

/// What an error of libav's means, while it was `doing` something.
pub(crate) fn libav(error: Error, doing: &str) -> Failure {
    match error {
        Error::Exit => Failure::cancelled(),
        Error::Other { errno } if is_of_the_machine(errno) || is_out_of_memory(error) => {
            storage(&io::Error::from_raw_os_error(errno), doing)
        }
        Error::DecoderNotFound | Error::EncoderNotFound | Error::MuxerNotFound => {
            codec_unsupported(&format!("{doing} needs a codec that is not installed"))
        }
        error => {
            let mut lines = log::recent();
            lines.push(error.to_string());
            Failure::permanent("ffmpeg_failed", format!("{doing} failed: {error}"))
                .class(ErrorClass::Internal)
                .because(lines.join("\n"))
        }
    }
}

/// What a failure to create, read, write or rename a file means.
pub(crate) fn storage(error: &io::Error, doing: &str) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => disk_full(),
        io::ErrorKind::OutOfMemory => {
            Failure::retry("out_of_memory", format!("{doing} failed: there was not enough memory"))
        }
        _ => Failure::retry("storage_failed", format!("{doing} failed: {error}")),
    }
}

/// Whether there was no memory, so that the input is not to blame. Decoders also say so of data that makes them ask for absurd
/// amounts, or count to too many: hence the look whether there is some.
pub(crate) fn is_out_of_memory(error: Error) -> bool {
    error == Error::Other { errno: ffmpeg_next::error::ENOMEM } && !has_memory()
}

fn has_memory() -> bool {
    const SOME_BYTES: usize = 16 * 1024 * 1024;
    let mut some = Vec::<u8>::new();
    let has = some.try_reserve_exact(SOME_BYTES).is_ok();
    // What nobody looks at is never asked for.
    std::hint::black_box(some);
    has
}

fn is_of_the_machine(errno: i32) -> bool {
    use ffmpeg_next::error::{EACCES, EFBIG, EIO, EMFILE, ENFILE, ENOENT, ENOSPC, EROFS};
    let quota = io::Error::from_raw_os_error(errno).kind() == io::ErrorKind::QuotaExceeded;
    quota || [EACCES, EFBIG, EIO, EMFILE, ENFILE, ENOENT, ENOSPC, EROFS].contains(&errno)
}

pub(crate) fn source_gone() -> Failure {
    Failure::permanent("source_gone", "the recording is not there any more").class(ErrorClass::NotFound)
}

pub(crate) fn disk_full() -> Failure {
    Failure::retry("disk_full", "there is no room left on the worker's disk")
}

pub(crate) fn not_media(why: &str) -> Failure {
    let failure = Failure::permanent("not_media", format!("the file is not a recording: {why}"));
    with_log(failure.class(ErrorClass::Unsupported))
}

pub(crate) fn no_audio_stream(holds: &str) -> Failure {
    Failure::permanent("no_audio_stream", format!("the recording has no sound; it holds {holds}"))
}

pub(crate) fn drm(codec: &str) -> Failure {
    Failure::permanent("drm", format!("the sound ({codec}) is encrypted")).class(ErrorClass::Forbidden)
}

pub(crate) fn codec_unsupported(message: &str) -> Failure {
    with_log(Failure::permanent("codec_unsupported", message).class(ErrorClass::Unsupported))
}

pub(crate) fn truncated(why: &str) -> Failure {
    let failure = Failure::permanent("truncated_media", format!("the recording is cut off: {why}"));
    with_log(failure.class(ErrorClass::CorruptInput))
}

pub(crate) fn corrupt(why: &str) -> Failure {
    let failure = Failure::permanent("corrupt_media", format!("the recording is damaged: {why}"));
    with_log(failure.class(ErrorClass::CorruptInput))
}

pub(crate) fn zero_duration() -> Failure {
    Failure::permanent("zero_duration", "the sound of the recording is 0 seconds long").class(ErrorClass::CorruptInput)
}

/// `longest` in microseconds.
pub(crate) fn duration_exceeded(longest: i64) -> Failure {
    let longest = clock(longest.unsigned_abs() / 1_000);
    Failure::permanent("duration_exceeded", format!("the sound of the recording is longer than {longest}"))
}

pub(crate) fn no_such_chapters(first: u32, last: u32, of: usize) -> Failure {
    let asked = if first == last { format!("chapter {first}") } else { format!("the chapters {first} to {last}") };
    Failure::permanent("trim_out_of_range", format!("{asked} cannot be kept: the recording has {of} chapters"))
}

pub(crate) fn internal(message: &str) -> Failure {
    with_log(Failure::permanent("ffmpeg_failed", message).class(ErrorClass::Internal))
}

pub(crate) fn trim_out_of_range(start_ms: u64, duration_ms: Option<u64>) -> Failure {
    let end = duration_ms.map_or_else(String::new, |end| format!(" ({})", clock(end)));
    Failure::permanent(
        "trim_out_of_range",
        format!("the part to keep starts at {}, after the end of the recording{end}", clock(start_ms)),
    )
}

/// The failure of a stage, unless it is known whose it is, or nobody's.
pub(crate) fn in_stage(failure: Failure, stage: &str) -> Failure {
    if failure.stage.is_none() && failure.code != "cancelled" { failure.in_stage(stage) } else { failure }
}

/// A time as people write it: `1:02:03.456`.
pub(crate) fn clock(ms: u64) -> String {
    let (hours, minutes, seconds, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    format!("{hours}:{minutes:02}:{seconds:02}.{ms:03}")
}

fn with_log(failure: Failure) -> Failure {
    let lines = log::recent();
    if lines.is_empty() { failure } else { failure.because(lines.join("\n")) }
}

#[cfg(test)]
mod tests {
    use fourmi_model::NextStep;

    use super::*;

    #[test]
    fn what_the_machine_lacks_is_tried_again_and_what_the_input_lacks_is_not() {
        use ffmpeg_next::error::{EINVAL, EIO, ENOMEM, ENOSPC};
        let again = NextStep::Retry { after_ms: None };
        for (error, code, next) in [
            (Error::Other { errno: ENOSPC }, "disk_full", &again),
            (Error::Other { errno: ENOMEM }, "ffmpeg_failed", &NextStep::GiveUp),
            (Error::Other { errno: EIO }, "storage_failed", &again),
            (Error::DecoderNotFound, "codec_unsupported", &NextStep::GiveUp),
            (Error::Other { errno: EINVAL }, "ffmpeg_failed", &NextStep::GiveUp),
            (Error::Exit, "cancelled", &NextStep::Cancelled),
        ] {
            let failure = libav(error, "writing");
            assert_eq!((failure.code.as_str(), &failure.next), (code, next));
        }
        let memory = io::Error::from(io::ErrorKind::OutOfMemory);
        assert_eq!(
            (storage(&memory, "mapping").code.as_str(), storage(&memory, "mapping").next),
            ("out_of_memory", again)
        );
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(storage(&full, "renaming").code, "disk_full");
    }

    #[test]
    fn times_are_written_as_people_write_them() {
        assert_eq!(clock(3_723_456), "1:02:03.456");
        assert_eq!(clock(0), "0:00:00.000");
    }
}
