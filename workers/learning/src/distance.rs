//! How far rows are from each other: one by one in double precision, and many at once in single precision.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::Matrix;

/// Rows that are worked on at once.
pub const LANES: usize = 16;

/// Rows whose distances to others are best taken together.
pub const QUERIES: usize = 4;

/// The unit of rounding of `f32`.
const ROUNDING: f64 = 1.0 / 16_777_216.0;

/// The square of the Euclidean distance.
pub fn squared(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<4>();
    let (b, b_rest) = b.as_chunks::<4>();
    // Four sums that do not wait for each other.
    let mut sums = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += (a - b) * (a - b);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b) * (a - b)).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// The sum of the differences.
pub fn manhattan(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum()
}

/// Rows in single precision, in an order in which distances from a few of them to all can be taken fast: in blocks of
/// [`LANES`] rows, each block column by column. The columns are centred, and all are divided by the largest magnitude, so
/// that no square overflows. The last block is filled with rows that are infinitely far from all others.
#[derive(Debug, Clone)]
pub struct Tiles {
    rows: usize,
    columns: usize,
    scale: f64,
    values: Vec<f32>,
}

impl Tiles {
    /// Of all rows.
    pub fn of(data: &Matrix) -> Self {
        let (rows, columns) = (data.rows(), data.columns());
        let centre = centre(data);
        let deviation = |row: usize, column: usize| data.row(row)[column] - centre[column];
        let largest = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let scale = largest.fold(0.0_f64, |largest, (row, column)| largest.max(deviation(row, column).abs()));
        let scale = if scale > 0.0 { scale } else { 1.0 };
        let mut values = vec![f32::INFINITY; rows.div_ceil(LANES) * LANES * columns];
        for (block, values) in values.chunks_exact_mut(LANES * columns).enumerate() {
            for lane in 0..LANES.min(rows - block * LANES) {
                for column in 0..columns {
                    values[column * LANES + lane] = (deviation(block * LANES + lane, column) / scale) as f32;
                }
            }
        }
        Self { rows, columns, scale, values }
    }

    /// Bytes that they take.
    pub const fn memory(rows: usize, columns: usize) -> u64 {
        (rows.div_ceil(LANES) * LANES * columns * size_of::<f32>()) as u64
    }

    /// How many rows there are.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// How many blocks there are.
    pub const fn blocks(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// What a distance between tiles is multiplied by to get that between rows; a square, by its square.
    pub const fn scale(&self) -> f64 {
        self.scale
    }

    /// The squared distances, in units of the tiles, from at most [`QUERIES`] rows to the rows of some blocks: for each query
    /// one after the other, [`LANES`] for each block. Infinite past the last row.
    ///
    /// # Panics
    /// If there are more queries, or `out` has another length.
    pub fn squared(&self, queries: &[usize], blocks: Range<usize>, out: &mut [f32]) {
        self.sweep::<Squared>(queries, blocks, out);
    }

    /// As [`Tiles::squared`], but the sums of the differences.
    ///
    /// # Panics
    /// If there are more queries, or `out` has another length.
    pub fn manhattan(&self, queries: &[usize], blocks: Range<usize>, out: &mut [f32]) {
        self.sweep::<Manhattan>(queries, blocks, out);
    }

    /// What [`Tiles::squared`] gives for rows as far from each other as this: rows below the first are nearer for sure, those
    /// above the second are farther for sure, and those between are to be looked at again.
    pub fn squared_bounds(&self, distance: f64) -> (f32, f32) {
        squared_bounds(self.columns, distance / self.scale)
    }

    /// As [`Tiles::squared_bounds`], for [`Tiles::manhattan`].
    pub fn manhattan_bounds(&self, distance: f64) -> (f32, f32) {
        let (columns, distance) = (self.columns as f64, distance / self.scale);
        let (moved, relative) = (4.0 * ROUNDING * columns, 2.0 * ROUNDING * (columns + 4.0));
        (
            ((distance - moved).max(0.0) * (1.0 - relative).max(0.0)) as f32,
            ((distance + moved) * (1.0 + relative)) as f32,
        )
    }

    fn sweep<M: Measure>(&self, queries: &[usize], blocks: Range<usize>, out: &mut [f32]) {
        assert_eq!(out.len(), queries.len() * blocks.len() * LANES, "distances of {} rows", queries.len());
        let values = &self.values[blocks.start * LANES * self.columns..blocks.end * LANES * self.columns];
        match *queries {
            [] => {}
            [a] => self.sweep_some::<M, 1>([a], values, out),
            [a, b] => self.sweep_some::<M, 2>([a, b], values, out),
            [a, b, c] => self.sweep_some::<M, 3>([a, b, c], values, out),
            [a, b, c, d] => self.sweep_some::<M, 4>([a, b, c, d], values, out),
            _ => panic!("distances of {} rows at once", queries.len()),
        }
    }

    fn sweep_some<M: Measure, const Q: usize>(&self, queries: [usize; Q], values: &[f32], out: &mut [f32]) {
        let value = |row: usize, column| self.values[(row / LANES * self.columns + column) * LANES + row % LANES];
        let queries: Vec<_> = (0..self.columns).map(|column| queries.map(|query| value(query, column))).collect();
        Arch::new().dispatch(Sweep { queries: &queries, values, out, measure: std::marker::PhantomData::<M> });
    }
}

/// Between which bounds a squared distance in single precision lies, of values of which none is above 1 by magnitude.
///
/// A value is rounded when it becomes an `f32`, which moves it by 2⁻²⁴ at most; so a distance moves by no more than 2⁻²³ times
/// the root of the columns. Then a difference, its square and each sum are rounded once.
pub(crate) fn squared_bounds(columns: usize, distance: f64) -> (f32, f32) {
    let columns = columns as f64;
    let (moved, relative) = (4.0 * ROUNDING * columns.sqrt(), 2.0 * ROUNDING * (columns + 4.0));
    let (inner, outer) = ((distance - moved).max(0.0), distance + moved);
    ((inner * inner * (1.0 - relative).max(0.0)) as f32, (outer * outer * (1.0 + relative)) as f32)
}

/// Rows whose exact distances are taken at once.
pub(crate) const WIDTH: usize = 8;

/// At most [`WIDTH`] rows side by side, column by column, from which distances are taken in double precision.
pub(crate) struct Group {
    columns: Vec<[f64; WIDTH]>,
}

impl Group {
    pub(crate) fn of(data: &Matrix, rows: &[usize]) -> Self {
        let mut columns = vec![[0.0; WIDTH]; data.columns()];
        for (lane, row) in rows.iter().enumerate() {
            columns.iter_mut().zip(data.row(*row)).for_each(|(column, value)| column[lane] = *value);
        }
        Self { columns }
    }

    /// Euclidean distances to some rows; those of lanes that have no row mean nothing.
    pub(crate) fn distances(&self, data: &Matrix, rows: Range<usize>, out: &mut [[f64; WIDTH]]) {
        let values = &data.values()[rows.start * data.columns()..rows.end * data.columns()];
        Arch::new().dispatch(Exact { group: &self.columns, values, out });
    }
}

struct Exact<'a> {
    group: &'a [[f64; WIDTH]],
    values: &'a [f64],
    out: &'a mut [[f64; WIDTH]],
}

impl WithSimd for Exact<'_> {
    type Output = ();

    /// Sums are rounded in the same way on every machine: no multiplication is fused with an addition.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Four rows at a time, so that their sums do not wait for each other.
        const ROWS: usize = 4;
        let columns = self.group.len();
        let whole = self.out.len() / ROWS * ROWS;
        let (out, rest) = self.out.split_at_mut(whole);
        let (values, values_rest) = self.values.split_at(whole * columns);
        for (values, out) in values.chunks_exact(ROWS * columns).zip(out.as_chunks_mut::<ROWS>().0) {
            exact::<S, ROWS>(simd, self.group, values, out);
        }
        for (values, out) in values_rest.chunks_exact(columns).zip(rest) {
            exact::<S, 1>(simd, self.group, values, std::array::from_mut(out));
        }
    }
}

#[inline(always)]
fn exact<S: Simd, const ROWS: usize>(simd: S, group: &[[f64; WIDTH]], values: &[f64], out: &mut [[f64; WIDTH]; ROWS]) {
    let rows: [&[f64]; ROWS] = std::array::from_fn(|row| &values[row * group.len()..][..group.len()]);
    for first in (0..WIDTH / S::F64_LANES).step_by(2) {
        let second = (first + 1).min(WIDTH / S::F64_LANES - 1);
        let mut sums = [[simd.splat_f64s(0.0); 2]; ROWS];
        for (column, lanes) in group.iter().enumerate() {
            let (lanes, _) = S::as_simd_f64s(lanes);
            for (sums, row) in sums.iter_mut().zip(rows) {
                let value = simd.splat_f64s(row[column]);
                let (a, b) = (simd.sub_f64s(lanes[first], value), simd.sub_f64s(lanes[second], value));
                sums[0] = simd.add_f64s(sums[0], simd.mul_f64s(a, a));
                sums[1] = simd.add_f64s(sums[1], simd.mul_f64s(b, b));
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            let (out, _) = S::as_mut_simd_f64s(out);
            (out[first], out[second]) = (simd.sqrt_f64s(sums[0]), simd.sqrt_f64s(sums[1]));
        }
    }
}

/// The mean of each column, in a fixed order and without overflow.
fn centre(data: &Matrix) -> Vec<f64> {
    let mut centre = vec![0.0; data.columns()];
    for row in data.values().chunks_exact(data.columns()) {
        centre.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    centre.iter_mut().for_each(|sum| *sum /= data.rows().max(1) as f64);
    centre
}

/// What is summed over the columns.
trait Measure {
    fn add<S: Simd>(simd: S, difference: S::f32s, sum: S::f32s) -> S::f32s;
}

struct Squared;

impl Measure for Squared {
    #[inline(always)]
    fn add<S: Simd>(simd: S, difference: S::f32s, sum: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(difference, difference, sum)
    }
}

struct Manhattan;

impl Measure for Manhattan {
    #[inline(always)]
    fn add<S: Simd>(simd: S, difference: S::f32s, sum: S::f32s) -> S::f32s {
        simd.add_f32s(simd.abs_f32s(difference), sum)
    }
}

/// Distances from a few rows, given column by column, to all rows of some blocks.
struct Sweep<'a, M, const Q: usize> {
    queries: &'a [[f32; Q]],
    values: &'a [f32],
    out: &'a mut [f32],
    measure: std::marker::PhantomData<M>,
}

impl<M: Measure, const Q: usize> WithSimd for Sweep<'_, M, Q> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let vectors = LANES / S::F32_LANES;
        let width = self.out.len() / Q;
        let (values, _) = S::as_simd_f32s(self.values);
        let (out, _) = S::as_mut_simd_f32s(self.out);
        let stride = width / S::F32_LANES;
        for (block, values) in values.chunks_exact(self.queries.len() * vectors).enumerate() {
            // Two vectors for each query: enough sums to hide how long each takes, few enough to stay in registers.
            for first in (0..vectors).step_by(2) {
                let second = (first + 1).min(vectors - 1);
                let mut sums = [[simd.splat_f32s(0.0); 2]; Q];
                for (values, query) in values.chunks_exact(vectors).zip(self.queries) {
                    for (sums, query) in sums.iter_mut().zip(query) {
                        let query = simd.splat_f32s(*query);
                        sums[0] = M::add(simd, simd.sub_f32s(query, values[first]), sums[0]);
                        sums[1] = M::add(simd, simd.sub_f32s(query, values[second]), sums[1]);
                    }
                }
                for (query, sums) in sums.into_iter().enumerate() {
                    let at = query * stride + block * vectors;
                    out[at + first] = sums[0];
                    out[at + second] = sums[1];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::stream;

    fn rows(rows: usize, columns: usize, magnitude: f64) -> Matrix {
        let mut chance = stream(7, 0);
        Matrix::new(columns, (0..rows * columns).map(|_| magnitude * (chance.random::<f64>() - 0.3)).collect()).unwrap()
    }

    #[test]
    fn distances_are_within_their_bounds() {
        for (count, columns, magnitude) in [(1, 1, 1.0), (37, 3, 1e-120), (50, 20, 1e149), (16, 70, 5.0)] {
            let data = rows(count, columns, magnitude);
            let tiles = Tiles::of(&data);
            for queries in [vec![0], vec![count - 1, 0], vec![0, count / 2, count - 1], vec![0, 0, count / 3, 0]] {
                let width = tiles.blocks() * LANES;
                let (mut near, mut sums) = (vec![0.0; queries.len() * width], vec![0.0; queries.len() * width]);
                tiles.squared(&queries, 0..tiles.blocks(), &mut near);
                tiles.manhattan(&queries, 0..tiles.blocks(), &mut sums);
                for (at, &query) in queries.iter().enumerate() {
                    for row in 0..count {
                        let (a, b) = (data.row(query), data.row(row));
                        let (below, above) = tiles.squared_bounds(squared(a, b).sqrt());
                        assert!((below..=above).contains(&near[at * width + row]), "{query} {row}");
                        let (below, above) = tiles.manhattan_bounds(manhattan(a, b));
                        assert!((below..=above).contains(&sums[at * width + row]), "{query} {row}");
                    }
                    assert!(near[at * width + count..][..width - count].iter().all(|value| value.is_infinite()));
                }
            }
        }
    }

    #[test]
    fn equal_rows_are_at_no_distance() {
        let tiles = Tiles::of(&Matrix::new(2, vec![1e149; 40]).unwrap());
        let mut out = vec![1.0; 2 * LANES];
        tiles.squared(&[3], 0..2, &mut out);
        assert!(out[..20].iter().all(|distance| *distance == 0.0));
    }

    #[test]
    fn squares_are_summed_whatever_the_columns() {
        for columns in 1..10 {
            let (a, b) = (vec![3.0; columns], vec![1.0; columns]);
            assert_eq!(squared(&a, &b), 4.0 * columns as f64);
            assert_eq!(manhattan(&a, &b), 2.0 * columns as f64);
        }
    }
}
