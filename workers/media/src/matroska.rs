//! Whether a Matroska or WebM file goes on after its end.
//!
//! Its length in time says little when sound and picture end at different times; its length in bytes is exact.
//! See RFC 8794 (EBML), sections 4 and 5, and RFC 9559 (Matroska), section 5.1.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::Path,
};

const HEADER: u64 = 0x1A45_DFA3;
const SEGMENT: u64 = 0x1853_8067;

/// Whether the segment of the file is said to be longer than the file. A live recording does not say.
pub(crate) fn is_cut_off(path: &Path) -> bool {
    File::open(path).and_then(|mut file| Ok(promised_end(&mut file)? > file.metadata()?.len())).unwrap_or(false)
}

fn promised_end(file: &mut (impl Read + Seek)) -> io::Result<u64> {
    let (header, length) = element(file)?;
    if header != HEADER {
        return Ok(0);
    }
    file.seek_relative(i64::try_from(length.unwrap_or(0)).unwrap_or(0))?;
    let (segment, length) = element(file)?;
    match length {
        Some(length) if segment == SEGMENT => Ok(file.stream_position()?.saturating_add(length)),
        _ => Ok(0),
    }
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

    #[test]
    fn the_end_is_where_the_segment_says() {
        let header = [0x1A, 0x45, 0xDF, 0xA3, 0x82, 7, 7];
        let segment = |size: &[u8]| [&header[..], &[0x18, 0x53, 0x80, 0x67], size].concat();
        let end = |bytes: Vec<u8>| promised_end(&mut io::Cursor::new(bytes));
        assert_eq!(end(segment(&[0x85])).unwrap(), 7 + 5 + 5);
        assert_eq!(end(segment(&[0x40, 0x80])).unwrap(), 7 + 6 + 128);
        assert_eq!(end(segment(&[0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])).unwrap(), 0, "a live recording");
        assert_eq!(end(b"OggS, not Matroska".to_vec()).unwrap(), 0);
        assert!(end(header[..3].to_vec()).is_err());
        assert!(end(vec![0; 20]).is_err());
    }
}
