//! Tables from end to end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod errors;
mod points;
mod prepare;
mod probe;
mod robustness;

use std::io::Write;

use fourmi_kinds::{ColumnInfo, DatasetInfo, DatasetNote, TableFormat};
use fourmi_tables::{Limits, TableError};
use tempfile::NamedTempFile;

/// A file with these bytes.
fn file(bytes: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes.as_ref()).unwrap();
    file
}

fn try_probe(bytes: impl AsRef<[u8]>) -> Result<DatasetInfo, TableError> {
    probe_as(bytes, None, &Limits::default())
}

fn probe_as(bytes: impl AsRef<[u8]>, format: Option<TableFormat>, limits: &Limits) -> Result<DatasetInfo, TableError> {
    fourmi_tables::probe(file(bytes).path(), format, limits, &|_, _| true)
}

fn probe(bytes: impl AsRef<[u8]>) -> DatasetInfo {
    try_probe(bytes).unwrap()
}

fn column<'a>(info: &'a DatasetInfo, name: &str) -> &'a ColumnInfo {
    info.columns.iter().find(|column| column.name == name).unwrap_or_else(|| panic!("no {name} in {:?}", info.columns))
}

fn codes(notes: &[DatasetNote]) -> Vec<&str> {
    notes.iter().map(|note| note.code.as_str()).collect()
}

fn assert_near(found: &[f64], expected: &[f64]) {
    let near =
        found.len() == expected.len() && found.iter().zip(expected).all(|(one, other)| (one - other).abs() < 1e-9);
    assert!(near, "{found:?} is not {expected:?}");
}
