//! How far an algorithm is, and whether it is to go on.

use crate::LearningError;

/// How far an algorithm is, and whether it is to go on.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    is_cancelled: &'a (dyn Fn() -> bool + Sync),
    report: &'a (dyn Fn(f64) + Sync),
    from: f64,
    to: f64,
}

impl<'a> Watch<'a> {
    /// Asks whether it is to stop, and reports the share of the work that is done, from 0 to 1. Both are asked often, from
    /// several threads.
    pub fn new(is_cancelled: &'a (dyn Fn() -> bool + Sync), report: &'a (dyn Fn(f64) + Sync)) -> Self {
        Self { is_cancelled, report, from: 0.0, to: 1.0 }
    }

    /// Nobody watches.
    pub fn nobody() -> Watch<'static> {
        Watch::new(&|| false, &|_| {})
    }

    /// For a part of the work, from one share of it to another.
    #[must_use]
    pub fn part(&self, from: f64, to: f64) -> Self {
        let width = self.to - self.from;
        Self { from: self.from + from * width, to: self.from + to * width, ..*self }
    }

    /// Goes on, or not. To be asked every few milliseconds by each thread.
    ///
    /// # Errors
    /// [`LearningError::Cancelled`]
    pub fn check(&self) -> Result<(), LearningError> {
        if (self.is_cancelled)() { Err(LearningError::Cancelled) } else { Ok(()) }
    }

    /// So much of this part is done; goes on, or not.
    ///
    /// # Errors
    /// [`LearningError::Cancelled`]
    pub fn step(&self, done: usize, of: usize) -> Result<(), LearningError> {
        self.check()?;
        (self.report)(self.from + (self.to - self.from) * (done as f64 / of.max(1) as f64).min(1.0));
        Ok(())
    }
}
