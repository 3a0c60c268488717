//! What libav logs, kept for the report of a failure instead of being printed.
//!
//! libav has one callback for the whole process. Lines go to the thread that caused them, and only while that thread
//! captures: a run works on one thread, and its codecs are opened without threads of their own.

#![expect(unsafe_code, reason = "libav's log callback")]

use std::{cell::RefCell, collections::VecDeque, marker::PhantomData, sync::Once};

use ffmpeg_next::ffi;

/// As many of the last lines as a failure carries.
const MAX_LINES: usize = 20;

/// Longer lines are cut.
const MAX_LINE_BYTES: usize = 512;

thread_local! {
    static LINES: RefCell<Option<VecDeque<String>>> = const { RefCell::new(None) };
}

/// While it lives, warnings and errors that libav logs on this thread are kept.
pub(crate) struct Capture {
    /// Bound to its thread.
    _thread: PhantomData<*const ()>,
}

impl Capture {
    /// Starts with an empty log.
    pub(crate) fn start() -> Self {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| {
            // Without it, libav's own errors have no text.
            ffmpeg_next::util::error::register_all();
            install();
        });
        LINES.with_borrow_mut(|lines| *lines = Some(VecDeque::with_capacity(MAX_LINES)));
        Self { _thread: PhantomData }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        LINES.with_borrow_mut(|lines| *lines = None);
    }
}

/// The last lines of this thread, oldest first.
pub(crate) fn recent() -> Vec<String> {
    LINES.with_borrow(|lines| lines.iter().flatten().cloned().collect())
}

/// Whether one of the last lines of this thread holds `text`.
pub(crate) fn mentions(text: &str) -> bool {
    LINES.with_borrow(|lines| lines.iter().flatten().any(|line| line.contains(text)))
}

fn keep(line: &str) {
    // Called from C: neither a borrow nor a dying thread may panic here.
    let _ = LINES.try_with(|lines| {
        let Ok(mut lines) = lines.try_borrow_mut() else { return };
        let Some(lines) = lines.as_mut() else { return };
        let line = without_secrets(line.trim_end());
        if line.is_empty() || lines.back() == Some(&line) {
            return;
        }
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    });
}

/// The line without addresses of memory, and without user names and passwords in URLs.
fn without_secrets(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(" @ 0x") {
        clean.push_str(&rest[..at]);
        rest = rest[at + " @ 0x".len()..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    clean.push_str(rest);

    let mut searched = 0;
    while let Some(found) = clean[searched..].find("://") {
        let start = searched + found + "://".len();
        let end = clean[start..].find(['/', '?', '#', '\'', '"', ' ']).map_or(clean.len(), |at| start + at);
        if let Some(at) = clean[start..end].rfind('@') {
            clean.replace_range(start..start + at, "***");
        }
        searched = start;
    }
    clean
}

#[cfg(target_arch = "x86_64")]
fn install() {
    // SAFETY: `on_line` has the signature that libav calls, and lives as long as the program.
    unsafe { ffi::av_log_set_callback(Some(on_line)) };
}

/// The arguments of a line (`va_list`) look different on every architecture; elsewhere the log is silenced.
#[cfg(not(target_arch = "x86_64"))]
fn install() {
    // SAFETY: sets a number.
    unsafe { ffi::av_log_set_level(ffi::AV_LOG_QUIET) };
}

#[cfg(target_arch = "x86_64")]
unsafe extern "C" fn on_line(
    context: *mut std::ffi::c_void,
    level: std::ffi::c_int,
    format: *const std::ffi::c_char,
    arguments: *mut ffi::__va_list_tag,
) {
    if level > ffi::AV_LOG_WARNING {
        return;
    }
    let mut line = [0_u8; MAX_LINE_BYTES];
    let mut with_prefix = 1;
    // SAFETY: the first four come from libav as they are; the buffer is as long as we say, and libav ends it with NUL.
    unsafe {
        ffi::av_log_format_line2(
            context,
            level,
            format,
            arguments,
            line.as_mut_ptr().cast(),
            MAX_LINE_BYTES as std::ffi::c_int,
            &raw mut with_prefix,
        )
    };
    if let Ok(line) = std::ffi::CStr::from_bytes_until_nul(&line) {
        keep(&line.to_string_lossy());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_neither_passwords_nor_addresses() {
        for (line, clean) in [
            ("[mov,mp4 @ 0x55d0a1b2] moov atom not found", "[mov,mp4] moov atom not found"),
            ("opening 'https://me:secret@host/a?b=c@d'", "opening 'https://***@host/a?b=c@d'"),
            ("rtsp://u:p@a and rtsp://v@b/x", "rtsp://***@a and rtsp://***@b/x"),
            ("http://plain.example/", "http://plain.example/"),
        ] {
            assert_eq!(without_secrets(line), clean);
        }
    }

    #[test]
    fn only_the_last_lines_are_kept_and_only_while_capturing() {
        keep("before");
        let capture = Capture::start();
        for number in 0..100 {
            keep(&format!("line {number}"));
            keep(&format!("line {number}"));
        }
        assert_eq!(recent().len(), MAX_LINES);
        assert!(mentions("line 99") && !mentions("line 79") && !mentions("before"));
        drop(capture);
        assert!(recent().is_empty());
    }
}
