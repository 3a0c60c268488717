//! How far a table is read, and whether to go on.

use std::cell::Cell;

use crate::TableError;

/// Told the bytes that were read and of how many, over all passes; says whether to go on. Asked every few milliseconds,
/// also within a long line. The whole may grow once, when a table must be read again.
pub type GoOn<'a> = &'a dyn Fn(u64, u64) -> bool;

/// Values between two questions whether to go on: some tenths of a millisecond of work.
pub(crate) const PIECE: usize = 1 << 16;

/// How far all passes over a table are.
pub(crate) struct Watch<'a> {
    go_on: GoOn<'a>,
    done: Cell<u64>,
    of: Cell<u64>,
    counts: bool,
}

impl<'a> Watch<'a> {
    pub(crate) const fn new(go_on: GoOn<'a>) -> Self {
        Self { go_on, done: Cell::new(0), of: Cell::new(0), counts: true }
    }

    /// Nobody watches.
    #[cfg(test)]
    pub(crate) fn nobody() -> Watch<'static> {
        Watch::new(&|_, _| true)
    }

    /// For a look at the beginning, which is not counted but can be stopped as well.
    pub(crate) fn uncounted(&self) -> Self {
        Self { go_on: self.go_on, done: self.done.clone(), of: self.of.clone(), counts: false }
    }

    /// So many bytes more are to be read.
    pub(crate) fn expect(&self, bytes: u64) {
        self.of.set(self.of.get().saturating_add(bytes));
    }

    /// So many bytes were read.
    pub(crate) fn read(&self, bytes: usize) -> Result<(), TableError> {
        if self.counts {
            self.done.set(self.done.get().saturating_add(bytes as u64).min(self.of.get()));
        }
        self.check()
    }

    pub(crate) fn check(&self) -> Result<(), TableError> {
        if (self.go_on)(self.done.get(), self.of.get()) { Ok(()) } else { Err(TableError::Cancelled) }
    }
}
