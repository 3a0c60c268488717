//! Bodies that are lines.

use crate::body::MAX_BYTES;

/// A line of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// What it holds, without white space around it; never nothing.
    Whole(Vec<u8>),
    /// It is longer than a body in JSON may be.
    TooLong,
}

impl Line {
    /// A line that holds this.
    pub(crate) fn of(text: &[u8]) -> Self {
        if text.len() > MAX_BYTES { Self::TooLong } else { Self::Whole(text.to_vec()) }
    }
}

/// Makes lines of bytes, wherever these are cut. Empty ones are passed over.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
    is_too_long: bool,
}

impl Lines {
    /// Takes the next bytes and gives the lines that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            self.add(part);
            if parts.peek().is_some() {
                lines.extend(self.cut());
            }
        }
        lines
    }

    /// The line that no line feed ends.
    pub(crate) fn end(mut self) -> Option<Line> {
        self.cut()
    }

    fn add(&mut self, part: &[u8]) {
        if self.is_too_long || self.rest.len() + part.len() > MAX_BYTES {
            self.is_too_long = true;
            self.rest.clear();
        } else {
            self.rest.extend_from_slice(part);
        }
    }

    fn cut(&mut self) -> Option<Line> {
        let line = std::mem::take(&mut self.rest);
        if std::mem::take(&mut self.is_too_long) {
            return Some(Line::TooLong);
        }
        let text = line.trim_ascii();
        (!text.is_empty()).then(|| Line::of(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Line> {
        let mut lines = Lines::default();
        let mut found: Vec<_> = pieces.into_iter().flat_map(|piece| lines.push(piece.as_ref())).collect();
        found.extend(lines.end());
        found
    }

    #[test]
    fn it_does_not_matter_where_lines_are_cut() {
        let text = b"{\"a\":1}\r\n\n  \n{\"b\":\xff}\n[]";
        let expected = [b"{\"a\":1}".as_slice(), b"{\"b\":\xff}", b"[]"].map(Line::of);
        for size in 1..=text.len() {
            assert_eq!(all(text.chunks(size)), expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_not_held() {
        let piece = vec![b'x'; MAX_BYTES];
        let mut lines = Lines::default();
        for _ in 0..3 {
            assert_eq!(lines.push(&piece), []);
            assert!(lines.rest.len() <= MAX_BYTES);
        }
        assert_eq!(lines.push(b"\n{}\n"), [Line::TooLong, Line::of(b"{}")]);
        assert_eq!(all([piece]).len(), 1);
    }
}
