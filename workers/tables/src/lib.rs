#![doc = include_str!("../README.md")]

mod column;
mod delimited;
mod encode;
mod error;
mod fill;
mod inspect;
mod json;
mod names;
mod number;
mod order;
mod points;
mod prepare;
mod probe;
mod profile;
mod random;
mod rows;
mod scale;
mod sketch;
mod source;
mod spread;
mod value;
mod watch;

pub use error::TableError;
pub use points::{Points, write_points};
pub use prepare::{Preparation, Prepared, prepare};
pub use probe::probe;
pub use watch::GoOn;

/// What may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory. A quarter of it bounds the statistics of columns, all of it what [`prepare`] makes.
    pub memory_bytes: u64,
    /// Columns of a table.
    pub columns: usize,
    /// Bytes of a line, or of a record with line breaks in quotes.
    pub line_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 1 << 30, columns: 2_000, line_bytes: 16 << 20 }
    }
}
