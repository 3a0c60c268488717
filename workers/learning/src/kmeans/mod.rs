//! Clusters around means.

mod start;
mod tiles;

use std::{
    borrow::Cow,
    sync::atomic::{AtomicUsize, Ordering},
};

use fourmi_kinds::KMeansOptions;
use pulp::Arch;
use rand::RngExt;
use rayon::prelude::*;

use self::{
    start::State,
    tiles::{LANES, ROWS, Tiles, least},
};
use crate::{
    LearningError, Matrix, Stream, Watch,
    metrics::{safe_scale, squared_distance},
    parts::by_parts,
    stream,
};

/// Rows that one task looks at.
const PART: usize = 2_048;

/// Rows between two questions whether to go on.
const BATCH: usize = 64;

/// Up to so many rows, starts are made in parallel rather than the parts of each.
const FEW_ROWS: usize = 16_384;

/// Clusters around means.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeans {
    /// The cluster of each row; clusters are numbered by their first rows.
    pub labels: Vec<i32>,
    /// The mean of each cluster (clusters x columns). There are fewer than asked for if there are fewer different rows.
    pub centroids: Matrix,
    /// The sum of the squared distances to the centres.
    pub inertia: f64,
    /// Steps of the start that ended best.
    pub iterations: usize,
}

/// Groups rows around so many means that the squared distances to them are small: Lloyd's algorithm (1982) from several
/// starts by greedy k-means++ (Arthur and Vassilvitskii 2007), each with a random stream of its own. Rows whose bounds say
/// that they stay are not looked at (Hamerly 2010, "Making k-means even faster"), which changes no result. As in
/// scikit-learn, a cluster that becomes empty takes the row farthest from its centre, and a start ends when no row changes
/// its cluster or when centres move less than the tolerance.
///
/// # Errors
/// [`LearningError::TooManyClusters`] if there are fewer rows, [`LearningError::TooFewRows`] for none of them, and
/// [`LearningError::Cancelled`].
pub fn fit(
    data: &Matrix,
    clusters: usize,
    options: &KMeansOptions,
    seed: u64,
    watch: Watch<'_>,
) -> Result<KMeans, LearningError> {
    if clusters == 0 || data.rows() == 0 {
        return Err(LearningError::TooFewRows { rows: data.rows(), least: 1, what: "K-Means" });
    }
    if clusters > data.rows() {
        return Err(LearningError::TooManyClusters { clusters, rows: data.rows() });
    }
    let scale = safe_scale(data);
    let data = if scale == 1.0 { Cow::Borrowed(data) } else { Cow::Owned(scaled(data, scale)) };
    let problem = Problem {
        data: &data,
        clusters,
        iterations: options.iterations.max(1) as usize,
        tolerance: options.tolerance * variance(&data, watch)?,
    };
    let best = problem.best_start(options.restarts.max(1) as usize, seed, watch.part(0.0, 0.98))?;
    problem.finish(best, scale, watch.part(0.98, 1.0))
}

/// An upper estimate of the bytes that [`fit`] takes beyond its input.
pub fn memory(rows: usize, columns: usize, clusters: usize, options: &KMeansOptions) -> u64 {
    let at_once = if rows <= FEW_ROWS { options.restarts as usize } else { 1 };
    // Labels and two bounds, rows that changed; centres, their sums and tiles; and the labels of the best start and the last.
    let start = rows * (4 + 8 + 8 + 8) + clusters * columns * 8 * 4;
    // Values are copied if their squares would be infinite.
    let scaled = rows * columns * 8;
    (at_once * start + scaled + rows * 8 + 2 * clusters * columns * 8 + (1 << 18)) as u64
}

fn scaled(data: &Matrix, scale: f64) -> Matrix {
    let mut scaled = data.clone();
    scaled.values_mut().iter_mut().for_each(|value| *value *= scale);
    scaled
}

/// The mean variance of the columns.
fn variance(data: &Matrix, watch: Watch<'_>) -> Result<f64, LearningError> {
    let columns = data.columns();
    let mut means = vec![0.0; columns];
    let sums = by_parts(data.rows(), PART, |from, to| {
        let mut sums = vec![0.0; columns];
        for row in from..to {
            check(row, watch)?;
            add(&mut sums, data.row(row), 1.0);
        }
        Ok(sums)
    })?;
    sums.iter().for_each(|sums| add(&mut means, sums, 1.0 / data.rows() as f64));
    let squares = by_parts(data.rows(), PART, |from, to| {
        let mut sum = 0.0;
        for row in from..to {
            check(row, watch)?;
            sum += squared_distance(data.row(row), &means);
        }
        Ok(sum)
    })?;
    Ok(squares.iter().sum::<f64>() / data.values().len() as f64)
}

/// Asks every few rows whether to go on.
fn check(row: usize, watch: Watch<'_>) -> Result<(), LearningError> {
    if row.is_multiple_of(BATCH) { watch.check() } else { Ok(()) }
}

fn add(to: &mut [f64], from: &[f64], times: f64) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from * times;
    }
}

/// What all starts have in common.
struct Problem<'a> {
    data: &'a Matrix,
    clusters: usize,
    iterations: usize,
    /// The sum of the squared moves of all centres with which a start ends.
    tolerance: f64,
}

/// How a start ended.
struct Ended {
    labels: Vec<u32>,
    centres: Matrix,
    inertia: f64,
    iterations: usize,
}

impl Problem<'_> {
    fn best_start(&self, starts: usize, seed: u64, watch: Watch<'_>) -> Result<Ended, LearningError> {
        let better = |best: Option<Ended>, next: Ended| match best {
            Some(best) if best.inertia <= next.inertia => Some(best),
            _ => Some(next),
        };
        let mut best = None;
        if self.data.rows() <= FEW_ROWS {
            let done = AtomicUsize::new(0);
            let ended: Vec<Ended> = (0..starts)
                .into_par_iter()
                .map(|start| {
                    let ended = self.start(stream(seed, start as u64), watch, &|_| Ok(()))?;
                    watch.step(done.fetch_add(1, Ordering::Relaxed) + 1, starts)?;
                    Ok(ended)
                })
                .collect::<Result<_, LearningError>>()?;
            best = ended.into_iter().fold(best, better);
        } else {
            for start in 0..starts {
                let of = starts * self.iterations;
                let step = |iteration| watch.step(start * self.iterations + iteration, of);
                best = better(best, self.start(stream(seed, start as u64), watch, &step)?);
            }
        }
        best.ok_or(LearningError::NoVariance)
    }

    /// Lloyd's algorithm from one start.
    fn start(
        &self,
        mut random: Stream,
        watch: Watch<'_>,
        step: &dyn Fn(usize) -> Result<(), LearningError>,
    ) -> Result<Ended, LearningError> {
        let mut state = State::new(self.data.rows(), self.plus_plus(&mut random, watch)?);
        let mut iterations = 0;
        loop {
            step(iterations)?;
            let changed = state.assign(self.data, watch)?;
            if iterations == self.iterations || changed.iter().all(Vec::is_empty) {
                break;
            }
            iterations += 1;
            let moved = state.update(self.data, &changed, watch)?;
            if moved <= self.tolerance {
                state.assign(self.data, watch)?;
                break;
            }
        }
        let inertia = state.inertia(self.data, watch)?;
        Ok(Ended { labels: state.labels, centres: state.centres, inertia, iterations })
    }

    /// Greedy k-means++: rows are drawn in proportion to their squared distances to the nearest centre; of several, the one
    /// is taken after which the sum of these is least.
    fn plus_plus(&self, random: &mut Stream, watch: Watch<'_>) -> Result<Matrix, LearningError> {
        let trials = 2 + (self.clusters as f64).ln() as usize;
        let mut chosen = vec![random.random_range(0..self.data.rows())];
        let mut nearest = vec![f64::INFINITY; self.data.rows()];
        loop {
            let sums = self.approach(&mut nearest, chosen[chosen.len() - 1], watch)?;
            let total: f64 = sums.iter().sum();
            if chosen.len() == self.clusters || total <= 0.0 {
                break;
            }
            let drawn: Vec<usize> =
                (0..trials).map(|_| pick(&nearest, &sums, random.random::<f64>() * total)).collect();
            let potentials = self.potentials(&nearest, &drawn, watch)?;
            let best = (0..trials).min_by(|a, b| potentials[*a].total_cmp(&potentials[*b])).unwrap_or(0);
            chosen.push(drawn[best]);
        }
        let values = chosen.iter().flat_map(|row| self.data.row(*row)).copied().collect();
        Matrix::new(self.data.columns(), values)
    }

    /// Brings the squared distances to the nearest centre up to date with a new one. Gives their sum for each part.
    fn approach(&self, nearest: &mut [f64], centre: usize, watch: Watch<'_>) -> Result<Vec<f64>, LearningError> {
        let tile = Tiles::of(self.data.columns(), &[self.data.row(centre)]);
        let parts = nearest.par_chunks_mut(PART).enumerate().map(|(part, nearest)| {
            Arch::new().dispatch(|| {
                let mut sum = 0.0;
                for (block, nearest) in nearest.chunks_mut(ROWS).enumerate() {
                    let from = part * PART + block * ROWS;
                    check(from, watch)?;
                    let distances = tile.one(&self.block(from));
                    for (nearest, distance) in nearest.iter_mut().zip(distances) {
                        *nearest = nearest.min(distance);
                        sum += *nearest;
                    }
                }
                Ok(sum)
            })
        });
        parts.collect()
    }

    /// The sum of the squared distances to the nearest centre, if a row became one: for each of some rows.
    fn potentials(&self, nearest: &[f64], rows: &[usize], watch: Watch<'_>) -> Result<Vec<f64>, LearningError> {
        let candidates: Vec<&[f64]> = rows.iter().map(|row| self.data.row(*row)).collect();
        let tiles = Tiles::of(self.data.columns(), &candidates);
        let parts = nearest.par_chunks(PART).enumerate().map(|(part, nearest)| {
            Arch::new().dispatch(|| {
                let mut sums = vec![[0.0; LANES]; tiles.count()];
                for (block, nearest) in nearest.chunks(ROWS).enumerate() {
                    let from = part * PART + block * ROWS;
                    check(from, watch)?;
                    let rows = self.block(from);
                    for (tile, sums) in sums.iter_mut().enumerate() {
                        let distances = tiles.distances(tile, &rows);
                        for (nearest, distances) in nearest.iter().zip(distances) {
                            for (sum, distance) in sums.iter_mut().zip(distances) {
                                *sum += least(distance, *nearest);
                            }
                        }
                    }
                }
                Ok(sums)
            })
        });
        let parts: Vec<Vec<[f64; LANES]>> = parts.collect::<Result<_, LearningError>>()?;
        Ok((0..rows.len()).map(|at| parts.iter().map(|sums| sums[at / LANES][at % LANES]).sum()).collect())
    }

    /// Some rows from one on; the last of all rows stands for those after it.
    #[inline(always)]
    fn block(&self, from: usize) -> [&[f64]; ROWS] {
        std::array::from_fn(|at| self.data.row((from + at).min(self.data.rows() - 1)))
    }

    /// Numbers clusters by their first rows, leaves out empty ones, and gives numbers their units.
    fn finish(&self, ended: Ended, scale: f64, watch: Watch<'_>) -> Result<KMeans, LearningError> {
        let mut numbers = vec![-1; ended.centres.rows()];
        let mut centroids = Vec::new();
        let mut labels = Vec::with_capacity(ended.labels.len());
        for (row, label) in ended.labels.iter().enumerate() {
            check(row, watch)?;
            let cluster = *label as usize;
            if numbers[cluster] < 0 {
                numbers[cluster] = (centroids.len() / self.data.columns()) as i32;
                centroids.extend(ended.centres.row(cluster).iter().map(|value| value / scale));
            }
            labels.push(numbers[cluster]);
        }
        let mut matrix = Matrix::zeros(centroids.len() / self.data.columns(), self.data.columns());
        matrix.values_mut().copy_from_slice(&centroids);
        let inertia = (ended.inertia / scale / scale).min(f64::MAX);
        Ok(KMeans { labels, centroids: matrix, inertia, iterations: ended.iterations })
    }
}

/// The row at which the running sum of weights passes a mark, found by the sums of the parts.
fn pick(weights: &[f64], sums: &[f64], mut mark: f64) -> usize {
    let mut last = 0;
    for (part, sum) in sums.iter().enumerate().filter(|(_, sum)| **sum > 0.0) {
        let from = part * PART;
        if mark < *sum {
            for (at, weight) in weights[from..].iter().take(PART).enumerate().filter(|(_, weight)| **weight > 0.0) {
                last = from + at;
                if mark < *weight {
                    break;
                }
                mark -= weight;
            }
            return last;
        }
        mark -= sum;
        last = from + weights[from..].iter().take(PART).rposition(|weight| *weight > 0.0).unwrap_or(0);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows around points of a grid, in turn.
    fn table(rows: usize, columns: usize, around: usize) -> Matrix {
        let mut random = stream(5, 0);
        let mut data = Matrix::zeros(rows, columns);
        for row in 0..rows {
            for (column, value) in data.row_mut(row).iter_mut().enumerate() {
                *value = (row % around * (column + 3) % around) as f64 * 10.0 + random.random::<f64>();
            }
        }
        data
    }

    fn fitted(data: &Matrix, clusters: usize) -> KMeans {
        fit(data, clusters, &KMeansOptions::default(), 42, Watch::nobody()).unwrap()
    }

    /// That each row is with the nearest centre, and that these are the means.
    fn assert_settled(data: &Matrix, found: &KMeans) {
        let mut inertia = 0.0;
        for (row, label) in found.labels.iter().enumerate() {
            let distance = |centre| squared_distance(data.row(row), found.centroids.row(centre));
            let nearest = (0..found.centroids.rows()).map(distance).fold(f64::INFINITY, f64::min);
            assert!(distance(*label as usize) <= nearest * (1.0 + 1e-9), "{row}");
            inertia += nearest;
        }
        assert!((inertia - found.inertia).abs() <= 1e-9 * inertia);
        let means = crate::metrics::Means::of(data, &found.labels, Watch::nobody()).unwrap();
        for (ours, mean) in found.centroids.values().iter().zip(means.centroids.values()) {
            assert!((ours - mean).abs() < 0.02, "{ours} {mean}");
        }
    }

    #[test]
    fn finds_what_is_there() {
        for (rows, columns, clusters) in [(70, 2, 7), (500, 13, 5), (20_000, 3, 3)] {
            let data = table(rows, columns, clusters);
            let found = fitted(&data, clusters);
            assert_settled(&data, &found);
            assert!(found.labels.iter().enumerate().all(|(row, label)| *label as usize == row % clusters));
        }
    }

    #[test]
    fn settles_where_nothing_is_there() {
        let data = table(3_000, 5, 1);
        for clusters in [1, 2, 9, 33] {
            let found = fitted(&data, clusters);
            assert_eq!(found.centroids.rows(), clusters);
            assert_settled(&data, &found);
        }
    }

    #[test]
    fn bounds_change_no_label() {
        let data = table(2_500, 4, 1);
        let problem = Problem { data: &data, clusters: 6, iterations: 12, tolerance: 0.0 };
        let mut state = State::new(2_500, problem.plus_plus(&mut stream(1, 1), Watch::nobody()).unwrap());
        for _ in 0..problem.iterations {
            let changed = state.assign(&data, Watch::nobody()).unwrap();
            for row in 0..data.rows() {
                let distance = |centre: usize| squared_distance(data.row(row), state.centres.row(centre));
                let nearest = (0..6).map(distance).fold(f64::INFINITY, f64::min);
                assert!(distance(state.labels[row] as usize) <= nearest * (1.0 + 1e-12));
            }
            state.update(&data, &changed, Watch::nobody()).unwrap();
        }
    }

    #[test]
    fn memory_has_room_for_a_copy() {
        let of = |columns| memory(50_000, columns, 10, &KMeansOptions::default());
        let of_columns = 90 * (50_000 * 8 + 10 * 8 * 6);
        assert_eq!(of(100) - of(10), of_columns);
    }

    #[test]
    fn empty_clusters_take_the_farthest_row() {
        let data = Matrix::new(1, vec![0.0, 1.0, 2.0, 50.0]).unwrap();
        let mut state = State::new(4, Matrix::new(1, vec![1.0, 1_000.0]).unwrap());
        let changed = state.assign(&data, Watch::nobody()).unwrap();
        assert_eq!(state.labels, [0; 4]);
        state.update(&data, &changed, Watch::nobody()).unwrap();
        assert_eq!(
            (state.labels.as_slice(), state.centres.values()),
            ([0, 0, 0, 1].as_slice(), [1.0, 50.0].as_slice())
        );
        assert!(state.assign(&data, Watch::nobody()).unwrap().iter().all(Vec::is_empty));
    }

    #[test]
    fn degenerate_tables_are_an_error_or_settle() {
        let options = KMeansOptions::default();
        let fitted = |data: &Matrix, clusters| fit(data, clusters, &options, 1, Watch::nobody());
        assert!(matches!(fitted(&Matrix::zeros(0, 2), 1), Err(LearningError::TooFewRows { .. })));
        assert!(matches!(fitted(&Matrix::zeros(2, 2), 0), Err(LearningError::TooFewRows { .. })));
        assert_eq!(fitted(&Matrix::zeros(2, 2), 3), Err(LearningError::TooManyClusters { clusters: 3, rows: 2 }));
        // As many clusters as there are different rows.
        let found = fitted(&Matrix::new(1, vec![1.0, 1.0, 5.0, 5.0, 5.0]).unwrap(), 4).unwrap();
        assert_eq!(
            (found.labels.as_slice(), found.centroids.values()),
            ([0, 0, 1, 1, 1].as_slice(), [1.0, 5.0].as_slice())
        );
        assert_eq!(fitted(&Matrix::zeros(9, 2), 3).unwrap().labels, [0; 9]);
        for rows in [1, 2] {
            assert_eq!(fitted(&table(rows, 2, 1), rows).unwrap().inertia, 0.0);
        }
        let mut huge = table(400, 3, 4);
        huge.values_mut().iter_mut().for_each(|value| *value *= 1e148);
        let found = fitted(&huge, 4).unwrap();
        assert!(found.inertia.is_finite() && found.centroids.values().iter().all(|value| value.is_finite()));
        assert_eq!(found.labels[..5], [0, 1, 2, 3, 0]);
    }

    #[test]
    fn is_the_same_on_any_number_of_threads() {
        for rows in [900, 17_000] {
            let data = table(rows, 4, 1);
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let options = KMeansOptions { restarts: 3, ..KMeansOptions::default() };
                pool.install(|| fit(&data, 6, &options, 42, Watch::nobody()).unwrap())
            };
            let one = on(1);
            assert!(one == on(2) && one == on(3));
        }
    }

    #[test]
    fn stops_wherever_it_is_told_to() {
        let options = KMeansOptions { restarts: 2, iterations: 9, ..KMeansOptions::default() };
        for rows in [900, 17_000] {
            let data = table(rows, 4, 1);
            let asked = AtomicUsize::new(0);
            let count = || {
                asked.fetch_add(1, Ordering::Relaxed);
                false
            };
            fit(&data, 6, &options, 1, Watch::new(&count, &|_| {})).unwrap();
            let all = asked.load(Ordering::Relaxed);
            for at in (0..all).step_by(all / 20) {
                let left = AtomicUsize::new(at);
                let stop =
                    || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err();
                let result = fit(&data, 6, &options, 1, Watch::new(&stop, &|_| {}));
                assert_eq!(result.err(), Some(LearningError::Cancelled), "{at} of {all}");
            }
        }
    }
}
