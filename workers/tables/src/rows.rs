//! The rows of a table, however it is written.

use std::path::Path;

use fourmi_kinds::{DatasetNote, TableFormat};

use crate::{
    Limits, TableError, delimited::DelimitedRows, inspect::Inspected, json::JsonRows, source::Source, watch::Watch,
};

/// The rows of a table, one at a time.
pub(crate) enum Rows<'a> {
    Delimited(DelimitedRows<'a>),
    Json(JsonRows<'a>),
}

impl<'a> Rows<'a> {
    pub(crate) fn open(
        path: &Path,
        inspected: &Inspected,
        limits: &Limits,
        watch: &'a Watch<'a>,
    ) -> Result<Self, TableError> {
        let source = Source::open(path, (inspected.encoding, inspected.mark), limits.line_bytes, watch)?;
        Ok(match inspected.format {
            TableFormat::JsonLines => Self::Json(JsonRows::open(source, limits)),
            TableFormat::Csv | TableFormat::Tsv => {
                Self::Delimited(DelimitedRows::open(source, inspected.delimiter, limits)?)
            }
        })
    }

    /// Goes to the next row, if there is one.
    pub(crate) fn advance(&mut self) -> Result<bool, TableError> {
        match self {
            Self::Delimited(rows) => rows.advance(),
            Self::Json(rows) => rows.advance(),
        }
    }

    /// The columns that were seen so far.
    pub(crate) fn names(&self) -> &[String] {
        match self {
            Self::Delimited(rows) => rows.names(),
            Self::Json(rows) => rows.names(),
        }
    }

    /// A value of the row, without the spaces around it.
    pub(crate) fn value(&self, column: usize) -> &[u8] {
        match self {
            Self::Delimited(rows) => rows.value(column),
            Self::Json(rows) => rows.value(column),
        }
        .trim_ascii()
    }

    /// What was noticed about the names.
    pub(crate) fn notes(&self) -> Vec<DatasetNote> {
        match self {
            Self::Delimited(rows) => rows.notes.clone(),
            Self::Json(rows) => rows.notes(),
        }
    }
}
