//! Where rows start from.

use rand::RngExt;

use crate::{LearningError, Matrix, Watch, pca, stream};

/// The standard deviation along the first component (Kobak and Berens, "The art of using t-SNE for single-cell
/// transcriptomics", 2019).
const SPREAD: f64 = 1e-4;

/// How far rows are shaken at most, as a share of that, so that rows in the same place can part.
const SHAKEN: f64 = 0.01;

/// The principal components, made small.
pub(super) fn principal<const D: usize>(
    data: &Matrix,
    seed: u64,
    watch: Watch<'_>,
) -> Result<Vec<[f32; D]>, LearningError> {
    let found = pca::fit(data, D, watch)?;
    // The scores by which all is divided are so large themselves that their squares need not be finite.
    let largest = found.scores.values().iter().fold(0.0_f64, |largest, score| largest.max(score.abs()));
    let first = (0..data.rows()).map(|row| found.scores.row(row)[0] / largest);
    let spread = (first.map(|score| score * score).sum::<f64>() / data.rows() as f64).sqrt();
    if spread.is_nan() || spread <= 0.0 {
        return Err(LearningError::NoVariance);
    }
    let mut chance = stream(seed, 0);
    let mut place = |row: usize| {
        std::array::from_fn(|axis| {
            let score = found.scores.row(row)[axis] / largest / spread;
            (SPREAD * (score + SHAKEN * chance.random_range(-1.0..1.0))) as f32
        })
    };
    Ok((0..data.rows()).map(&mut place).collect())
}

/// Bytes that [`principal`] takes, with what it gives.
pub(super) fn memory(rows: usize, columns: usize, dimensions: usize) -> u64 {
    pca::memory(rows, columns, dimensions) + (rows * dimensions * size_of::<f32>()) as u64
}
