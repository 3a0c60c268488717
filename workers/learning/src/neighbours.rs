//! The nearest rows of each row.

use rayon::prelude::*;

use fourmi_kinds::Metric;

use crate::{
    LearningError, Matrix, Watch,
    distance::{self, LANES, QUERIES, Tiles},
};

/// Blocks that are looked at between two questions whether to go on.
const BLOCKS: usize = 64;

/// The nearest rows of each row.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// How many each row has.
    pub k: usize,
    /// For each row its `k` neighbours, the nearest first, of equally near ones the lower row first. It is not its own.
    pub indices: Vec<u32>,
    /// How far they are, in the same order.
    pub distances: Vec<f64>,
}

impl Neighbours {
    /// The neighbours of a row, the nearest first.
    pub fn of(&self, row: usize) -> &[u32] {
        &self.indices[row * self.k..][..self.k]
    }

    /// How far the neighbours of a row are.
    pub fn distances_of(&self, row: usize) -> &[f64] {
        &self.distances[row * self.k..][..self.k]
    }
}

/// Bytes that [`nearest`] takes, with what it gives.
pub fn memory(rows: usize, columns: usize, k: usize) -> u64 {
    let found = rows * k * (size_of::<u32>() + size_of::<f64>());
    // Directions of the rows, for the cosine.
    let directions = rows * (columns + 1) * size_of::<f64>();
    Tiles::memory(rows, columns + 1) + (found + directions) as u64 + 1024 * 1024
}

/// The `k` nearest rows of each row, exactly: candidates are found in single precision with a margin for its errors, and
/// compared in double precision. If there are no `k` others, each has all others.
///
/// # Errors
/// [`LearningError::Cancelled`]
pub fn nearest(data: &Matrix, k: usize, metric: Metric, watch: Watch<'_>) -> Result<Neighbours, LearningError> {
    match metric {
        Metric::Euclidean => search(data, k, Measure::Squared, watch),
        Metric::Manhattan => search(data, k, Measure::Manhattan, watch),
        Metric::Cosine => {
            let mut found = search(&directions(data), k, Measure::Squared, watch)?;
            // Between unit vectors, the square is twice what the cosine lacks to 1.
            found.distances.iter_mut().for_each(|distance| *distance = *distance * *distance / 2.0);
            Ok(found)
        }
    }
}

/// Rows of length 1. A row of zeros has no direction: it gets one of its own, at a right angle to all others.
pub(crate) fn directions(data: &Matrix) -> Matrix {
    let mut units = Matrix::zeros(data.rows(), data.columns() + 1);
    for row in 0..data.rows() {
        let largest = data.row(row).iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let unit = units.row_mut(row);
        if largest == 0.0 {
            unit[data.columns()] = 1.0;
        } else {
            // The largest first, since squares of small values vanish and those of large ones overflow.
            unit.iter_mut().zip(data.row(row)).for_each(|(unit, value)| *unit = value / largest);
            let length = unit.iter().map(|value| value * value).sum::<f64>().sqrt();
            unit.iter_mut().for_each(|value| *value /= length);
        }
    }
    units
}

#[derive(Clone, Copy)]
enum Measure {
    Squared,
    Manhattan,
}

impl Measure {
    fn sweep(self, tiles: &Tiles, queries: &[usize], blocks: std::ops::Range<usize>, out: &mut [f32]) {
        match self {
            Self::Squared => tiles.squared(queries, blocks, out),
            Self::Manhattan => tiles.manhattan(queries, blocks, out),
        }
    }

    /// What a row that may be as near as this has at most in single precision.
    fn limit(self, tiles: &Tiles, distance: f64) -> f32 {
        match self {
            Self::Squared => tiles.squared_bounds(distance.sqrt()).1,
            Self::Manhattan => tiles.manhattan_bounds(distance).1,
        }
    }

    /// What rows are ordered by.
    fn exact(self, a: &[f64], b: &[f64]) -> f64 {
        match self {
            Self::Squared => distance::squared(a, b),
            Self::Manhattan => distance::manhattan(a, b),
        }
    }

    fn distance(self, exact: f64) -> f64 {
        match self {
            Self::Squared => exact.sqrt(),
            Self::Manhattan => exact,
        }
    }
}

fn search(data: &Matrix, k: usize, measure: Measure, watch: Watch<'_>) -> Result<Neighbours, LearningError> {
    let rows = data.rows();
    let k = k.min(rows.saturating_sub(1));
    let mut found = Neighbours { k, indices: vec![0; rows * k], distances: vec![0.0; rows * k] };
    if k == 0 {
        return Ok(found);
    }
    let tiles = Tiles::of(data);
    let done = std::sync::atomic::AtomicUsize::new(0);
    let parts = found.indices.par_chunks_mut(k * QUERIES).zip(found.distances.par_chunks_mut(k * QUERIES));
    parts.enumerate().try_for_each_init(
        || vec![0.0; QUERIES * BLOCKS * LANES],
        |buffer, (part, (indices, distances))| {
            let queries: Vec<_> = (part * QUERIES..rows.min((part + 1) * QUERIES)).collect();
            let mut candidates: Vec<_> = queries.iter().map(|query| Candidates::of(*query, k)).collect();
            for start in (0..tiles.blocks()).step_by(BLOCKS) {
                watch.check()?;
                let blocks = start..tiles.blocks().min(start + BLOCKS);
                let width = blocks.len() * LANES;
                let buffer = &mut buffer[..queries.len() * width];
                measure.sweep(&tiles, &queries, blocks, buffer);
                for (candidates, near) in candidates.iter_mut().zip(buffer.chunks_exact(width)) {
                    candidates.add(
                        start * LANES,
                        near,
                        |query, row| measure.exact(data.row(query), data.row(row)),
                        |kth| measure.limit(&tiles, kth),
                    );
                }
            }
            let places = indices.chunks_exact_mut(k).zip(distances.chunks_exact_mut(k));
            for (mut candidates, (indices, distances)) in candidates.into_iter().zip(places) {
                candidates.shrink(|query, row| measure.exact(data.row(query), data.row(row)));
                for (at, (exact, row)) in candidates.found.iter().enumerate() {
                    (indices[at], distances[at]) = (*row, measure.distance(*exact));
                }
            }
            let done = done.fetch_add(queries.len(), std::sync::atomic::Ordering::Relaxed);
            watch.step(done + queries.len(), rows)
        },
    )?;
    Ok(found)
}

/// Rows that may be among the nearest of one.
struct Candidates {
    query: usize,
    k: usize,
    /// The exact distances, once they are known, and the rows.
    found: Vec<(f64, u32)>,
    /// How many of the first are exact.
    exact: usize,
    limit: f32,
}

impl Candidates {
    fn of(query: usize, k: usize) -> Self {
        Self { query, k, found: Vec::with_capacity(2 * k + LANES), exact: 0, limit: f32::INFINITY }
    }

    fn add(&mut self, first: usize, near: &[f32], exact: impl Fn(usize, usize) -> f64, limit: impl Fn(f64) -> f32) {
        for (block, near) in near.as_chunks::<LANES>().0.iter().enumerate() {
            // Most blocks have none, which is seen at once for all of their rows.
            if !near.iter().fold(false, |any, near| any | (*near <= self.limit)) {
                continue;
            }
            for (lane, near) in near.iter().enumerate() {
                let row = first + block * LANES + lane;
                // Past the last row they are infinite.
                if *near <= self.limit && near.is_finite() && row != self.query {
                    self.found.push((0.0, row as u32));
                    if self.found.len() >= 2 * self.k + LANES {
                        self.shrink(&exact);
                        let kth = self.found[self.k - 1].0;
                        // Of equal rows the lower come first, and what follows is higher: nothing takes their places.
                        self.limit = if kth == 0.0 { -1.0 } else { limit(kth) };
                    }
                }
            }
        }
    }

    /// Keeps the `k` nearest, in order.
    fn shrink(&mut self, exact: impl Fn(usize, usize) -> f64) {
        for (distance, row) in &mut self.found[self.exact..] {
            *distance = exact(self.query, *row as usize);
        }
        self.found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        self.found.truncate(self.k);
        self.exact = self.found.len();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rand::RngExt;

    use super::*;
    use crate::stream;

    /// Small whole numbers, so that there are ties and equal rows.
    fn coarse(rows: usize, columns: usize, levels: i32) -> Matrix {
        let mut chance = stream(3, 1);
        let values = (0..rows * columns).map(|_| f64::from(chance.random_range(-levels..=levels)));
        Matrix::new(columns, values.collect()).unwrap()
    }

    fn plain(data: &Matrix, k: usize, measure: impl Fn(&[f64], &[f64]) -> f64) -> Vec<u32> {
        let rows = data.rows() as u32;
        let of = |row: u32| {
            let mut others: Vec<_> = (0..rows).filter(|other| *other != row).collect();
            let far = |other: &u32| measure(data.row(row as usize), data.row(*other as usize));
            others.sort_by(|a, b| far(a).total_cmp(&far(b)));
            others.truncate(k);
            others
        };
        (0..rows).flat_map(of).collect()
    }

    fn in_threads<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
    }

    #[test]
    fn they_are_those_of_a_plain_search() {
        // In the last two each row has hundreds of twins.
        for (rows, columns, levels, k) in
            [(5, 1, 2, 3), (100, 3, 2, 10), (300, 7, 1000, 15), (1500, 2, 3, 40), (1500, 1, 1, 40), (2000, 1, 2, 500)]
        {
            let data = coarse(rows, columns, levels);
            let found = nearest(&data, k, Metric::Euclidean, Watch::nobody()).unwrap();
            assert_eq!(found.indices, plain(&data, k, distance::squared));
            assert!(found.distances_of(1).is_sorted());
            let found = nearest(&data, k, Metric::Manhattan, Watch::nobody()).unwrap();
            assert_eq!(found.indices, plain(&data, k, distance::manhattan));
        }
    }

    #[test]
    fn cosine_knows_angles_only() {
        let data = Matrix::new(2, vec![1.0, 0.0, 5e120, 5e120, -1e-140, 0.0, 0.0, 0.0, 0.0, 3.0]).unwrap();
        let found = nearest(&data, 4, Metric::Cosine, Watch::nobody()).unwrap();
        assert_eq!(found.of(0), [1, 3, 4, 2]);
        let expected = [1.0 - 0.5_f64.sqrt(), 1.0, 1.0, 2.0];
        for (distance, expected) in found.distances_of(0).iter().zip(expected) {
            assert!((distance - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn few_rows_have_all_others() {
        for rows in 0..4 {
            let found = nearest(&Matrix::zeros(rows, 3), 9, Metric::Cosine, Watch::nobody()).unwrap();
            assert_eq!((found.k, found.indices.len()), (rows.saturating_sub(1), rows * rows.saturating_sub(1)));
        }
    }

    #[test]
    fn threads_change_nothing() {
        let data = coarse(700, 4, 4);
        let run = |threads| in_threads(threads, || nearest(&data, 12, Metric::Euclidean, Watch::nobody()));
        assert!(run(1) == run(2) && run(2) == run(3));
    }

    #[test]
    fn it_stops_when_told_to() {
        let data = coarse(3000, 4, 9);
        for after in [0, 1, 50, 1000] {
            let asked = AtomicUsize::new(0);
            let told = || asked.fetch_add(1, Ordering::Relaxed) >= after;
            let found = nearest(&data, 12, Metric::Euclidean, Watch::new(&told, &|_| {}));
            assert_eq!(found, Err(LearningError::Cancelled));
            assert!(asked.load(Ordering::Relaxed) <= after + 8);
        }
    }
}
