//! What went wrong, in the words of jobs.

use fourmi_learning::LearningError;
use fourmi_model::{ErrorClass, Failure};
use fourmi_tables::TableError;

/// A table that could not be read.
pub(crate) fn of_table(error: &TableError) -> Failure {
    match error {
        TableError::Cancelled => Failure::cancelled(),
        TableError::Io(_) => Failure::retry("storage_failed", "the table could not be read").because(error),
        TableError::NotATable { .. } => {
            Failure::permanent(error.code(), error.to_string()).class(ErrorClass::Unsupported)
        }
        _ => Failure::permanent(error.code(), error.to_string()),
    }
}

/// An algorithm that gave nothing.
pub(crate) fn of_algorithm(error: &LearningError) -> Failure {
    let (code, hint) = match error {
        LearningError::Cancelled => return Failure::cancelled(),
        LearningError::TooFewRows { .. } => ("too_few_rows", "take more rows, or another algorithm"),
        LearningError::PerplexityTooHigh { .. } => {
            ("perplexity_too_high", "lower `reduce.perplexity`, or take PCA or UMAP")
        }
        LearningError::TooManyClusters { .. } => ("k_exceeds_rows", "lower `cluster.clusters`"),
        LearningError::NoVariance => ("no_variance", "select columns whose values differ"),
        LearningError::NoRadius { .. } => ("no_radius", "set `cluster.eps`, or raise `cluster.min_samples`"),
        LearningError::NotFinite { .. } => ("nan_after_scaling", "scale by another method, or leave the column out"),
        _ => ("analysis_failed", "please report this"),
    };
    Failure::permanent(code, format!("{error}; {hint}"))
}

/// A step that would take more memory than it may.
pub(crate) fn too_large(step: &str, rows: usize, columns: usize, needed: u64, limit: u64, instead: &str) -> Failure {
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let message = format!(
        "{step} on {rows} rows of {columns} columns needs about {} MiB of memory, and this worker gives an analysis {} MiB \
         (FOURMI_INSIGHT_MEMORY): {instead}, or take a sample (`select.sample`)",
        mebibytes(needed),
        mebibytes(limit)
    );
    Failure::permanent("too_large_for_algorithm", message)
}
