//! What a file is, by its content: names lie.

/// How much of the beginning is looked at, in bytes: where `tar` and `webm` still show themselves.
pub(crate) const SAMPLE_BYTES: usize = 8 * 1024;

const BINARY: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";

/// The media type of a file that begins with `sample`.
pub(crate) fn of(sample: &[u8]) -> &'static str {
    match infer::get(sample) {
        Some(known) => known.mime_type(),
        None if is_text(sample) => TEXT,
        None => BINARY,
    }
}

/// Whether this is UTF-8, but for a character that the end cuts through, without characters that text does not hold.
fn is_text(sample: &[u8]) -> bool {
    let text = match std::str::from_utf8(sample) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&sample[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\x0c' | '\x1b'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_says_what_a_file_is() {
        let mp4 = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41";
        let cut = "naïve".as_bytes().split_at(3).0;
        for (sample, media_type) in [
            (&mp4[..], "video/mp4"),
            (b"fLaC\0\0\0\x22", "audio/x-flac"),
            (b"<!DOCTYPE html><title>not a film</title>", "text/html"),
            (b"plain\r\n", TEXT),
            (cut, TEXT),
            (b"", BINARY),
            (b"\xff\x00\xfe", BINARY),
            (b"text\0with a zero", BINARY),
        ] {
            assert_eq!(of(sample), media_type, "{sample:?}");
        }
    }
}
