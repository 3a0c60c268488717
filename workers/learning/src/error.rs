//! Why an algorithm gave nothing.

/// Why an algorithm gave nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LearningError {
    /// It was told to stop.
    #[error("told to stop")]
    Cancelled,
    /// There are too few rows for what was asked.
    #[error("{rows} rows are too few: {what} needs at least {least}")]
    TooFewRows {
        /// Rows that there are.
        rows: usize,
        /// Rows that are needed.
        least: usize,
        /// What needs them.
        what: &'static str,
    },
    /// The perplexity is too high for so few rows.
    #[error("a perplexity of {perplexity} is too high for {rows} rows: it must be below {limit}")]
    PerplexityTooHigh {
        /// What was asked for.
        perplexity: f64,
        /// Rows that there are.
        rows: usize,
        /// A third of the rows less one.
        limit: f64,
    },
    /// There are fewer rows than clusters.
    #[error("{clusters} clusters cannot be made of {rows} rows")]
    TooManyClusters {
        /// What was asked for.
        clusters: usize,
        /// Rows that there are.
        rows: usize,
    },
    /// All rows are the same.
    #[error("all rows are the same: there is nothing to tell them apart")]
    NoVariance,
    /// There is no distance to take a radius from: each row that was looked at has so many equal rows.
    #[error("no radius: every row has {rows} equal rows, itself among them")]
    NoRadius {
        /// How many rows are equal to each, itself among them, at least.
        rows: usize,
    },
    /// A value is no number, is infinite, or so large that its square is.
    #[error("row {row}, column {column} is not a finite number below 1e150")]
    NotFinite {
        /// The row, from 0.
        row: usize,
        /// The column, from 0.
        column: usize,
    },
}
