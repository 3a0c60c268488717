//! Where rows start from.

use rand::RngExt;

use crate::{LearningError, Matrix, Watch, stream};

/// The standard deviation of the first axis at the start (Kobak and Berens 2019).
const SPREAD: f64 = 1e-4;

/// How far rows are shaken, in units of that: so that rows in the same place can part.
const SHAKE: f64 = 0.01;

/// STAND-IN: power iteration.
pub(super) fn principal<const D: usize>(
    data: &Matrix,
    seed: u64,
    watch: Watch<'_>,
) -> Result<Vec<[f32; D]>, LearningError> {
    let (n, d) = (data.rows(), data.columns());
    let scale = data.values().iter().fold(0.0_f64, |a, b| a.max(b.abs())).max(f64::MIN_POSITIVE);
    let mut mean = vec![0.0; d];
    for r in 0..n {
        data.row(r).iter().enumerate().for_each(|(c, v)| mean[c] += v / scale / n as f64);
    }
    let mut cov = nalgebra::DMatrix::<f64>::zeros(d, d);
    for r in 0..n {
        let x = nalgebra::DVector::from_fn(d, |c, _| data.row(r)[c] / scale - mean[c]);
        cov.ger(1.0, &x, &x, 1.0);
    }
    watch.check()?;
    let eigen = nalgebra::SymmetricEigen::new(cov);
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let mut scores = vec![[0.0_f64; D]; n];
    for (r, s) in scores.iter_mut().enumerate() {
        for axis in 0..D.min(d) {
            let v = eigen.eigenvectors.column(order[axis]);
            s[axis] = (0..d).map(|c| (data.row(r)[c] / scale - mean[c]) * v[c]).sum();
        }
    }
    let sd = (scores.iter().map(|s| s[0] * s[0]).sum::<f64>() / n as f64).sqrt();
    if !(sd > 1e-14) {
        return Err(LearningError::NoVariance);
    }
    let mut chance = stream(seed, 0);
    Ok(scores
        .into_iter()
        .map(|s| std::array::from_fn(|axis| ((s[axis] / sd + SHAKE * (chance.random::<f64>() - 0.5)) * SPREAD) as f32))
        .collect())
}

pub(super) fn memory(rows: usize, columns: usize, dimensions: usize) -> u64 {
    (8 * (rows * dimensions + columns * columns * 2)) as u64
}
