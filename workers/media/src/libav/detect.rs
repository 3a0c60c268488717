//! What a file is, by its first bytes alone.
//!
//! libav would also guess by the name, and would open whatever it finds: playlists, manifests and image sequences that
//! name other files. So the demuxer is chosen here, from a list of those that read one recording from one file.

#![expect(unsafe_code, reason = "asks libav's demuxers")]

use std::{
    ffi::{CStr, c_int},
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    ptr,
};

use ffmpeg_next::ffi;
use fourmi_model::{ErrorClass, Failure};

use crate::failure::{self, not_media};

/// The demuxers that may open an upload, by libavformat's short names.
const ALLOWED: &[&str] = &[
    "aac",
    "ac3",
    "aiff",
    "amr",
    "amrnb",
    "amrwb",
    "ape",
    "asf",
    "asf_o",
    "au",
    "avi",
    "caf",
    "dsf",
    "dts",
    "dtshd",
    "dv",
    "eac3",
    "flac",
    "flv",
    "gif",
    "gxf",
    "h264",
    "hevc",
    "ivf",
    "loas",
    "m4v",
    "matroska",
    "mlp",
    "mov",
    "mp3",
    "mpc",
    "mpc8",
    "mpeg",
    "mpegts",
    "mpegvideo",
    "mxf",
    "nsv",
    "nut",
    "ogg",
    "oma",
    "rm",
    "shn",
    "tak",
    "truehd",
    "tta",
    "vc1",
    "voc",
    "w64",
    "wav",
    "wtv",
    "wv",
];

/// Demuxers that read other files or addresses which the file names.
const REFERRING: &[&str] = &[
    "hls",
    "dash",
    "concat",
    "imf",
    "sdp",
    "rtsp",
    "ffmetadata",
    "webm_dash_manifest",
    "vobsub",
    "image2",
    "avisynth",
];

/// First this much is looked at, then, if libav is not sure, much more.
const GLANCE_BYTES: usize = 64 * 1024;
const LOOK_BYTES: usize = 1024 * 1024;

/// libav's score from which it is sure (`AVPROBE_SCORE_RETRY`), and below which it is guessing at noise.
const SURE: c_int = 25;
const NOISE: c_int = 5;

/// A demuxer that may open the file.
#[derive(Clone, Copy)]
pub(super) struct Demuxer {
    format: *const ffi::AVInputFormat,
    /// Whether libav was sure of it.
    pub(super) sure: bool,
}

impl Demuxer {
    pub(super) fn as_ptr(self) -> *const ffi::AVInputFormat {
        self.format
    }

    /// The short names, separated by commas.
    pub(super) fn names(self) -> String {
        // SAFETY: a demuxer is a constant of libav's, and its name a string that ends with NUL.
        unsafe { CStr::from_ptr((*self.format).name) }.to_string_lossy().into_owned()
    }

    pub(super) fn is(self, name: &str) -> bool {
        self.names().split(',').any(|one| one == name)
    }
}

/// Chooses the demuxer for a file.
///
/// # Errors
/// `source_gone`, `storage_failed`, `empty_file`, `not_media`.
pub(super) fn detect(path: &Path) -> Result<Demuxer, Failure> {
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(not_media("it is not a file"));
    }
    if metadata.len() == 0 {
        return Err(Failure::permanent("empty_file", "the file is empty (0 bytes)").class(ErrorClass::CorruptInput));
    }
    let start = read_at(&mut file, 0, GLANCE_BYTES).map_err(unreadable)?;
    // A cover picture in front of an MP3 may be larger than all that is looked at.
    let sound_at = id3_length(&start).filter(|&length| length < metadata.len()).unwrap_or(0);
    for size in [GLANCE_BYTES, LOOK_BYTES] {
        let bytes = read_at(&mut file, sound_at, size).map_err(unreadable)?;
        match demuxer_of(&bytes) {
            Some((demuxer, score)) if score >= SURE || size == LOOK_BYTES => return judge(demuxer, score, &start),
            _ => {}
        }
    }
    Err(not_media(description(&start)))
}

/// What the first bytes of something are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// A recording.
    Recording,
    /// A page, playlist or manifest, which may lead to one.
    Refers,
    /// Nothing of use, in words.
    Nothing(&'static str),
}

/// Looks at the first bytes of something; 64 KiB are enough for nearly all recordings.
pub fn sniff(start: &[u8]) -> Sniffed {
    let sound_at = id3_length(start).and_then(|length| usize::try_from(length).ok());
    // A tag longer than what is here can only be that of a recording.
    if sound_at.is_some_and(|at| at >= start.len()) {
        return Sniffed::Recording;
    }
    let bytes = &start[sound_at.unwrap_or(0)..];
    if let Some((demuxer, score)) = demuxer_of(bytes) {
        let names = demuxer.names();
        let is_one_of = |list: &[&str]| names.split(',').any(|name| list.contains(&name));
        if is_one_of(REFERRING) {
            return Sniffed::Refers;
        }
        if is_one_of(ALLOWED) && score >= SURE {
            return Sniffed::Recording;
        }
    }
    match description(start) {
        page if page.starts_with("it is a web page") => Sniffed::Refers,
        what => Sniffed::Nothing(what),
    }
}

fn judge(demuxer: Demuxer, score: c_int, start: &[u8]) -> Result<Demuxer, Failure> {
    let names = demuxer.names();
    let is_one_of = |list: &[&str]| names.split(',').any(|name| list.contains(&name));
    if is_one_of(REFERRING) {
        return Err(not_media(&format!("it is a playlist or manifest ({names}), which names other files")));
    }
    if names.ends_with("_pipe") {
        return Err(not_media(&format!("it is a picture ({})", names.trim_end_matches("_pipe"))));
    }
    if !is_one_of(ALLOWED) || score < NOISE {
        return Err(not_media(description(start)));
    }
    Ok(Demuxer { sure: score >= SURE, ..demuxer })
}

fn demuxer_of(bytes: &[u8]) -> Option<(Demuxer, c_int)> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len() + ffi::AVPROBE_PADDING_SIZE as usize, 0);
    let data = ffi::AVProbeData {
        filename: c"".as_ptr(),
        buf: padded.as_mut_ptr(),
        buf_size: c_int::try_from(bytes.len()).ok()?,
        mime_type: ptr::null(),
    };
    let mut score = 0;
    // SAFETY: the buffer is as long as we say and followed by the zeros that demuxers may read.
    let format = unsafe { ffi::av_probe_input_format3(&raw const data, 1, &raw mut score) };
    (!format.is_null()).then_some((Demuxer { format, sure: false }, score))
}

/// The length of an ID3v2 tag at the start, with its header; see <https://id3.org/id3v2.4.0-structure>, section 3.1.
fn id3_length(start: &[u8]) -> Option<u64> {
    let header = start.get(..10).filter(|header| header.starts_with(b"ID3"))?;
    let size = header[6..].iter().fold(0, |size, &byte| size << 7 | u64::from(byte & 0x7F));
    let footer = if header[5] & 0x10 == 0 { 0 } else { 10 };
    Some(10 + size + footer)
}

fn description(start: &[u8]) -> &'static str {
    let text = start.trim_ascii_start();
    let head = text[..text.len().min(64)].to_ascii_lowercase();
    if head.starts_with(b"<!doctype html") || head.starts_with(b"<html") {
        "it is a web page; perhaps the download gave a page that shows the recording"
    } else if head.starts_with(b"%pdf") {
        "it is a PDF document"
    } else if head.starts_with(b"pk\x03\x04") {
        "it is a ZIP archive or an office document"
    } else if start[..start.len().min(4_096)].iter().all(|byte| *byte >= b' ' || byte.is_ascii_whitespace()) {
        "it is text"
    } else {
        "its content is of no kind that is known"
    }
}

fn unreadable(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => failure::source_gone(),
        io::ErrorKind::IsADirectory => not_media("it is a folder"),
        _ => Failure::retry("storage_failed", "the file could not be read").because(error),
    }
}

fn read_at(file: &mut File, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most.min(GLANCE_BYTES));
    file.seek(SeekFrom::Start(offset))?;
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
