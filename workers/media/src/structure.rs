//! Whether a file goes on after its end, by what its container says of its length in bytes.
//!
//! libav shortens the length of a WAV or AVI to what is there, and the length of a Matroska file in time says little when sound
//! and picture end at different times. See RFC 8794 (EBML), sections 4 and 5; RFC 9559 (Matroska), section 5.1; and
//! "Multimedia Programming Interface and Data Specifications 1.0" (RIFF), chapter 2.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::Path,
};

const EBML_HEADER: u64 = 0x1A45_DFA3;
const MATROSKA_SEGMENT: u64 = 0x1853_8067;

/// From this size on, a RIFF file was written by a program that did not know its length.
const RIFF_UNKNOWN: u32 = 0x7FFF_F000;

/// How many times as long as it is the file claims to be; none if all of what it claims is there, or if it claims nothing.
pub(crate) fn claimed_excess(path: &Path) -> Option<f64> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let end = promised_end(&mut file).ok()??;
    (end > length && length > 0).then(|| end as f64 / length as f64)
}

fn promised_end(file: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    let mut start = [0; 8];
    file.read_exact(&mut start)?;
    if let Some(size) = start.strip_prefix(b"RIFF").and_then(|size| size.first_chunk()) {
        let size = u32::from_le_bytes(*size);
        return Ok((1..RIFF_UNKNOWN).contains(&size).then_some(8 + u64::from(size)));
    }
    file.rewind()?;
    promised_end_of_matroska(file)
}

fn promised_end_of_matroska(file: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    let (header, length) = element(file)?;
    if header != EBML_HEADER {
        return Ok(None);
    }
    file.seek_relative(length.and_then(|length| i64::try_from(length).ok()).unwrap_or(0))?;
    let (segment, length) = element(file)?;
    let start = file.stream_position()?;
    // A live recording does not know its length.
    Ok(length.filter(|_| segment == MATROSKA_SEGMENT).map(|length| start.saturating_add(length)))
}

/// The id and, if it is known, the length of the element that starts here.
fn element(file: &mut impl Read) -> io::Result<(u64, Option<u64>)> {
    let (id, _) = number(file)?;
    let (length, bytes) = number(file)?;
    let mask = (1 << (7 * bytes)) - 1;
    let length = length & mask;
    Ok((id, (length != mask).then_some(length)))
}

/// A number of variable length with its marker bit, and how many bytes it took.
fn number(file: &mut impl Read) -> io::Result<(u64, u32)> {
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes[..1])?;
    let length = bytes[0].leading_zeros() + 1;
    let rest = bytes.get_mut(1..length as usize).ok_or(io::ErrorKind::InvalidData)?;
    file.read_exact(rest)?;
    Ok((bytes[..length as usize].iter().fold(0, |number, &byte| number << 8 | u64::from(byte)), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(bytes: &[u8]) -> Option<u64> {
        promised_end(&mut io::Cursor::new(bytes)).unwrap_or(None)
    }

    #[test]
    fn matroska_ends_where_its_segment_says() {
        let header = [0x1A, 0x45, 0xDF, 0xA3, 0x82, 7, 7];
        let segment = |size: &[u8]| [&header[..], &[0x18, 0x53, 0x80, 0x67], size].concat();
        assert_eq!(end(&segment(&[0x85])), Some(7 + 5 + 5));
        assert_eq!(end(&segment(&[0x40, 0x80])), Some(7 + 6 + 128));
        assert_eq!(end(&segment(&[0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])), None, "a live recording");
        assert_eq!(end(&header), None);
    }

    #[test]
    fn riff_ends_where_its_header_says() {
        assert_eq!(end(b"RIFF\x24\x01\0\0WAVE"), Some(8 + 0x124));
        assert_eq!(end(b"RIFF\xFF\xFF\xFF\xFFWAVE"), None, "written to a pipe");
        assert_eq!(end(b"RIFF\0\0\0\0WAVE"), None, "written to a pipe");
    }

    #[test]
    fn others_promise_nothing() {
        for bytes in [&b"OggS, not Matroska"[..], b"", b"RIFF", &[0; 20], &[0xFF; 20]] {
            assert_eq!(end(bytes), None);
        }
    }
}
