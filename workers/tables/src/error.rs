//! Why a table could not be read.

use std::io;

/// Why a table could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// There is nothing in it, or nothing below the names.
    #[error("the table is empty: it needs a line with the names of the columns, and rows below it")]
    Empty,
    /// It is something else.
    #[error("this is not a table: {what}")]
    NotATable {
        /// What it seems to be, and what to do.
        what: &'static str,
    },
    /// Its bytes are no text.
    #[error("line {line} is not valid {encoding}: save the table as UTF-8")]
    BadEncoding {
        /// The line of the file, from 1.
        line: u64,
        /// What it seemed to be written in.
        encoding: &'static str,
    },
    /// A row has more or fewer values than there are columns.
    #[error(
        "line {line} has {found} values, but the first line names {expected} columns: put values that contain the \
         delimiter or a line break in double quotes, and write every value, also the empty ones"
    )]
    RaggedRows {
        /// The row, from 0.
        row: u64,
        /// The line of the file it starts in, from 1.
        line: u64,
        /// Values it has.
        found: usize,
        /// Columns there are.
        expected: usize,
    },
    /// A double quote is opened and never closed, so that what follows would be one value.
    #[error(
        "a double quote is opened in the record that begins in line {line} and never closed: close it, and write double \
         quotes within a quoted value twice"
    )]
    UnclosedQuote {
        /// The line of the file the record starts in, from 1.
        line: u64,
    },
    /// A line is no JSON object.
    #[error("line {line} is no JSON object ({reason}): write one object a line, without commas between them")]
    BadJson {
        /// The row, from 0.
        row: u64,
        /// The line of the file, from 1.
        line: u64,
        /// What was expected.
        reason: String,
    },
    /// A line is so long that it must be a mistake.
    #[error(
        "line {line} is longer than {limit} bytes: a double quote may be missing somewhere, or the lines end in a way \
         that is not known"
    )]
    LineTooLong {
        /// The line of the file it starts in, from 1.
        line: u64,
        /// Bytes a line may have.
        limit: usize,
    },
    /// It is wider than what can be worked with.
    #[error("the table has {columns} columns or more, but at most {limit} can be read: leave some out of the file")]
    TooManyColumns {
        /// Columns that were seen.
        columns: usize,
        /// Columns it may have.
        limit: usize,
    },
    /// Its numbers would not fit into memory.
    #[error(
        "{rows} rows of {features} columns need about {} MiB of memory, but {} MiB may be used: take a sample of \
         {fitting} rows, fewer columns, or an encoding that makes fewer columns",
        bytes.div_ceil(1 << 20), limit >> 20
    )]
    TooLarge {
        /// Rows to be used.
        rows: u64,
        /// Columns of numbers that would be made.
        features: u64,
        /// Bytes that would be taken.
        bytes: u64,
        /// Bytes that may be.
        limit: u64,
        /// About how many rows would fit.
        fitting: u64,
    },
    /// No column can be made numbers of.
    #[error("no column can be used: {why}")]
    NoNumericColumns {
        /// What became of the columns.
        why: String,
    },
    /// A column is asked for that is not there.
    #[error("there is no column \"{name}\": the table has {there}")]
    UnknownColumn {
        /// Its name.
        name: String,
        /// The first names that are there.
        there: String,
    },
    /// No row is left.
    #[error("{why}")]
    NoRows {
        /// What left none, and what to do.
        why: &'static str,
    },
    /// It was told to stop.
    #[error("told to stop")]
    Cancelled,
    /// The file could not be read.
    #[error("the file could not be read: {0}")]
    Io(io::Error),
}

impl TableError {
    /// A stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotATable { .. } => "not_a_table",
            Self::BadEncoding { .. } => "bad_encoding",
            Self::RaggedRows { .. } => "ragged_rows",
            Self::UnclosedQuote { .. } => "unclosed_quote",
            Self::BadJson { .. } => "bad_json",
            Self::LineTooLong { .. } => "line_too_long",
            Self::TooManyColumns { .. } => "too_many_columns",
            Self::TooLarge { .. } => "too_large",
            Self::NoNumericColumns { .. } => "no_numeric_columns",
            Self::UnknownColumn { .. } => "unknown_column",
            Self::NoRows { .. } => "no_rows",
            Self::Cancelled => "cancelled",
            Self::Io(_) => "io",
        }
    }
}

impl From<io::Error> for TableError {
    /// What was passed through a reader as an I/O error comes out as what it was.
    fn from(error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(Self::Io)
    }
}
