//! The bytes of a table as UTF-8, counted, bounded and interruptible.

use std::{
    cell::Cell,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    rc::Rc,
};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8};

use crate::{TableError, watch::Watch};

/// Bytes read at once.
pub(crate) const CHUNK: usize = 64 * 1024;

/// The record that is being read: where it starts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Start {
    /// In the bytes of the text.
    pub(crate) byte: u64,
    /// The line of the file, from 1.
    pub(crate) line: u64,
}

/// The text of a table, from behind its byte-order mark on.
pub(crate) struct Source<'a> {
    raw: Watched<'a>,
    decode: Option<Decode>,
    /// Set by who splits the text into records.
    start: Rc<Cell<Start>>,
    given: u64,
    line_bytes: usize,
}

impl<'a> Source<'a> {
    pub(crate) fn open(
        path: &Path,
        (encoding, mark): (&'static Encoding, u64),
        line_bytes: usize,
        watch: &'a Watch<'a>,
    ) -> Result<Self, TableError> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(mark))?;
        let decode = (encoding != UTF_8).then(|| Decode {
            decoder: encoding.new_decoder_without_bom_handling(),
            raw: vec![0; CHUNK],
            filled: 0,
            taken: 0,
            ended: false,
            finished: false,
        });
        let start = Rc::new(Cell::new(Start { byte: 0, line: 1 }));
        Ok(Self { raw: Watched { file, watch }, decode, start, given: 0, line_bytes })
    }

    /// Where the current record starts is to be told here; from there on, only so many bytes are given.
    pub(crate) fn start(&self) -> Rc<Cell<Start>> {
        self.start.clone()
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = self.start.get();
        // What is in the buffers of who reads may belong to the record before.
        if self.given.saturating_sub(start.byte) > (self.line_bytes + 2 * CHUNK) as u64 {
            return Err(io::Error::other(TableError::LineTooLong { line: start.line, limit: self.line_bytes }));
        }
        let given = match &mut self.decode {
            None => self.raw.read(buffer)?,
            Some(decode) => decode.read(&mut self.raw, buffer)?,
        };
        self.given += given as u64;
        Ok(given)
    }
}

/// A file; before each read it is asked whether to go on.
struct Watched<'a> {
    file: File,
    watch: &'a Watch<'a>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(CHUNK);
        let read = self.file.read(&mut buffer[..most])?;
        self.watch.read(read).map_err(io::Error::other)?;
        Ok(read)
    }
}

/// To UTF-8.
struct Decode {
    decoder: Decoder,
    raw: Vec<u8>,
    filled: usize,
    taken: usize,
    /// There are no more bytes.
    ended: bool,
    /// The decoder has been told, and has given all.
    finished: bool,
}

impl Decode {
    fn read(&mut self, from: &mut impl Read, to: &mut [u8]) -> io::Result<usize> {
        // With less room than a character needs the decoder would stand still; `csv` and `BufReader` have kilobytes.
        if to.len() < 8 {
            return Err(io::Error::other("a buffer of fewer than eight bytes"));
        }
        while !self.finished {
            if self.taken == self.filled && !self.ended {
                self.filled = from.read(&mut self.raw)?;
                self.taken = 0;
                self.ended = self.filled == 0;
            }
            let (result, read, written, _) =
                self.decoder.decode_to_utf8(&self.raw[self.taken..self.filled], to, self.ended);
            self.taken += read;
            self.finished = self.ended && result == CoderResult::InputEmpty;
            if written > 0 {
                return Ok(written);
            }
        }
        Ok(0)
    }
}
