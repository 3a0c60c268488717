//! A file, or parts of it, as the body of an answer: read piece by piece, so that no part is ever held whole.

use std::{collections::VecDeque, io, ops::Range};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt, SeekFrom},
};
use uuid::Uuid;

/// How much of a file is read at a time, in bytes.
const CHUNK_BYTES: u64 = 128 * 1024;

/// What is sent, in its order.
#[derive(Debug)]
pub(crate) struct Content {
    pieces: VecDeque<Piece>,
}

#[derive(Debug)]
enum Piece {
    Text(Bytes),
    Range(Range<u64>),
}

impl Piece {
    fn bytes(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Range(range) => range.end - range.start,
        }
    }
}

impl Content {
    /// These bytes of the file.
    pub(crate) fn part(range: Range<u64>) -> Self {
        Self { pieces: VecDeque::from([Piece::Range(range)]) }
    }

    /// Several parts of a file of `length` bytes (RFC 9110, 14.6), and the media type of all of them together.
    pub(crate) fn parts(parts: Vec<Range<u64>>, media_type: &str, length: u64) -> (Self, String) {
        // Random, so that no content can hold it but by chance.
        let boundary = Uuid::new_v4().simple();
        let mut pieces = VecDeque::with_capacity(parts.len() * 2 + 1);
        let mut line_feed = "";
        for range in parts {
            let place = of(&range, length);
            let head =
                format!("{line_feed}--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {place}\r\n\r\n");
            pieces.extend([Piece::Text(head.into()), Piece::Range(range)]);
            line_feed = "\r\n";
        }
        pieces.push_back(Piece::Text(format!("{line_feed}--{boundary}--\r\n").into()));
        (Self { pieces }, format!("multipart/byteranges; boundary={boundary}"))
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.pieces.iter().map(Piece::bytes).sum()
    }

    /// Reads it. A file that has become shorter ends it with an error, so that the caller learns of it.
    pub(crate) fn read(self, file: File) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::try_unfold(Reading { file, at: 0, pieces: self.pieces }, Reading::next)
    }
}

/// A range as `Content-Range` writes it.
pub(crate) fn of(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1))
}

struct Reading {
    file: File,
    at: u64,
    pieces: VecDeque<Piece>,
}

impl Reading {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            match self.pieces.pop_front() {
                None => return Ok(None),
                Some(Piece::Text(text)) => return Ok(Some((text, self))),
                Some(Piece::Range(range)) if range.is_empty() => {}
                Some(Piece::Range(range)) => {
                    let chunk = self.read(&range).await?;
                    self.pieces.push_front(Piece::Range(self.at..range.end));
                    return Ok(Some((chunk, self)));
                }
            }
        }
    }

    /// The beginning of a range that is not empty.
    async fn read(&mut self, range: &Range<u64>) -> io::Result<Bytes> {
        if self.at != range.start {
            self.file.seek(SeekFrom::Start(range.start)).await?;
        }
        let most = CHUNK_BYTES.min(range.end - range.start);
        let mut chunk = BytesMut::with_capacity(usize::try_from(most).unwrap_or(usize::MAX));
        if (&mut self.file).take(most).read_buf(&mut chunk).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at = range.start + chunk.len() as u64;
        Ok(chunk.freeze())
    }
}
