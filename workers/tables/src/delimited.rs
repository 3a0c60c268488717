//! Records of values between delimiters (RFC 4180).

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

use csv::{ByteRecord, Reader, ReaderBuilder};
use fourmi_kinds::DatasetNote;

use crate::{
    Limits, TableError,
    names::{Names, cut, is_long, note_cut},
    source::{CHUNK, Source, Start},
    value,
};

/// What may stand between values, the more usual first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Records from which the delimiter is found out.
const LOOKED_AT: usize = 200;

/// The delimiter of a table that begins so, and whether there is one.
///
/// It is the one by which most records have as many values as the first; of several, the one that makes most columns.
pub(crate) fn delimiter(head: &[u8]) -> (u8, bool) {
    let mut best = None;
    for delimiter in DELIMITERS {
        let counts: Vec<usize> = reader(head, delimiter)
            .into_byte_records()
            .take(LOOKED_AT)
            .map_while(Result::ok)
            .map(|record| record.len())
            .collect();
        let Some(&columns) = counts.first().filter(|&&columns| columns > 1) else { continue };
        let alike = counts.iter().filter(|&&count| count == columns).count();
        // The line of names alone may have one by chance: "height, in cm" above a single column.
        if counts.iter().filter(|&&count| count > 1).count() * 2 < counts.len() {
            continue;
        }
        if best.is_none_or(|(_, most, widest)| (alike, columns) > (most, widest)) {
            best = Some((delimiter, alike, columns));
        }
    }
    best.map_or_else(|| (absent(head), false), |(delimiter, ..)| (delimiter, true))
}

/// A delimiter that the beginning does not have, for a table of one column.
fn absent(head: &[u8]) -> u8 {
    DELIMITERS.into_iter().find(|delimiter| !head.contains(delimiter)).unwrap_or(b'\x1f')
}

fn reader<R: Read>(from: R, delimiter: u8) -> Reader<R> {
    ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).buffer_capacity(CHUNK).from_reader(from)
}

/// A text with a line break behind it: what ends with the text and not with the line break is a record whose quotes were
/// never closed, which the parser does not tell.
struct Terminated<R> {
    text: R,
    /// Whether lines end with `\r\n`, by the first piece of the text; nothing before it is read.
    returns: Option<bool>,
    terminated: bool,
    /// Whether the end was met.
    ended: bool,
}

impl<R> Terminated<R> {
    const fn new(text: R) -> Self {
        Self { text, returns: None, terminated: false, ended: false }
    }
}

impl<R: Read> Read for Terminated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.terminated {
            self.ended = true;
            return Ok(0);
        }
        let read = self.text.read(buffer)?;
        if self.returns.is_none() {
            self.returns = Some(buffer[..read].windows(2).any(|pair| pair == b"\r\n"));
        }
        match buffer.first_mut() {
            Some(first) if read == 0 => {
                *first = b'\n';
                self.terminated = true;
                Ok(1)
            }
            _ => Ok(read),
        }
    }
}

/// The rows of a table, one at a time.
pub(crate) struct DelimitedRows<'a> {
    reader: Reader<Terminated<Source<'a>>>,
    start: Rc<Cell<Start>>,
    line_bytes: usize,
    record: ByteRecord,
    names: Vec<String>,
    pub(crate) notes: Vec<DatasetNote>,
    rows: u64,
}

impl<'a> DelimitedRows<'a> {
    pub(crate) fn open(source: Source<'a>, delimiter: u8, limits: &Limits) -> Result<Self, TableError> {
        let start = source.start();
        let mut rows = Self {
            reader: reader(Terminated::new(source), delimiter),
            start,
            line_bytes: limits.line_bytes,
            record: ByteRecord::new(),
            names: Vec::new(),
            notes: Vec::new(),
            rows: 0,
        };
        if !rows.read()? {
            return Err(TableError::Empty);
        }
        if rows.record.len() > limits.columns {
            return Err(TableError::TooManyColumns { columns: rows.record.len(), limit: limits.columns });
        }
        (rows.names, rows.notes) = names(&rows.record);
        Ok(rows)
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn value(&self, column: usize) -> &[u8] {
        &self.record[column]
    }

    pub(crate) fn advance(&mut self) -> Result<bool, TableError> {
        if !self.read()? {
            return Ok(false);
        }
        if self.record.len() != self.names.len() {
            return Err(TableError::RaggedRows {
                row: self.rows,
                line: self.start.get().line,
                found: self.record.len(),
                expected: self.names.len(),
            });
        }
        self.rows += 1;
        Ok(true)
    }

    fn read(&mut self) -> Result<bool, TableError> {
        let at = self.reader.position();
        // The parser ends a record at its `\r`, and counts the line at the `\n`.
        let uncounted = at.byte() > 0 && self.reader.get_ref().returns == Some(true);
        let start = Start { byte: at.byte(), line: at.line() + u64::from(uncounted) };
        self.start.set(start);
        let there = self.reader.read_byte_record(&mut self.record).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => TableError::from(error),
            other => TableError::Io(io::Error::other(format!("{other:?}"))),
        })?;
        if self.reader.position().byte() - start.byte > self.line_bytes as u64 {
            return Err(TableError::LineTooLong { line: start.line, limit: self.line_bytes });
        }
        if there && self.reader.get_ref().ended {
            return Err(TableError::UnclosedQuote { line: start.line });
        }
        Ok(there)
    }
}

/// Names that are all there, all different and none too long.
fn names(record: &ByteRecord) -> (Vec<String>, Vec<DatasetNote>) {
    let (mut unnamed, mut twice, mut long) = (Vec::new(), Vec::new(), Vec::new());
    let mut given: Vec<String> = Vec::with_capacity(record.len());
    for name in record {
        let name = String::from_utf8_lossy(name.trim_ascii());
        given.push(cut(&name).into_owned());
        if is_long(&name) {
            long.push(cut(&name).into_owned());
        }
    }
    let mut free = Names::beside(given.iter().map(String::as_str).collect());
    let mut names: Vec<String> = Vec::with_capacity(given.len());
    for (at, name) in given.iter().enumerate() {
        if name.is_empty() {
            names.push(free.made_up(&format!("column_{}", at + 1)));
            unnamed.push(names[at].clone());
        } else {
            names.push(free.own(name));
            if names[at] != *name {
                twice.push(names[at].clone());
            }
        }
    }
    let mut notes = Vec::from_iter(note_cut(&long));
    if !unnamed.is_empty() {
        notes.push(note("unnamed_columns", format!("Columns without a name are called {}.", some(&unnamed))));
    }
    if !twice.is_empty() {
        notes.push(note("duplicate_headers", format!("Names that came again were changed to {}.", some(&twice))));
    }
    if !given.is_empty() && given.iter().all(|name| value::is_plain_number(name.as_bytes())) {
        let message = "The first line has only numbers, yet it was taken for the names of the columns.".to_owned();
        notes.push(note("header_of_numbers", message));
    }
    (names, notes)
}

pub(crate) fn note(code: &str, message: String) -> DatasetNote {
    DatasetNote { code: code.to_owned(), message }
}

/// The first of some names.
pub(crate) fn some(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 10;
    let mut text =
        names.iter().take(SHOWN).map(|name| format!("\"{}\"", short(name.as_ref()))).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// A text that fits into a message.
pub(crate) fn short(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
