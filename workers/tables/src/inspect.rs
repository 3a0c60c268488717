//! What a file is: its encoding, how its table is written, and whether it is one at all.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use fourmi_kinds::TableFormat;

use crate::{
    Limits, TableError, delimited,
    source::{CHUNK, Source},
    watch::Watch,
};

/// Bytes from which the delimiter is found out.
const LOOKED_AT: u64 = 256 * 1024;

/// How other files begin.
const OTHERS: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "it is packed with gzip, unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is packed with Zstandard, unpack it first"),
    (b"\xfd7zXZ\0", "it is packed with xz, unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7-Zip archive, unpack it first"),
    (b"PK\x03\x04", "it is a ZIP archive or an Excel workbook: unpack it, or export the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "it is an old Excel workbook, export the sheet as CSV"),
    (b"PAR1", "it is Apache Parquet, export it as CSV"),
    (b"ARROW1", "it is Apache Arrow, export it as CSV"),
    (b"SQLite format 3\0", "it is an SQLite database, export the table as CSV"),
    (b"\x89PNG", "it is a PNG image"),
    (b"\xff\xd8\xff", "it is a JPEG image"),
    (b"GIF8", "it is a GIF image"),
    (b"%PDF-", "it is a PDF document"),
    (b"\x7fELF", "it is a program"),
];

/// Bytes that mean nothing in windows-1252.
const UNASSIGNED: [u8; 5] = [0x81, 0x8d, 0x8f, 0x90, 0x9d];

/// What a file is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inspected {
    pub(crate) format: TableFormat,
    /// Also of a table of one column, so that nothing is cut in two.
    pub(crate) delimiter: u8,
    /// Whether the delimiter stands between values.
    pub(crate) delimited: bool,
    pub(crate) encoding: &'static Encoding,
    /// Bytes of the byte-order mark.
    pub(crate) mark: u64,
    pub(crate) bytes: u64,
}

/// Reads the whole file once. Counts in `watch` as one pass.
pub(crate) fn inspect(
    path: &Path,
    format: Option<TableFormat>,
    limits: &Limits,
    watch: &Watch<'_>,
) -> Result<Inspected, TableError> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    watch.expect(bytes);
    let (encoding, mark) = encoding(file, watch)?;
    let head = head(path, (encoding, mark), limits, watch)?;
    let first = head.trim_ascii_start();
    if first.is_empty() && bytes <= LOOKED_AT {
        return Err(TableError::Empty);
    }
    let is_array =
        first.strip_prefix(b"[").is_some_and(|rest| matches!(rest.trim_ascii_start().first(), Some(b'{' | b'[')));
    if is_array && format.is_none_or(|format| format == TableFormat::JsonLines) {
        return Err(TableError::NotATable { what: "it is a JSON array, write one object a line instead" });
    }
    let format = match format {
        Some(format) => format,
        None if first.starts_with(b"{") => TableFormat::JsonLines,
        None => TableFormat::Csv,
    };
    if format == TableFormat::JsonLines {
        return Ok(Inspected { format, delimiter: b',', delimited: false, encoding, mark, bytes });
    }
    if first.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"<!DOCTYPE"))
        || first.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"<html") || start == b"<?xml")
    {
        return Err(TableError::NotATable { what: "it is a page of HTML or XML, export the table as CSV" });
    }
    let (delimiter, delimited) = if format == TableFormat::Tsv { (b'\t', true) } else { delimited::delimiter(&head) };
    let format = if delimiter == b'\t' { TableFormat::Tsv } else { format };
    Ok(Inspected { format, delimiter, delimited, encoding, mark, bytes })
}

/// The beginning as UTF-8, in whole lines if there is one.
fn head(
    path: &Path,
    encoding: (&'static Encoding, u64),
    limits: &Limits,
    watch: &Watch<'_>,
) -> Result<Vec<u8>, TableError> {
    let quiet = watch.uncounted();
    let source = Source::open(path, encoding, limits.line_bytes.max(LOOKED_AT as usize), &quiet)?;
    let mut head = Vec::new();
    BufReader::with_capacity(CHUNK, source).take(LOOKED_AT).read_to_end(&mut head)?;
    if head.len() as u64 == LOOKED_AT
        && let Some(end) = head.iter().rposition(|&byte| byte == b'\n')
    {
        head.truncate(end + 1);
    }
    Ok(head)
}

/// The encoding and the bytes of its mark. Without a mark it is UTF-8 if all of it is, else windows-1252, unless too much
/// speaks against that too.
fn encoding(mut file: File, watch: &Watch<'_>) -> Result<(&'static Encoding, u64), TableError> {
    let mut start = Vec::new();
    (&mut file).take(64).read_to_end(&mut start)?;
    if let Some((_, what)) = OTHERS.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(TableError::NotATable { what });
    }
    let (encoding, mark) = Encoding::for_bom(&start).unwrap_or((UTF_8, 0));
    file.seek(SeekFrom::Start(mark as u64))?;
    if encoding == UTF_16LE || encoding == UTF_16BE {
        check_utf_16(file, encoding, watch)?;
        return Ok((encoding, mark as u64));
    }
    let seen = look(&mut file, watch)?;
    let encoding = match seen.first_wrong {
        None => UTF_8,
        // A text in UTF-8 with a few broken bytes is not made better by reading all of it as something else.
        Some(line) if mark > 0 || seen.unassigned || seen.right > seen.wrong => {
            return Err(TableError::BadEncoding { line, encoding: "UTF-8" });
        }
        Some(_) => WINDOWS_1252,
    };
    Ok((encoding, mark as u64))
}

/// What speaks for and against UTF-8.
#[derive(Default)]
struct Seen {
    /// Characters of several bytes.
    right: u64,
    /// Sequences of bytes that are none.
    wrong: u64,
    /// The line of the first of them, from 1.
    first_wrong: Option<u64>,
    /// Bytes that windows-1252 does not have.
    unassigned: bool,
}

fn look(file: &mut File, watch: &Watch<'_>) -> Result<Seen, TableError> {
    let mut seen = Seen::default();
    let mut buffer = vec![0; 4 * CHUNK];
    let (mut kept, mut line) = (0, 1);
    loop {
        let read = file.read(&mut buffer[kept..])?;
        watch.read(read)?;
        let filled = kept + read;
        if filled == 0 {
            return Ok(seen);
        }
        if buffer[kept..filled].contains(&0) {
            return Err(TableError::NotATable {
                what: "it has NUL bytes, so it is no text; text in UTF-16 needs a byte-order mark, or save it as UTF-8",
            });
        }
        // A character may be cut at the end of a chunk, but not at the end of the file.
        let whole = if read == 0 { filled } else { filled - cut(&buffer[..filled]) };
        seen.look_at(&buffer[..whole], &mut line);
        buffer.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
}

impl Seen {
    fn look_at(&mut self, bytes: &[u8], line: &mut u64) {
        let leads = |bytes: &[u8]| if bytes.is_ascii() { 0 } else { count(bytes, |byte| byte >= 0xC0) };
        if std::str::from_utf8(bytes).is_ok() {
            if self.first_wrong.is_none() {
                *line += lines(bytes);
            }
            self.right += leads(bytes);
            return;
        }
        self.unassigned |= bytes.iter().any(|byte| UNASSIGNED.contains(byte));
        for part in bytes.utf8_chunks() {
            self.right += leads(part.valid().as_bytes());
            if self.first_wrong.is_none() {
                *line += lines(part.valid().as_bytes());
            }
            if !part.invalid().is_empty() {
                self.wrong += 1;
                self.first_wrong.get_or_insert(*line);
            }
        }
    }
}

fn lines(bytes: &[u8]) -> u64 {
    count(bytes, |byte| byte == b'\n')
}

/// Counted in bytes, as many side by side as fit into a register.
fn count(bytes: &[u8], is: impl Fn(u8) -> bool) -> u64 {
    bytes.chunks(255).map(|bytes| u64::from(bytes.iter().map(|&byte| u8::from(is(byte))).sum::<u8>())).sum()
}

/// Bytes of a character that is cut at the end.
fn cut(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return 0,
        };
        return if length > back { back } else { 0 };
    }
    0
}

fn check_utf_16(mut file: File, encoding: &'static Encoding, watch: &Watch<'_>) -> Result<(), TableError> {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let (mut raw, mut text) = (vec![0; CHUNK], vec![0; 4 * CHUNK]);
    let mut line = 1;
    loop {
        let read = file.read(&mut raw)?;
        watch.read(read)?;
        let (_, _, written, wrong) = decoder.decode_to_utf8(&raw[..read], &mut text, read == 0);
        if wrong {
            line += text[..written]
                .windows(3)
                .take_while(|bytes| *bytes != "\u{FFFD}".as_bytes())
                .fold(0, |lines, bytes| lines + u64::from(bytes[0] == b'\n'));
            return Err(TableError::BadEncoding { line, encoding: encoding.name() });
        }
        if text[..written].contains(&0) {
            return Err(TableError::NotATable { what: "it has NUL characters, so it is no text" });
        }
        line += lines(&text[..written]);
        if read == 0 {
            return Ok(());
        }
    }
}
