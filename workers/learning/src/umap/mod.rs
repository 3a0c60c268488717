//! UMAP: places in few dimensions for rows, such that neighbours stay neighbours. By McInnes, Healy and Melville (2018),
//! "UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction", arXiv:1802.03426, with the choices that
//! their umap-learn 0.5 makes.

mod curve;
mod graph;
mod layout;
mod spectral;

use fourmi_kinds::UmapOptions;

use crate::{LearningError, Matrix, Watch, neighbours};

/// The fewest rows that a map is made of.
const LEAST_ROWS: usize = 4;

/// Up to so many rows, there are more epochs.
const FEW_ROWS: usize = 10_000;

/// Bytes that [`embed`] takes, with the map.
pub fn memory(rows: usize, columns: usize, options: &UmapOptions) -> u64 {
    let k = (options.neighbours as usize).min(rows);
    let searched = neighbours::memory(rows, columns, k);
    let edges = rows * k;
    // Found neighbours, how strongly they belong, once more the other way round, and both joined.
    let graph = edges * (12 + 4 + 8 + 16) + rows * 3 * size_of::<usize>();
    // Four blocks of vectors for the places at the start; then two places of a row, and the map.
    let places = rows * (4 * spectral::WIDTH * size_of::<f32>() + 64);
    searched.max((graph + places) as u64) + 1024 * 1024
}

/// A map of the rows, of `options.dimensions` columns.
///
/// If there are fewer rows than neighbours are asked for, each has all others. The fuzzy graph, the start at the
/// eigenvectors of its Laplacian and the forces are those of umap-learn; but in each epoch all rows move at once, as their
/// neighbours were before, so that the map is the same on any number of threads.
///
/// # Errors
/// [`LearningError::TooFewRows`] below four, and [`LearningError::Cancelled`].
pub fn embed(data: &Matrix, options: &UmapOptions, seed: u64, watch: Watch<'_>) -> Result<Matrix, LearningError> {
    let rows = data.rows();
    if rows < LEAST_ROWS {
        return Err(LearningError::TooFewRows { rows, least: LEAST_ROWS, what: "UMAP" });
    }
    let epochs = options.epochs.unwrap_or(if rows <= FEW_ROWS { 500 } else { 200 });
    let others = (options.neighbours as usize).clamp(2, rows) - 1;
    let found = neighbours::nearest(data, others, options.metric, watch.part(0.0, 0.3))?;
    let graph = graph::Graph::of(found, epochs, watch.part(0.3, 0.35))?;
    match options.dimensions {
        0..=2 => place::<2>(data, &graph, options, epochs, seed, watch),
        _ => place::<3>(data, &graph, options, epochs, seed, watch),
    }
}

fn place<const D: usize>(
    data: &Matrix,
    graph: &graph::Graph,
    options: &UmapOptions,
    epochs: u32,
    seed: u64,
    watch: Watch<'_>,
) -> Result<Matrix, LearningError> {
    let start = spectral::start::<D>(data, graph, seed, watch.part(0.35, 0.45))?;
    let curve = curve::Curve::of(options.min_dist);
    let places = layout::optimise(graph, start, curve, epochs, seed, watch.part(0.45, 1.0))?;
    Matrix::new(D, places.into_iter().flatten().map(f64::from).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use fourmi_kinds::Metric;
    use rand::RngExt;

    use super::*;
    use crate::{metrics::trustworthiness, stream};

    /// Rows on a bent sheet in six dimensions, in some heaps.
    fn sheets(rows: usize, heaps: usize) -> Matrix {
        let mut chance = stream(5, 5);
        let row = |row: usize| {
            let (a, b, heap) = (chance.random::<f64>(), chance.random::<f64>(), (row % heaps) as f64);
            [a, b, (3.0 * a).sin(), a * b, 50.0 * heap, 50.0 * (heap * heap % 3.0)]
        };
        Matrix::new(6, (0..rows).flat_map(row).collect()).unwrap()
    }

    fn options(dimensions: u8, epochs: u32) -> UmapOptions {
        UmapOptions { dimensions, epochs: Some(epochs), ..UmapOptions::default() }
    }

    #[test]
    fn neighbours_stay_neighbours() {
        for (heaps, dimensions) in [(1, 2), (1, 3), (3, 2), (9, 3)] {
            let data = sheets(600, heaps);
            let map = embed(&data, &options(dimensions, 200), 1, Watch::nobody()).unwrap();
            assert_eq!((map.rows(), map.columns()), (600, usize::from(dimensions)));
            let trust = trustworthiness(&data, &map, 5, None, Watch::nobody()).unwrap().unwrap();
            assert!(trust > 0.97, "{trust} with {heaps} heaps in {dimensions} dimensions");
        }
    }

    #[test]
    fn any_metric_gives_a_map() {
        let data = sheets(200, 2);
        for metric in [Metric::Cosine, Metric::Manhattan] {
            let options = UmapOptions { metric, ..options(2, 50) };
            let map = embed(&data, &options, 1, Watch::nobody()).unwrap();
            assert!(map.values().iter().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_map_on_any_number_of_threads() {
        let data = sheets(900, 2);
        let run = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| embed(&data, &options(3, 40), seed, Watch::nobody()).unwrap())
        };
        assert!(run(1, 1) == run(2, 1) && run(2, 1) == run(3, 1));
        assert!(run(2, 1) != run(2, 2));
    }

    #[test]
    fn odd_rows_give_a_map_or_an_error() {
        for rows in 0..4 {
            let found = embed(&Matrix::zeros(rows, 2), &options(2, 10), 1, Watch::nobody());
            assert_eq!(found, Err(LearningError::TooFewRows { rows, least: 4, what: "UMAP" }));
        }
        let pairs: Vec<_> = (0..40).map(|row| f64::from(row / 2)).collect();
        let far: Vec<_> = (0..60).map(|row| if row == 0 { 1e149 } else { f64::from(row) }).collect();
        let small = sheets(60, 2).values().iter().map(|value| value * 1e-140).collect();
        for (columns, values) in [(1, vec![3.0; 4]), (2, vec![0.0; 100]), (1, pairs), (1, far), (6, small)] {
            let data = Matrix::new(columns, values).unwrap();
            for (neighbours, dimensions) in [(2, 2), (15, 3), (200, 2)] {
                for metric in [Metric::Euclidean, Metric::Cosine] {
                    let options = UmapOptions { neighbours, metric, ..options(dimensions, 20) };
                    let map = embed(&data, &options, 1, Watch::nobody()).unwrap();
                    assert_eq!(map.rows(), data.rows());
                }
            }
        }
    }

    #[test]
    fn it_stops_when_told_to() {
        let data = sheets(1500, 2);
        let asked = AtomicUsize::new(0);
        let count = || {
            asked.fetch_add(1, Ordering::Relaxed);
            false
        };
        embed(&data, &options(2, 100), 1, Watch::new(&count, &|_| {})).unwrap();
        let all = asked.load(Ordering::Relaxed);
        for part in 0..20 {
            let asked = AtomicUsize::new(0);
            let told = || asked.fetch_add(1, Ordering::Relaxed) >= all * part / 20;
            let found = embed(&data, &options(2, 100), 1, Watch::new(&told, &|_| {}));
            assert_eq!(found, Err(LearningError::Cancelled));
        }
    }
}
