//! Files that hold something in each line.

use std::io::{self, BufRead, BufReader};

use crate::exit::Stop;

/// The lines of a file, or of standard input (`-`), that are not empty, with their numbers.
pub(crate) struct Lines {
    reader: Box<dyn BufRead>,
    /// What the lines hold, for a person.
    what: &'static str,
    place: String,
    number: u64,
}

impl Lines {
    pub(crate) fn open(what: &'static str, from: &str) -> anyhow::Result<Self> {
        if from == "-" {
            let place = "standard input".to_owned();
            return Ok(Self { reader: Box::new(io::stdin().lock()), what, place, number: 0 });
        }
        let file = std::fs::File::open(from).map_err(|error| cannot_be_read(what, from, &error))?;
        Ok(Self { reader: Box::new(BufReader::new(file)), what, place: from.to_owned(), number: 0 })
    }

    /// The next line; none at the end.
    pub(crate) fn read(&mut self) -> anyhow::Result<Option<(u64, String)>> {
        loop {
            let mut line = Vec::new();
            let read = self.reader.read_until(b'\n', &mut line);
            if read.map_err(|error| cannot_be_read(self.what, &self.place, &error))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            // What is no text is no JSON either: whoever reads the line says so.
            let line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
            if !line.is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
    }
}

fn cannot_be_read(what: &str, place: &str, error: &io::Error) -> anyhow::Error {
    Stop::usage(format!("the {what} cannot be read from {place}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_are_counted_and_left_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a\n\n  \r\n b \n\u{e9}").unwrap();
        let mut lines = Lines::open("jobs", file.path().to_str().unwrap()).unwrap();
        let read: Vec<_> = std::iter::from_fn(|| lines.read().unwrap()).collect();
        assert_eq!(read, [(1, "a".to_owned()), (4, "b".to_owned()), (5, "\u{e9}".to_owned())]);
        let missing = Lines::open("people", "/nowhere/people.ndjson").err().unwrap().to_string();
        assert!(missing.contains("the people") && missing.contains("/nowhere/people.ndjson"), "{missing}");
    }
}
