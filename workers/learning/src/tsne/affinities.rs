//! How near rows are to each other, as probabilities.

use rayon::prelude::*;

use crate::{LearningError, Watch, neighbours::Neighbours};

/// Rows that are looked at by one thread at once.
const BLOCK: usize = 64;

/// How near the entropy must be to what is asked for, in nats.
const TOLERANCE: f64 = 1e-9;

/// Most guesses at the width of a Gaussian. Newton's method takes about six; only rows that have more twins than neighbours are
/// asked for, never get there.
const GUESSES: usize = 100;

/// The joint probabilities of rows and their neighbours, each pair in both directions; together they are 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Affinities {
    starts: Vec<usize>,
    columns: Vec<u32>,
    weights: Vec<f32>,
}

impl Affinities {
    /// From Gaussians around the rows, each so wide that its perplexity is the one given.
    pub(super) fn of(near: Neighbours, perplexity: f64, watch: Watch<'_>) -> Result<Self, LearningError> {
        let Neighbours { k, mut indices, distances } = near;
        let rows = indices.len() / k;
        let mut weights = conditional(&mut indices, &distances, k, perplexity, watch.part(0.0, 0.6))?;
        drop(distances);
        let one_way = Directed { k, indices: &indices, weights: &weights };
        let joint = one_way.joint(0.5 / rows as f32, watch.part(0.6, 0.9))?;
        weights.clear();
        weights.shrink_to_fit();
        Self::gather(k, &indices, &joint, watch.part(0.9, 1.0))
    }

    /// The neighbours of a row and how near they are.
    pub(super) fn of_row(&self, row: usize) -> impl Iterator<Item = (u32, f32)> {
        let range = self.starts[row]..self.starts[row + 1];
        self.columns[range.clone()].iter().copied().zip(self.weights[range].iter().copied())
    }

    /// Bytes that they take: at worst no two rows are each other's neighbours.
    pub(super) const fn memory(rows: usize, k: usize) -> u64 {
        (rows * (2 * k * (size_of::<u32>() + size_of::<f32>()) + size_of::<usize>())) as u64
    }

    /// Bytes that making them takes, with them and the neighbours.
    pub(super) fn memory_to_make(rows: usize, k: usize) -> u64 {
        let near = (rows * k * (size_of::<u32>() + size_of::<f64>() + size_of::<f32>())) as u64;
        let joint = (rows * (k * (size_of::<u32>() + size_of::<f32>()) + size_of::<usize>())) as u64;
        near.max(joint + Self::memory(rows, k))
    }

    /// Brings each weight to the row that has it and, if that row is not a neighbour the other way, to the other row too.
    fn gather(k: usize, indices: &[u32], joint: &[f32], watch: Watch<'_>) -> Result<Self, LearningError> {
        let rows = indices.len() / k;
        let mut starts = vec![k; rows + 1];
        starts[0] = 0;
        for (&other, _) in indices.iter().zip(joint).filter(|(_, joint)| joint.is_sign_negative()) {
            starts[other as usize + 1] += 1;
        }
        (0..rows).for_each(|row| starts[row + 1] += starts[row]);
        watch.check()?;
        let mut columns = vec![0; starts[rows]];
        let mut weights = vec![0.0; starts[rows]];
        let mut ends = starts[..rows].to_vec();
        for row in 0..rows {
            let own = ends[row]..ends[row] + k;
            (columns[own.clone()].copy_from_slice(&indices[row * k..][..k]), ends[row] += k);
            weights[own].iter_mut().zip(&joint[row * k..]).for_each(|(weight, joint)| *weight = joint.abs());
        }
        for row in 0..rows {
            if row % BLOCK == 0 {
                watch.step(row, rows)?;
            }
            for at in (row * k..(row + 1) * k).filter(|&at| joint[at].is_sign_negative()) {
                let end = &mut ends[indices[at] as usize];
                (columns[*end], weights[*end]) = (row as u32, -joint[at]);
                *end += 1;
            }
        }
        Ok(Self { starts, columns, weights })
    }
}

/// The probabilities of the neighbours of each row, and the neighbours sorted by number.
fn conditional(
    indices: &mut [u32],
    distances: &[f64],
    k: usize,
    perplexity: f64,
    watch: Watch<'_>,
) -> Result<Vec<f32>, LearningError> {
    let mut weights = vec![0.0_f32; indices.len()];
    let blocks = indices.par_chunks_mut(BLOCK * k).zip(distances.par_chunks(BLOCK * k));
    blocks.zip(weights.par_chunks_mut(BLOCK * k)).try_for_each(|((indices, distances), weights)| {
        watch.check()?;
        let rows = indices.chunks_exact_mut(k).zip(distances.chunks_exact(k)).zip(weights.chunks_exact_mut(k));
        for ((indices, distances), weights) in rows {
            let mut found: Vec<(u32, f64)> =
                indices.iter().copied().zip(gaussian(distances, perplexity.ln())).collect();
            found.sort_unstable_by_key(|&(other, _)| other);
            for (at, (other, weight)) in found.into_iter().enumerate() {
                (indices[at], weights[at]) = (other, weight as f32);
            }
        }
        Ok(())
    })?;
    watch.step(1, 1)?;
    Ok(weights)
}

/// The weights, together 1, of neighbours at these distances under a Gaussian whose entropy is as asked for: by Newton's method
/// on the logarithm of its precision, and by bisection where that leaves the bracket.
fn gaussian(distances: &[f64], entropy: f64) -> Vec<f64> {
    let squares = relative_squares(distances);
    let (mut low, mut high, mut precision) = (0.0, f64::INFINITY, 1.0);
    let mut weights = vec![1.0; squares.len()];
    for _ in 0..GUESSES {
        let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
        for (weight, square) in weights.iter_mut().zip(&squares) {
            *weight = (-precision * square).exp();
            sum += *weight;
            first += *weight * square;
            second += *weight * square * square;
        }
        let mean = first / sum;
        let excess = sum.ln() + precision * mean - entropy;
        if excess.abs() < TOLERANCE {
            break;
        }
        if excess > 0.0 {
            low = precision
        } else {
            high = precision
        }
        let slope = precision * precision * (second / sum - mean * mean);
        let newton = precision * (excess / slope).exp();
        precision = match (newton > low && newton < high, low > 0.0, high.is_finite()) {
            (true, _, _) => newton.clamp(precision / 8.0, precision * 8.0),
            (false, _, false) => precision * 8.0,
            (false, false, true) => precision / 8.0,
            (false, true, true) => (low * high).sqrt(),
        };
    }
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

/// By how much the squares of the distances are above the smallest, in units of their mean: what the weights depend on.
/// All zero if the distances are the same.
fn relative_squares(distances: &[f64]) -> Vec<f64> {
    let (low, high) = distances.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), &at| (low.min(at), high.max(at)));
    let scale = high.max(f64::MIN_POSITIVE);
    let mut squares: Vec<f64> =
        distances.iter().map(|distance| (distance - low) / scale * ((distance + low) / scale)).collect();
    let mean = squares.iter().sum::<f64>() / squares.len() as f64;
    if mean > 0.0 {
        squares.iter_mut().for_each(|square| *square /= mean);
    }
    squares
}

/// The neighbours of each row, sorted by number, and their weights as seen from it.
struct Directed<'a> {
    k: usize,
    indices: &'a [u32],
    weights: &'a [f32],
}

impl Directed<'_> {
    /// The weight of a row as seen from another, if it is a neighbour of it.
    fn back(&self, from: u32, to: u32) -> Option<f32> {
        let start = from as usize * self.k;
        let at = self.indices[start..start + self.k].binary_search(&to).ok()?;
        Some(self.weights[start + at])
    }

    /// The sums of both directions times a factor; negative, where there is no other direction.
    fn joint(&self, factor: f32, watch: Watch<'_>) -> Result<Vec<f32>, LearningError> {
        let mut joint = vec![0.0; self.weights.len()];
        let k = self.k;
        joint.par_chunks_mut(BLOCK * k).enumerate().try_for_each(|(block, joint)| {
            watch.check()?;
            for (offset, joint) in joint.iter_mut().enumerate() {
                let at = block * BLOCK * k + offset;
                let (row, weight) = ((at / k) as u32, self.weights[at]);
                *joint = match self.back(self.indices[at], row) {
                    Some(back) => (weight + back) * factor,
                    None => -(weight * factor),
                };
            }
            Ok(())
        })?;
        watch.step(1, 1)?;
        Ok(joint)
    }
}
