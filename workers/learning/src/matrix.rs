//! Rows of numbers.

use crate::LearningError;

/// The largest magnitude whose square, summed over many columns, is finite.
const LARGEST: f64 = 1e150;

/// Rows of numbers, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    columns: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// Rows of so many columns each.
    ///
    /// # Errors
    /// [`LearningError::NotFinite`], so that no algorithm has to look again.
    ///
    /// # Panics
    /// If the values are no whole number of rows, or a row has no columns: a mistake of the programmer.
    pub fn new(columns: usize, values: Vec<f64>) -> Result<Self, LearningError> {
        assert!(columns > 0 && values.len().is_multiple_of(columns), "{} values in {columns} columns", values.len());
        match values.iter().position(|value| value.is_nan() || value.abs() > LARGEST) {
            Some(at) => Err(LearningError::NotFinite { row: at / columns, column: at % columns }),
            None => Ok(Self { columns, values }),
        }
    }

    /// Zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { columns, values: vec![0.0; rows * columns] }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// How many columns each row has; at least one.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..][..self.columns]
    }

    /// One row, to change it. Values must stay finite.
    pub fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.values[row * self.columns..][..self.columns]
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// All values, row by row, to change them. They must stay finite.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }
}
