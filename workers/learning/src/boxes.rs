//! Rows sorted into boxes, so that most of the rows that are far from some others need not be looked at.

use std::{
    collections::BinaryHeap,
    sync::atomic::{AtomicUsize, Ordering},
};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::{LearningError, Matrix, Watch, distance::squared_bounds};

/// Rows of each box but the last.
pub(crate) const BOX: usize = 32;

/// Rows whose distances to a box are best taken together.
pub(crate) const QUERIES: usize = 4;

/// Boxes whose distances from something are taken at once.
const GROUP: usize = 16;

/// Up to so many of the nearest are kept in order; more of them in a heap.
const IN_ORDER: usize = 64;

/// Ranges of fewer rows are sorted by one thread.
const SORTED_ALONE: usize = 4_096;

/// Rows sorted as the leaves of a k-d tree (Bentley 1975): halved at the median of the widest column until no more than
/// [`BOX`] are left. A row is called by its place in that order; places `b * BOX..` lie in box `b`.
///
/// Distances are taken in single precision, of columns that are centred and divided by their largest magnitude so that no
/// square overflows, and again in double precision when that could matter.
pub(crate) struct Boxes {
    arch: Arch,
    order: Vec<u32>,
    sorted: Matrix,
    /// In single precision: of each box column by column. Infinite where there is no row.
    values: Vec<f32>,
    /// The lower and the upper ends of each box: for each [`GROUP`] of them, column by column.
    ends: Vec<[[f32; GROUP]; 2]>,
    centre: Vec<f64>,
    scale: f64,
}

/// Some places, column by column, whose distances are to be taken.
pub(crate) type Queries<const Q: usize> = Vec<[f32; Q]>;

impl Boxes {
    /// Sorts all rows of a matrix.
    ///
    /// # Errors
    /// [`LearningError::Cancelled`]
    pub(crate) fn of(data: &Matrix, watch: Watch<'_>) -> Result<Self, LearningError> {
        let mut order: Vec<u32> = (0..data.rows() as u32).collect();
        let done = AtomicUsize::new(0);
        sort(data, &mut order, &|rows| watch.step(done.fetch_add(rows, Ordering::Relaxed), data.rows()))?;
        let mut sorted = Matrix::zeros(data.rows(), data.columns());
        for (place, &row) in order.iter().enumerate() {
            sorted.row_mut(place).copy_from_slice(data.row(row as usize));
        }
        watch.check()?;
        let centre = means(&sorted);
        watch.check()?;
        let deviations = sorted.values().chunks_exact(data.columns()).flat_map(|row| row.iter().zip(&centre));
        let scale = deviations.fold(0.0_f64, |scale, (value, centre)| scale.max((value - centre).abs()));
        let scale = if scale > 0.0 { scale } else { 1.0 };
        watch.check()?;
        let (values, ends) = (Vec::new(), Vec::new());
        let mut boxes = Self { arch: Arch::new(), order, sorted, values, ends, centre, scale };
        boxes.fill();
        watch.check()?;
        boxes.enclose();
        Ok(boxes)
    }

    /// Bytes that they take.
    pub(crate) fn memory(rows: usize, columns: usize) -> u64 {
        let boxes = rows.div_ceil(BOX);
        let ends = boxes.div_ceil(GROUP) * columns * size_of::<[[f32; GROUP]; 2]>();
        let values = boxes * BOX * columns * size_of::<f32>();
        (rows * (size_of::<u32>() + columns * size_of::<f64>()) + values + ends) as u64
    }

    fn fill(&mut self) {
        let columns = self.columns();
        self.values = vec![f32::INFINITY; self.len() * BOX * columns];
        for place in 0..self.rows() {
            for column in 0..columns {
                self.values[(place / BOX * columns + column) * BOX + place % BOX] = self.unit(place, column);
            }
        }
    }

    fn enclose(&mut self) {
        let columns = self.columns();
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

    /// What [`Boxes::distances`] gives for rows as far from each other as this: rows below the first are nearer for sure, those
    /// above the second are farther for sure, as are boxes; those between are to be looked at again.
    pub(crate) fn bounds(&self, distance: f64) -> (f32, f32) {
        squared_bounds(self.columns(), distance / self.scale)
    }

    /// Some places; if there are fewer, the first stands in for the rest.
    pub(crate) fn queries<const Q: usize>(&self, places: &[usize]) -> Queries<Q> {
        let mut queries = vec![[0.0; Q]; self.columns()];
        for query in 0..Q {
            let place = places.get(query).copied().unwrap_or(places[0]);
            let values = &self.values[place / BOX * BOX * self.columns()..];
            let column = values.iter().skip(place % BOX).step_by(BOX);
            queries.iter_mut().zip(column).for_each(|(queries, value)| queries[query] = *value);
        }
        queries
    }

    /// The squared distances, divided by the square of the scale, from some places to all of a box. Infinite where there is no
    /// row.
    #[inline]
    pub(crate) fn distances<const Q: usize>(&self, queries: &Queries<Q>, to: usize) -> [[f32; BOX]; Q] {
        let size = BOX * queries.len();
        let values = &self.values[to * size..][..size];
        // Eight sums: enough to hide how long each takes, few enough to stay in registers.
        if Q == 1 {
            self.arch.dispatch(Squares::<Q, 4> { queries, values })
        } else {
            self.arch.dispatch(Squares::<Q, 2> { queries, values })
        }
    }

    /// The squared distances from a box to every box, divided by the square of the scale: no two rows of them are nearer.
    pub(crate) fn gaps_of_box(&self, at: usize, gaps: &mut Vec<f32>) {
        let columns = self.columns();
        let group = &self.ends[at / GROUP * columns..][..columns];
        let from: Vec<_> = group.iter().map(|[low, high]| [low[at % GROUP], high[at % GROUP]]).collect();
        self.gaps(&from, gaps);
    }

    /// The squared distances from a place to every box, divided by the square of the scale: no row of it is nearer.
    pub(crate) fn gaps_of_place(&self, place: usize, gaps: &mut Vec<f32>) {
        let from: Vec<_> = (0..self.columns()).map(|column| [self.unit(place, column); 2]).collect();
        self.gaps(&from, gaps);
    }

    fn gaps(&self, from: &[[f32; 2]], gaps: &mut Vec<f32>) {
        gaps.clear();
        gaps.resize(self.ends.len() / self.columns() * GROUP, 0.0);
        self.arch.dispatch(Gaps { from, ends: &self.ends, gaps });
        gaps.truncate(self.len());
    }

    fn unit(&self, place: usize, column: usize) -> f32 {
        ((self.sorted.row(place)[column] - self.centre[column]) / self.scale) as f32
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
        let mut gaps = Vec::new();
        self.gaps_of_box(at, &mut gaps);
        let mut others: Vec<u32> = (0..self.len() as u32).collect();
        others.sort_unstable_by(|&a, &b| {
            let key = |at: u32| gaps[at as usize];
            key(a).total_cmp(&key(b)).then(a.abs_diff(at as u32).cmp(&b.abs_diff(at as u32))).then(a.cmp(&b))
        });
        let mut found = Vec::with_capacity(places.len());
        for chunk in places.chunks(QUERIES) {
            let chunk: Vec<usize> = chunk.iter().map(|&place| place as usize).collect();
            let queries = self.queries::<QUERIES>(&chunk);
            let mut nearest: Vec<_> = chunk.iter().map(|_| Nearest::new(nth)).collect();
            let mut bounds = vec![f32::INFINITY; chunk.len()];
            for (step, &other) in others.iter().enumerate() {
                if bounds.iter().all(|&bound| gaps[other as usize] > bound) {
                    break;
                }
                if step % 64 == 0 {
                    watch.check()?;
                }
                let squares = self.distances(&queries, other as usize);
                for (at, &query) in chunk.iter().enumerate() {
                    if !any_below(&squares[at], bounds[at]) {
                        continue;
                    }
                    for (place, &square) in self.places(other as usize).zip(&squares[at]) {
                        if square <= bounds[at] && nearest[at].add(self.squared(query, place)) {
                            let last = nearest[at].last();
                            // Nothing is nearer than equal rows, and masses of them are as near.
                            bounds[at] = if last == 0.0 { -1.0 } else { self.bounds(last.sqrt()).1 };
                        }
                    }
                }
            }
            found.extend(nearest.iter().map(|nearest| nearest.last().sqrt()));
        }
        Ok(found)
    }
}

/// Whether any is no greater than a bound.
#[inline]
pub(crate) fn any_below(squares: &[f32; BOX], bound: f32) -> bool {
    // All are looked at, so that it can be done with vectors.
    squares.iter().fold(false, |any, &square| any | (square <= bound))
}

/// The square of the Euclidean distance, summed from the first column to the last.
pub(crate) fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + (a - b) * (a - b))
}

/// The mean of each column.
fn means(data: &Matrix) -> Vec<f64> {
    let mut means = vec![0.0; data.columns()];
    for row in data.values().chunks_exact(data.columns()) {
        means.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    means.iter_mut().for_each(|sum| *sum /= data.rows().max(1) as f64);
    means
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

/// The least of many values, none of which is negative.
enum Nearest {
    /// Few, ascending; infinite in place of those that are not there yet.
    InOrder(Vec<f64>),
    /// So many at most, by their bits, which are in the order of the values.
    Heap(usize, BinaryHeap<u64>),
}

impl Nearest {
    fn new(number: usize) -> Self {
        if number <= IN_ORDER {
            Self::InOrder(vec![f64::INFINITY; number])
        } else {
            Self::Heap(number, BinaryHeap::with_capacity(number))
        }
    }

    /// The greatest of them; infinite until there are enough.
    fn last(&self) -> f64 {
        match self {
            Self::InOrder(values) => values[values.len() - 1],
            Self::Heap(number, values) if values.len() < *number => f64::INFINITY,
            Self::Heap(_, values) => values.peek().map_or(f64::INFINITY, |greatest| f64::from_bits(*greatest)),
        }
    }

    /// Whether it is one of them.
    fn add(&mut self, value: f64) -> bool {
        if value >= self.last() {
            return false;
        }
        match self {
            Self::InOrder(values) => {
                let at = values.partition_point(|&known| known <= value);
                values[at..].rotate_right(1);
                values[at] = value;
            }
            Self::Heap(number, values) if values.len() < *number => values.push(value.to_bits()),
            Self::Heap(_, values) => {
                if let Some(mut greatest) = values.peek_mut() {
                    *greatest = value.to_bits();
                }
            }
        }
        true
    }
}

/// Squared distances from `Q` places, given column by column, to all of a box, `V` vectors of which are worked on at once.
struct Squares<'a, const Q: usize, const V: usize> {
    queries: &'a [[f32; Q]],
    values: &'a [f32],
}

impl<const Q: usize, const V: usize> WithSimd for Squares<'_, Q, V> {
    type Output = [[f32; BOX]; Q];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [[f32; BOX]; Q] {
        let mut squares = [[0.0; BOX]; Q];
        let vectors = BOX / S::F32_LANES;
        let (values, _) = S::as_simd_f32s(self.values);
        for first in (0..vectors).step_by(V) {
            // With very wide vectors there may be fewer: the last is then taken again.
            let at: [usize; V] = std::array::from_fn(|vector| (first + vector).min(vectors - 1));
            let mut sums = [[simd.splat_f32s(0.0); V]; Q];
            for (queries, values) in self.queries.iter().zip(values.chunks_exact(vectors)) {
                for (sums, query) in sums.iter_mut().zip(queries) {
                    let query = simd.splat_f32s(*query);
                    for (sum, &at) in sums.iter_mut().zip(&at) {
                        let difference = simd.sub_f32s(values[at], query);
                        *sum = simd.mul_add_e_f32s(difference, difference, *sum);
                    }
                }
            }
            for (squares, sums) in squares.iter_mut().zip(sums) {
                let (squares, _) = S::as_mut_simd_f32s(squares);
                for (sum, &at) in sums.into_iter().zip(&at) {
                    squares[at] = sum;
                }
            }
        }
        squares
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

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let zero = simd.splat_f32s(0.0);
        let (gaps, _) = S::as_mut_simd_f32s(self.gaps);
        let vectors = GROUP / S::F32_LANES;
        for (ends, gaps) in self.ends.chunks_exact(self.from.len()).zip(gaps.chunks_exact_mut(vectors)) {
            for (at, sum) in gaps.iter_mut().enumerate() {
                *sum = zero;
                for ([from_low, from_high], [low, high]) in self.from.iter().zip(ends) {
                    let ((low, _), (high, _)) = (S::as_simd_f32s(low), S::as_simd_f32s(high));
                    let above = simd.sub_f32s(low[at], simd.splat_f32s(*from_high));
                    let below = simd.sub_f32s(simd.splat_f32s(*from_low), high[at]);
                    let gap = simd.max_f32s(simd.max_f32s(above, below), zero);
                    *sum = simd.mul_add_e_f32s(gap, gap, *sum);
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use rand::RngExt;

    use super::*;
    use crate::stream;

    /// Rows around a few places, and some far off; of every seven one is like another. Rounded, so that distances are equal.
    pub(crate) fn rows(rows: usize, columns: usize, seed: u64) -> Matrix {
        let mut chance = stream(seed, 0);
        let mut data = Matrix::zeros(rows, columns);
        for row in 0..rows {
            if row % 7 == 6 {
                let like = data.row(row / 2).to_vec();
                data.row_mut(row).copy_from_slice(&like);
                continue;
            }
            let spread = if row % 50 == 49 { 40.0 } else { 4.0 };
            for value in data.row_mut(row) {
                *value = (f64::from(row as u32 % 4) * 9.0 + spread * chance.random::<f64>()).round() / 2.0;
            }
        }
        data
    }

    /// What should not make any algorithm panic.
    pub(crate) fn odd_rows() -> Vec<Matrix> {
        let with = |columns, values: &[f64]| Matrix::new(columns, values.to_vec()).unwrap();
        let mut far = rows(70, 3, 1);
        far.values_mut().iter_mut().for_each(|value| *value *= 1e148);
        let mut one_far = rows(70, 3, 1);
        one_far.row_mut(9)[1] = -1e150;
        let mut near = rows(70, 3, 1);
        near.values_mut().iter_mut().for_each(|value| *value *= 1e-310);
        vec![
            with(3, &[]),
            with(3, &[1.0, 2.0, 3.0]),
            with(1, &[1.0, 2.0]),
            with(2, &[5.0; 4]),
            with(1, &[-1e150, 1e150, 0.0]),
            with(2, &[7.0; 200]),
            far,
            one_far,
            near,
        ]
    }

    /// The same on one, two and three threads.
    pub(crate) fn on_threads<T: PartialEq + std::fmt::Debug + Send>(run: impl Fn() -> T + Sync) -> T {
        let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&run);
        let alone = on(1);
        assert_eq!(alone, on(2));
        assert_eq!(alone, on(3));
        alone
    }

    /// Told to stop at any time it stops, soon, and it tells how far it is.
    pub(crate) fn stops<T>(run: impl Fn(Watch<'_>) -> Result<T, LearningError> + Sync)
    where
        T: Send,
    {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let asked = AtomicUsize::new(0);
        let shares = Mutex::new(Vec::new());
        let count = |limit: usize| {
            asked.store(0, Ordering::Relaxed);
            let is_cancelled = || asked.fetch_add(1, Ordering::Relaxed) >= limit;
            let report = |share| shares.lock().unwrap().push(share);
            pool.install(|| run(Watch::new(&is_cancelled, &report)).map(|_| ()))
        };
        assert_eq!(count(usize::MAX), Ok(()));
        let all = asked.load(Ordering::Relaxed);
        let seen = std::mem::take(&mut *shares.lock().unwrap());
        assert!(seen.iter().all(|share| (0.0..=1.0).contains(share)) && seen.last() > Some(&0.9), "{seen:?}");
        for tenth in 0..10 {
            let limit = all * tenth / 10;
            assert_eq!(count(limit), Err(LearningError::Cancelled), "at {limit} of {all}");
            assert!(asked.load(Ordering::Relaxed) <= limit + 1 + 3 * pool.current_num_threads());
        }
    }

    #[test]
    fn each_row_has_one_place_in_a_box_around_it() {
        for count in [0, 1, 31, 32, 33, 65, 1_000] {
            let data = rows(count, 5, 3);
            let boxes = Boxes::of(&data, Watch::nobody()).unwrap();
            let mut seen = boxes.order().to_vec();
            seen.sort_unstable();
            assert_eq!(seen, (0..count as u32).collect::<Vec<_>>());
            let (mut of_box, mut of_place) = (Vec::new(), Vec::new());
            for place in 0..count {
                boxes.gaps_of_box(place / BOX, &mut of_box);
                boxes.gaps_of_place(place, &mut of_place);
                let [squares] = boxes.distances(&boxes.queries::<1>(&[place]), place / BOX);
                assert_eq!(squares[place % BOX], 0.0);
                for other in 0..count {
                    let bounds = boxes.bounds(boxes.squared(place, other).sqrt());
                    assert!(of_place[other / BOX] <= bounds.1 && of_box[other / BOX] <= bounds.1);
                    let [squares] = boxes.distances(&boxes.queries::<1>(&[place]), other / BOX);
                    assert!((bounds.0..=bounds.1).contains(&squares[other % BOX]));
                }
            }
        }
    }

    #[test]
    fn nth_distances_are_exact() {
        // The latter has three different rows, of which there are 167 at most.
        let twins = Matrix::new(1, (0..500).map(|row| f64::from(row % 3)).collect()).unwrap();
        for data in [rows(500, 4, 5), twins] {
            let boxes = Boxes::of(&data, Watch::nobody()).unwrap();
            for nth in [1, 2, 7, IN_ORDER, IN_ORDER + 1, 166, 167, 168, 300, 500, 1_000] {
                let places: Vec<u32> = (0..500).step_by(3).collect();
                let found = on_threads(|| boxes.nth_distances(&places, nth, Watch::nobody()).unwrap());
                for (place, found) in places.iter().zip(found) {
                    let mut squares: Vec<f64> = (0..500).map(|other| boxes.squared(*place as usize, other)).collect();
                    squares.sort_unstable_by(f64::total_cmp);
                    assert_eq!(found, squares[nth.min(500) - 1].sqrt());
                }
            }
        }
    }
}
