//! JSON files of any length, written and read as long as it is to go on.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use fourmi_tables::TableError;
use serde::{Serialize, de::DeserializeOwned};

/// Bytes between two questions whether to go on.
const PIECE: usize = 64 * 1024;

/// Writes a file that only its owner may read.
///
/// # Errors
/// What the system says, or [`TableError::Cancelled`] in an I/O error.
pub(crate) fn write_json(path: &Path, value: &impl Serialize, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut file = BufWriter::with_capacity(PIECE, Watched { file, go_on });
    serde_json::to_writer(&mut file, value)?;
    file.flush()
}

/// What a file holds; nothing if there is none, or nothing that this build can read.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, go_on: &dyn Fn() -> bool) -> Option<T> {
    let file = Watched { file: File::open(path).ok()?, go_on };
    serde_json::from_reader(BufReader::with_capacity(PIECE, file)).ok()
}

struct Watched<'a> {
    file: File,
    go_on: &'a dyn Fn() -> bool,
}

impl Watched<'_> {
    fn check(&self) -> io::Result<()> {
        if (self.go_on)() { Ok(()) } else { Err(io::Error::other(TableError::Cancelled)) }
    }
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.file.read(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Goes on until it is asked for the last time.
    fn until(last: u32, asked: &Cell<u32>) -> impl Fn() -> bool {
        asked.set(0);
        move || {
            asked.set(asked.get() + 1);
            asked.get() < last
        }
    }

    #[test]
    fn a_file_comes_back_unless_it_is_told_to_stop() {
        let path = std::env::temp_dir().join(format!("fourmi-insight-{}.json", std::process::id()));
        let values: Vec<f64> = (0..100_000).map(|value| f64::from(value) / 3.0).collect();
        let asked = Cell::new(0);
        write_json(&path, &values, &until(u32::MAX, &asked)).unwrap();
        assert!(asked.get() > 10, "{}", asked.get());
        assert_eq!(read_json(&path, &|| true), Some(values.clone()));
        assert_eq!(read_json::<Vec<f64>>(&path, &until(5, &asked)), None);
        let stopped = write_json(&path, &values, &until(5, &asked)).unwrap_err();
        assert!(matches!(TableError::from(stopped), TableError::Cancelled));
        assert_eq!(read_json::<Vec<f64>>(&path, &|| true), None, "half of it is nothing");
        std::fs::remove_file(&path).unwrap();
    }
}
