//! t-SNE: rows that are near each other stay near each other in two or three dimensions.
//!
//! The method of van der Maaten and Hinton (2008), with the neighbours of van der Maaten (2014) instead of all pairs. What rows
//! push each other away with is summed up pair by pair (`exact`), over a tree (`barnes_hut`) or over a grid
//! (`interpolation`), whichever takes the least time; how it goes from there to the map, is in `descent`.

mod affinities;
mod barnes_hut;
mod descent;
mod exact;
mod interpolation;
mod kernel;
mod start;

use fourmi_kinds::{Metric, TsneOptions};

use crate::{LearningError, Matrix, Watch, neighbours};
use affinities::Affinities;
use barnes_hut::BarnesHut;
use descent::{Descent, Schedule};
use exact::Exact;
use interpolation::Interpolation;

/// Below this, there are no three neighbours.
const FEWEST_ROWS: usize = 4;

/// Up to so many rows, all pairs take less time than a tree.
const FEW_ROWS: usize = 1_500;

/// From so many rows on, a grid takes less time than a tree in two dimensions.
const MANY_ROWS: usize = 40_000;

/// Up to so many rows, the divergence is taken from all pairs.
const EXACT_DIVERGENCE: usize = 20_000;

/// Neighbours for each unit of perplexity: a Gaussian has next to no weight beyond three standard deviations.
const NEIGHBOURS: f64 = 3.0;

/// Where the rows are, and how well that shows what is near what.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// A place for each row, in so many dimensions; their mean is 0.
    pub embedding: Matrix,
    /// The Kullback-Leibler divergence, in nats, of the neighbourhoods in this embedding from those in the data.
    pub kl_divergence: f64,
}

/// How the forces by which all rows push each other away are summed up.
trait Repulsion<const D: usize>: Send {
    /// For each row the sum of `q² (y - y')` over all others, where `q = 1 / (1 + |y - y'|²)`. Gives the sum of `q` over all
    /// pairs, each in both directions.
    fn repel(&mut self, rows: &[[f32; D]], forces: &mut [[f32; D]], watch: Watch<'_>) -> Result<f64, LearningError>;
}

/// A place for each row.
///
/// Starts from the principal components, scaled to a standard deviation of 10⁻⁴ (Kobak and Berens 2019). By default steps
/// are as long as there are rows for each unit of the exaggeration (Belkina et al. 2019), in both phases, and at least 200:
/// in the convention of openTSNE, of which scikit-learn's is a quarter.
///
/// # Errors
/// - [`LearningError::TooFewRows`] below four rows.
/// - [`LearningError::PerplexityTooHigh`] if it is not below a third of the other rows.
/// - [`LearningError::NoVariance`] if all rows are the same.
/// - [`LearningError::Cancelled`]
pub fn embed(data: &Matrix, options: &TsneOptions, seed: u64, watch: Watch<'_>) -> Result<Embedded, LearningError> {
    let rows = data.rows();
    if rows < FEWEST_ROWS {
        return Err(LearningError::TooFewRows { rows, least: FEWEST_ROWS, what: "t-SNE" });
    }
    let limit = (rows - 1) as f64 / 3.0;
    if options.perplexity.is_nan() || options.perplexity >= limit {
        return Err(LearningError::PerplexityTooHigh { perplexity: options.perplexity, rows, limit });
    }
    match options.dimensions {
        2 => place::<2>(data, options, seed, watch, flat(rows, options.theta)),
        _ => place::<3>(data, options, seed, watch, any(rows, options.theta)),
    }
}

/// Bytes that [`embed`] takes beside the data: an upper estimate.
pub fn memory(rows: usize, columns: usize, options: &TsneOptions) -> u64 {
    let (dimensions, k) = (usize::from(options.dimensions), neighbours_of(rows, options.perplexity));
    let search = neighbours::memory(rows, columns, k);
    let descent = match dimensions {
        2 => Descent::<2>::memory(rows) + BarnesHut::<2>::memory(rows),
        _ => Descent::<3>::memory(rows) + BarnesHut::<3>::memory(rows),
    };
    let grid = if dimensions == 2 && rows >= MANY_ROWS { Interpolation::memory(rows) } else { 0 };
    let start = start::memory(rows, columns, dimensions);
    let affinities = Affinities::memory(rows, k);
    start + search.max(Affinities::memory_to_make(rows, k)).max(affinities + descent + grid)
}

/// How many neighbours each row attracts.
fn neighbours_of(rows: usize, perplexity: f64) -> usize {
    ((NEIGHBOURS * perplexity) as usize).clamp(1, rows.saturating_sub(1).max(1))
}

/// The quickest way to sum up forces in two dimensions.
fn flat(rows: usize, theta: f64) -> Box<dyn Repulsion<2>> {
    if theta > 0.0 && rows >= MANY_ROWS { Box::new(Interpolation::new(theta)) } else { any(rows, theta) }
}

/// The quickest way to sum up forces in any number of dimensions.
fn any<const D: usize>(rows: usize, theta: f64) -> Box<dyn Repulsion<D>> {
    if theta <= 0.0 || rows <= FEW_ROWS { Box::new(Exact::default()) } else { Box::new(BarnesHut::new(theta)) }
}

fn place<const D: usize>(
    data: &Matrix,
    options: &TsneOptions,
    seed: u64,
    watch: Watch<'_>,
    mut repulsion: Box<dyn Repulsion<D>>,
) -> Result<Embedded, LearningError> {
    let k = neighbours_of(data.rows(), options.perplexity);
    let start = start::principal(data, seed, watch.part(0.0, 0.01))?;
    let near = neighbours::nearest(data, k, Metric::Euclidean, watch.part(0.01, 0.10))?;
    let affinities = Affinities::of(near, options.perplexity, watch.part(0.10, 0.12))?;
    let mut descent = Descent::new(&affinities, start);
    descent.run(&Schedule::of(data.rows(), options), repulsion.as_mut(), watch.part(0.12, 0.99))?;
    if data.rows() <= EXACT_DIVERGENCE {
        repulsion = Box::new(Exact::default());
    }
    let kl_divergence = descent.divergence(repulsion.as_mut(), watch)?;
    watch.step(1, 1)?;
    Ok(Embedded { embedding: descent.embedding(), kl_divergence })
}

#[cfg(test)]
mod tests;
