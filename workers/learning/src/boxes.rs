//! Rows sorted into boxes, so that most of the rows that are far from some others need not be looked at.

use std::sync::atomic::{AtomicUsize, Ordering};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::distance::{LANES, QUERIES, Tiles};
use crate::{LearningError, Matrix, Watch};

/// Blocks of tiles in each box.
const TILES: usize = 2;

/// Rows of each box but the last.
pub(crate) const BOX: usize = TILES * LANES;

/// Boxes whose distances from something are taken at once.
const GROUP: usize = 16;

/// Ranges of fewer rows are sorted by one thread.
const SORTED_ALONE: usize = 4_096;

/// Rows sorted as the leaves of a k-d tree (Bentley 1975): halved at the median of the widest column until no more than
/// [`BOX`] are left. A row is called by its place in that order; places `b * BOX..` lie in box `b`.
///
/// Distances are taken by [`Tiles`] in single precision, and again in double precision when that could matter.
pub(crate) struct Boxes {
    order: Vec<u32>,
    sorted: Matrix,
    tiles: Tiles,
    /// The lower and the upper ends in units of the tiles: for each [`GROUP`] of boxes, column by column.
    ends: Vec<[[f32; GROUP]; 2]>,
    centre: Vec<f64>,
}

impl Boxes {
    /// Sorts all rows of a matrix.
    ///
    /// # Errors
    /// [`LearningError::Cancelled`]
    pub(crate) fn of(data: &Matrix, watch: Watch<'_>) -> Result<Self, LearningError> {
        let mut order: Vec<u32> = (0..data.rows() as u32).collect();
        let sorted = AtomicUsize::new(0);
        sort(data, &mut order, &|rows| watch.step(sorted.fetch_add(rows, Ordering::Relaxed), data.rows()))?;
        let mut copy = Matrix::zeros(data.rows(), data.columns());
        for (place, &row) in order.iter().enumerate() {
            copy.row_mut(place).copy_from_slice(data.row(row as usize));
        }
        watch.check()?;
        let tiles = Tiles::of(&copy);
        let mut boxes = Self { order, sorted: copy, tiles, ends: Vec::new(), centre: vec![0.0; data.columns()] };
        boxes.enclose();
        Ok(boxes)
    }

    /// Bytes that they take.
    pub(crate) fn memory(rows: usize, columns: usize) -> u64 {
        let ends = rows.div_ceil(BOX * GROUP) * columns * size_of::<[[f32; GROUP]; 2]>();
        (rows * (size_of::<u32>() + columns * size_of::<f64>()) + ends) as u64 + Tiles::memory(rows, columns)
    }

    fn enclose(&mut self) {
        let (rows, columns) = (self.rows(), self.columns());
        for row in self.sorted.values().chunks_exact(columns) {
            self.centre.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        self.centre.iter_mut().for_each(|sum| *sum /= rows.max(1) as f64);
        // A box that is not there is infinitely far from all others.
        self.ends = vec![[[f32::INFINITY; GROUP]; 2]; self.len().div_ceil(GROUP) * columns];
        for at in 0..self.len() {
            for column in 0..columns {
                let values = self.places(at).map(|place| self.unit(place, column));
                let ends = values
                    .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
                let [low, high] = &mut self.ends[at / GROUP * columns + column];
                (low[at % GROUP], high[at % GROUP]) = ends;
            }
        }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.order.len()
    }

    fn columns(&self) -> usize {
        self.sorted.columns()
    }

    /// How many boxes there are.
    pub(crate) fn len(&self) -> usize {
        self.rows().div_ceil(BOX)
    }

    /// The places of a box.
    pub(crate) fn places(&self, at: usize) -> std::ops::Range<usize> {
        at * BOX..self.rows().min((at + 1) * BOX)
    }

    /// The row of the matrix at each place.
    pub(crate) fn order(&self) -> &[u32] {
        &self.order
    }

    /// The square of the distance of two places, summed from the first column to the last as scikit-learn does: where two
    /// distances are the same there, they are so here.
    pub(crate) fn squared(&self, a: usize, b: usize) -> f64 {
        squared(self.sorted.row(a), self.sorted.row(b))
    }

    /// The squares, in units of the tiles, below which two rows are nearer than this for sure, and above which they are
    /// farther, as are boxes.
    pub(crate) fn bounds(&self, distance: f64) -> (f32, f32) {
        self.tiles.squared_bounds(distance)
    }

    /// The squared distances from up to [`QUERIES`] places to all of some boxes that follow each other: of one query after the
    /// other, [`BOX`] for each box. Infinite where there is no row.
    pub(crate) fn distances(&self, queries: &[usize], boxes: std::ops::Range<usize>, out: &mut Vec<f32>) {
        let width = boxes.len() * BOX;
        out.clear();
        out.resize(width * queries.len(), f32::INFINITY);
        let end = self.tiles.blocks().min(boxes.end * TILES);
        let blocks = boxes.start * TILES..end;
        if blocks.len() * LANES == width || queries.len() == 1 {
            self.tiles.squared(queries, blocks.clone(), &mut out[..queries.len() * blocks.len() * LANES]);
        } else {
            // The last box lacks a block: the queries are not next to each other.
            for (query, out) in queries.iter().zip(out.chunks_exact_mut(width)) {
                self.tiles.squared(&[*query], blocks.clone(), &mut out[..blocks.len() * LANES]);
            }
        }
    }

    /// The squared distances from a box to every box, in units of the tiles: no two rows of them are nearer.
    pub(crate) fn gaps_of_box(&self, at: usize, gaps: &mut Vec<f32>) {
        let columns = self.columns();
        let group = &self.ends[at / GROUP * columns..][..columns];
        let from: Vec<_> = group.iter().map(|[low, high]| [low[at % GROUP], high[at % GROUP]]).collect();
        self.gaps(&from, gaps);
    }

    /// The squared distances from a place to every box, in units of the tiles: no row of it is nearer.
    pub(crate) fn gaps_of_place(&self, place: usize, gaps: &mut Vec<f32>) {
        let from: Vec<_> = (0..self.columns()).map(|column| [self.unit(place, column); 2]).collect();
        self.gaps(&from, gaps);
    }

    fn gaps(&self, from: &[[f32; 2]], gaps: &mut Vec<f32>) {
        gaps.clear();
        gaps.resize(self.ends.len() / self.columns() * GROUP, 0.0);
        Arch::new().dispatch(Gaps { from, ends: &self.ends, gaps });
        gaps.truncate(self.len());
    }

    fn unit(&self, place: usize, column: usize) -> f32 {
        ((self.sorted.row(place)[column] - self.centre[column]) / self.tiles.scale()) as f32
    }

    /// The distance of each of some places to its `nth` nearest, itself being the first; in the order of the places, which
    /// ascend.
    ///
    /// # Errors
    /// [`LearningError::Cancelled`]
    pub(crate) fn nth_distances(
        &self,
        places: &[u32],
        nth: usize,
        watch: Watch<'_>,
    ) -> Result<Vec<f64>, LearningError> {
        let nth = nth.clamp(1, self.rows().max(1));
        let parts: Vec<&[u32]> = places.chunk_by(|a, b| a / BOX as u32 == b / BOX as u32).collect();
        let done = AtomicUsize::new(0);
        let found: Vec<Vec<f64>> = parts
            .par_iter()
            .map(|part| {
                let found = self.nth_distances_of_box(part, nth, watch)?;
                watch.step(done.fetch_add(1, Ordering::Relaxed) + 1, parts.len())?;
                Ok(found)
            })
            .collect::<Result<_, LearningError>>()?;
        Ok(found.concat())
    }

    /// Of places of one box: its neighbours first, so that few rows of the others are near enough to count.
    fn nth_distances_of_box(&self, places: &[u32], nth: usize, watch: Watch<'_>) -> Result<Vec<f64>, LearningError> {
        let at = places[0] as usize / BOX;
        let (mut gaps, mut squares) = (Vec::new(), Vec::new());
        self.gaps_of_box(at, &mut gaps);
        let mut others: Vec<u32> = (0..self.len() as u32).collect();
        others.sort_unstable_by(|&a, &b| {
            let key = |at: u32| gaps[at as usize];
            key(a).total_cmp(&key(b)).then(a.abs_diff(at as u32).cmp(&b.abs_diff(at as u32))).then(a.cmp(&b))
        });
        let mut found = Vec::with_capacity(places.len());
        for queries in places.chunks(QUERIES) {
            let queries: Vec<usize> = queries.iter().map(|&place| place as usize).collect();
            let mut nearest = vec![Nearest::new(nth); queries.len()];
            let mut bounds = vec![f32::INFINITY; queries.len()];
            for (step, &other) in others.iter().enumerate() {
                if bounds.iter().all(|&bound| gaps[other as usize] > bound) {
                    break;
                }
                if step % 64 == 0 {
                    watch.check()?;
                }
                let other = other as usize;
                self.distances(&queries, other..other + 1, &mut squares);
                for ((query, squares), (nearest, bound)) in
                    queries.iter().zip(squares.chunks_exact(BOX)).zip(nearest.iter_mut().zip(&mut bounds))
                {
                    for (place, &square) in self.places(other).zip(squares) {
                        if square <= *bound && nearest.add(self.squared(*query, place)) {
                            *bound = self.bounds(nearest.last().sqrt()).1;
                        }
                    }
                }
            }
            found.extend(nearest.iter().map(|nearest| nearest.last().sqrt()));
        }
        Ok(found)
    }
}

/// The square of the Euclidean distance, summed from the first column to the last.
pub(crate) fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + (a - b) * (a - b))
}

/// Sorts rows into boxes, and says when some lie in theirs.
fn sort(
    data: &Matrix,
    order: &mut [u32],
    done: &(dyn Fn(usize) -> Result<(), LearningError> + Sync),
) -> Result<(), LearningError> {
    if order.len() <= BOX {
        order.sort_unstable();
        return done(order.len());
    }
    done(0)?;
    let column = widest(data, order);
    let half = (order.len() / 2).next_multiple_of(BOX);
    let value = |row: u32| data.row(row as usize)[column];
    order.select_nth_unstable_by(half, |&a, &b| value(a).total_cmp(&value(b)).then(a.cmp(&b)));
    let (low, high) = order.split_at_mut(half);
    if low.len() < SORTED_ALONE {
        sort(data, low, done)?;
        return sort(data, high, done);
    }
    let (low, high) = rayon::join(|| sort(data, low, done), || sort(data, high, done));
    low.and(high)
}

/// The column whose values lie farthest apart.
fn widest(data: &Matrix, rows: &[u32]) -> usize {
    let mut ends = vec![(f64::INFINITY, f64::NEG_INFINITY); data.columns()];
    for &row in rows {
        for (ends, &value) in ends.iter_mut().zip(data.row(row as usize)) {
            *ends = (ends.0.min(value), ends.1.max(value));
        }
    }
    let width = |column: usize| ends[column].1 - ends[column].0;
    (1..data.columns()).fold(0, |best, column| if width(column) > width(best) { column } else { best })
}

/// The least of many values, ascending.
#[derive(Clone)]
struct Nearest {
    values: Vec<f64>,
}

impl Nearest {
    fn new(number: usize) -> Self {
        Self { values: vec![f64::INFINITY; number] }
    }

    /// The greatest of them; infinite until there are enough.
    fn last(&self) -> f64 {
        self.values[self.values.len() - 1]
    }

    /// Whether it is one of them.
    fn add(&mut self, value: f64) -> bool {
        if value >= self.last() {
            return false;
        }
        let at = self.values.partition_point(|&known| known <= value);
        self.values[at..].rotate_right(1);
        self.values[at] = value;
        true
    }
}

/// Squared distances from a box, given by its ends column by column, to all.
struct Gaps<'a> {
    from: &'a [[f32; 2]],
    ends: &'a [[[f32; GROUP]; 2]],
    gaps: &'a mut [f32],
}

impl WithSimd for Gaps<'_> {
    type Output = ();

    // Plain loops of a fixed length, which the compiler turns into vectors of the architecture that was chosen.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (ends, gaps) in self.ends.chunks_exact(self.from.len()).zip(self.gaps.as_chunks_mut::<GROUP>().0) {
            let mut sums = [0.0_f32; GROUP];
            for (&[from_low, from_high], [low, high]) in self.from.iter().zip(ends) {
                for lane in 0..GROUP {
                    let gap = (low[lane] - from_high).max(from_low - high[lane]).max(0.0);
                    sums[lane] += gap * gap;
                }
            }
            *gaps = sums;
        }
    }
}
