//! Principal components.

mod rows;
#[cfg(test)]
mod tests;

use nalgebra::{DMatrix, SymmetricEigen};
use pulp::Arch;
use rand::RngExt;
use rayon::prelude::*;

use self::rows::{add_scaled, combine, first, most_left, normalise, perpendicular, remove, stacked};
use crate::{LearningError, Matrix, Watch, lanes::dot, parts::by_parts, stream};

/// Sides of the squares in which products of matrices are summed up: 32 KB of numbers.
const BLOCK: usize = 64;

/// Rows whose products are summed up at once; between two batches it is asked whether to go on.
const BATCH: usize = 32;

/// Rows that one task sums up, if there are so few columns that tasks are cut by rows.
const PART: usize = 4_096;

/// The widest matrix whose eigenvectors are all computed: cubic in time, and not to be stopped.
const DENSE: usize = 320;

/// Directions in a larger one that are looked for at once: few enough that what they are combined of is no wider than
/// [`DENSE`].
const AT_ONCE: usize = 120;

/// How often each search in a larger one starts anew, at most.
const PASSES: usize = 60;

/// Directions are found if the covariance moves them off their lines by no more than this share of the largest variance.
const SETTLED: f64 = 1e-10;

/// Directions with a smaller share of the largest variance than this are noise of the computation.
const NOISE: f64 = 1e-14;

/// The seed of the search's start: PCA has none of its own.
const START: u64 = 0x5043_4100;

/// Where the rows vary most.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// Each row along each component (rows x components).
    pub scores: Matrix,
    /// Directions of length 1, the most varied first (components x columns). The largest weight of each, by magnitude, is
    /// positive, as with scikit-learn's `svd_flip(u_based_decision=False)`.
    pub components: Matrix,
    /// The mean of each column, which scores are relative to.
    pub means: Vec<f64>,
    /// The variance along each component, of a population of which the rows are a sample.
    pub explained_variance: Vec<f64>,
    /// The same as a share of the whole.
    pub explained_variance_ratio: Vec<f64>,
}

/// Finds the directions in which rows vary most (Pearson 1901; Hotelling 1933). If there are fewer than asked for, the other
/// scores, directions and variances are 0.
///
/// The covariance of columns, or of rows if they are fewer, is summed up in blocks, without a centred copy of the matrix, and
/// its eigenvectors are computed. If both are many, only the largest are looked for, from random starts that are always the
/// same, until they settle.
///
/// # Errors
/// [`LearningError::NoVariance`] if all rows are the same, or there is only one; [`LearningError::Cancelled`].
pub fn fit(data: &Matrix, components: usize, watch: Watch<'_>) -> Result<Pca, LearningError> {
    let centred = Centred::of(data, watch.part(0.0, 0.1))?;
    let (rows, columns) = (data.rows(), data.columns());
    let wanted = components.min(rows).min(columns);
    let on = watch.part(0.1, 0.9);
    let found = if columns <= DENSE {
        centred.by_columns(wanted, on)?
    } else if rows <= DENSE {
        centred.by_rows(wanted, on)?
    } else {
        centred.by_krylov(wanted, on)?
    };
    centred.finish(found, components, watch.part(0.9, 1.0))
}

/// An upper estimate of the bytes that [`fit`] takes beyond its input.
pub fn memory(rows: usize, columns: usize, components: usize) -> u64 {
    let wanted = components.min(rows).min(columns);
    let result = rows * components + columns * components;
    let work = if columns.min(rows) <= DENSE {
        let side = columns.min(rows);
        let parts = if columns <= BLOCK { rows.div_ceil(PART) } else { 1 };
        4 * side * side + parts * columns.min(BLOCK).pow(2) + wanted * columns
    } else {
        let at_once = wanted.min(AT_ONCE);
        let basis = (2 * at_once + 6 * block(at_once)).min(DENSE);
        rows * block(at_once) + columns * (5 * basis + 2 * wanted) + 4 * basis * basis
    };
    (8 * (result + work + 8 * columns) + (1 << 18)) as u64
}

/// Directions, and the sums of squares along them (of scaled values); the largest first.
struct Directions {
    components: Matrix,
    squares: Vec<f64>,
}

impl Directions {
    /// The largest first.
    fn sorted(&self) -> Self {
        let mut order: Vec<usize> = (0..self.squares.len()).collect();
        order.sort_by(|a, b| self.squares[*b].total_cmp(&self.squares[*a]));
        let mut components = Matrix::zeros(order.len(), self.components.columns());
        for (to, from) in order.iter().enumerate() {
            components.row_mut(to).copy_from_slice(self.components.row(*from));
        }
        Self { components, squares: order.iter().map(|at| self.squares[*at]).collect() }
    }
}

/// A matrix whose columns have a mean of 0 and whose largest value is 1, without a copy of it.
struct Centred<'a> {
    data: &'a Matrix,
    means: Vec<f64>,
    /// What centred values are multiplied by, so that no square is infinite or vanishes.
    scale: f64,
    /// The sum of the squares of all values.
    squares: f64,
}

impl<'a> Centred<'a> {
    fn of(data: &'a Matrix, watch: Watch<'_>) -> Result<Self, LearningError> {
        let columns = data.columns();
        if data.rows() < 2 {
            return Err(LearningError::NoVariance);
        }
        let first = data.row(0);
        let parts = by_parts(data.rows(), PART, |from, to| {
            watch.check()?;
            let (mut sums, mut low, mut high) = (vec![0.0; columns], first.to_vec(), first.to_vec());
            for row in from..to {
                for (((sum, low), high), value) in sums.iter_mut().zip(&mut low).zip(&mut high).zip(data.row(row)) {
                    *sum += value;
                    *low = value.min(*low);
                    *high = value.max(*high);
                }
                if row % BATCH == 0 {
                    watch.check()?;
                }
            }
            Ok((sums, low, high))
        })?;
        let (mut means, mut low, mut high) = (vec![0.0; columns], first.to_vec(), first.to_vec());
        for (sums, lowest, highest) in parts {
            for column in 0..columns {
                means[column] += sums[column] / data.rows() as f64;
                low[column] = low[column].min(lowest[column]);
                high[column] = high[column].max(highest[column]);
            }
        }
        let mut widest = 0.0_f64;
        for column in 0..columns {
            // A mean is rounded: without this, a constant column would vary.
            means[column] = means[column].clamp(low[column], high[column]);
            widest = widest.max((high[column] - means[column]).max(means[column] - low[column]));
        }
        if widest == 0.0 {
            return Err(LearningError::NoVariance);
        }
        let mut centred = Self { data, means, scale: 1.0 / widest.max(f64::MIN_POSITIVE), squares: 0.0 };
        let squares = by_parts(data.rows(), PART, |from, to| {
            let (mut sum, mut row) = (0.0, vec![0.0; columns]);
            for at in from..to {
                centred.row(at, &mut row);
                sum += row.iter().map(|value| value * value).sum::<f64>();
                if at % BATCH == 0 {
                    watch.check()?;
                }
            }
            Ok(sum)
        })?;
        centred.squares = squares.into_iter().sum();
        Ok(centred)
    }

    /// One row.
    fn row(&self, row: usize, into: &mut [f64]) {
        self.piece(row, 0, into);
    }

    /// A piece of a row, from a column on.
    fn piece(&self, row: usize, from: usize, into: &mut [f64]) {
        let values = &self.data.row(row)[from..][..into.len()];
        for ((into, value), mean) in into.iter_mut().zip(values).zip(&self.means[from..]) {
            *into = (value - mean) * self.scale;
        }
    }

    /// By the covariance of the columns.
    fn by_columns(&self, wanted: usize, watch: Watch<'_>) -> Result<Directions, LearningError> {
        let columns = self.data.columns();
        let covariance = self.products(watch.part(0.0, 0.8))?;
        watch.step(8, 10)?;
        let (squares, vectors) = eigen(covariance, wanted)?;
        let mut components = Matrix::zeros(wanted, columns);
        for component in 0..wanted {
            components.row_mut(component).copy_from_slice(vectors.column(component).as_slice());
        }
        Ok(Directions { components, squares })
    }

    /// The sums of the products of each two columns: squares of [`BLOCK`] columns, each over all rows, or over a part of
    /// them if there is only one square.
    fn products(&self, watch: Watch<'_>) -> Result<DMatrix<f64>, LearningError> {
        let (rows, columns) = (self.data.rows(), self.data.columns());
        let blocks = columns.div_ceil(BLOCK);
        let part = if blocks == 1 { PART } else { rows };
        let tasks: Vec<_> = (0..blocks)
            .flat_map(|left| (left..blocks).map(move |right| (left * BLOCK, right * BLOCK)))
            .flat_map(|(left, right)| (0..rows.div_ceil(part)).map(move |part| (left, right, part)))
            .collect();
        let sums = tasks.par_iter().map(|&(left, right, at)| {
            let widths = ((columns - left).min(BLOCK), (columns - right).min(BLOCK));
            let (mut a, mut b) = (vec![0.0; BATCH * widths.0], vec![0.0; BATCH * widths.1]);
            let mut sums = vec![0.0; widths.0 * widths.1];
            for from in (at * part..rows.min((at + 1) * part)).step_by(BATCH) {
                watch.check()?;
                a.fill(0.0);
                b.fill(0.0);
                for row in from..rows.min((at + 1) * part).min(from + BATCH) {
                    self.piece(row, left, &mut a[(row - from) * widths.0..][..widths.0]);
                    self.piece(row, right, &mut b[(row - from) * widths.1..][..widths.1]);
                }
                add_products(&a, &b, widths, &mut sums);
            }
            Ok(sums)
        });
        let sums: Vec<Vec<f64>> = sums.collect::<Result<_, LearningError>>()?;
        let mut products = DMatrix::zeros(columns, columns);
        for (&(left, right, _), sums) in tasks.iter().zip(&sums) {
            let width = (columns - right).min(BLOCK);
            for (at, sum) in sums.iter().enumerate() {
                products[(right + at % width, left + at / width)] += sum;
            }
        }
        // Only what lies below the diagonal is read.
        Ok(products)
    }

    /// By the products of the rows, which are fewer.
    fn by_rows(&self, wanted: usize, watch: Watch<'_>) -> Result<Directions, LearningError> {
        let (rows, columns) = (self.data.rows(), self.data.columns());
        let products = by_parts(rows, 1, |row, _| {
            let (mut a, mut b) = (vec![0.0; columns], vec![0.0; columns]);
            self.row(row, &mut a);
            let mut products = vec![0.0; rows];
            for (other, product) in products.iter_mut().enumerate().take(row + 1) {
                watch.check()?;
                self.row(other, &mut b);
                *product = dot(&a, &b);
            }
            Ok(products)
        })?;
        watch.step(1, 2)?;
        let products = DMatrix::from_fn(rows, rows, |row, other| products[row][other]);
        let (mut squares, vectors) = eigen(products, wanted)?;
        let mut components = Matrix::zeros(wanted, columns);
        let mut values = vec![0.0; columns];
        for component in 0..wanted {
            watch.part(0.5, 1.0).step(component, wanted)?;
            if squares[component] <= NOISE * squares[0] {
                squares[component] = 0.0;
                continue;
            }
            let direction = components.row_mut(component);
            for row in 0..rows {
                self.row(row, &mut values);
                add_scaled(direction, &values, vectors[(row, component)]);
            }
            normalise(direction);
        }
        Ok(Directions { components, squares })
    }

    /// Some directions at once, the largest first; then more of them at right angles to those that are found.
    fn by_krylov(&self, wanted: usize, watch: Watch<'_>) -> Result<Directions, LearningError> {
        let mut found = Directions { components: Matrix::zeros(0, self.data.columns()), squares: Vec::new() };
        let share = |known: usize| known as f64 / wanted as f64;
        while found.squares.len() < wanted {
            let known = found.squares.len();
            let count = (wanted - known).min(AT_ONCE);
            let mut next = self.beyond(&found, count, watch.part(share(known), share(known + count)))?;
            let largest = found.squares.iter().chain(&next.squares).copied().fold(0.0, f64::max);
            next.squares.retain(|square| *square > NOISE * largest);
            found.components = stacked(&found.components, &first(&next.components, next.squares.len()));
            found.squares.append(&mut next.squares);
            // Of directions that vary alike a search finds as many as it starts from: if it found fewer, there are no others.
            if found.squares.len() - known < count.min(block(count)) {
                break;
            }
        }
        Ok(found.sorted())
    }

    /// The largest directions at right angles to those that are known, by block Lanczos with thick restarts (Wu and Simon 2000):
    /// directions, the covariance times them, the covariance times that, and so on; the best directions among these, and anew
    /// from them, until the covariance only stretches them.
    fn beyond(&self, known: &Directions, wanted: usize, watch: Watch<'_>) -> Result<Directions, LearningError> {
        let block = block(wanted);
        // The last block may go beyond the most by all but one of its directions.
        let (kept, most) = (wanted + block, (2 * wanted + 5 * block).min(DENSE + 1 - block));
        let mut next = Matrix::zeros(block, self.data.columns());
        let mut random = stream(START, known.squares.len() as u64);
        next.values_mut().iter_mut().for_each(|value| *value = random.random::<f64>() - 0.5);
        let mut basis = Matrix::zeros(0, self.data.columns());
        let mut applied = basis.clone();
        for pass in 0.. {
            watch.step(pass, PASSES)?;
            while basis.rows() < most {
                let new = perpendicular(&[&known.components, &basis], next, watch)?;
                if new.rows() == 0 {
                    break;
                }
                next = self.covariance_times(&new, watch)?;
                remove(&known.components, &mut next, watch)?;
                (basis, applied) = (stacked(&basis, &new), stacked(&applied, &next));
            }
            if basis.rows() == 0 {
                return Ok(Directions { components: basis, squares: Vec::new() });
            }
            let count = kept.min(basis.rows());
            let (mut squares, vectors) = eigen(within(&basis, &applied, watch)?, count)?;
            basis = combine(&basis, &vectors, count, watch)?;
            applied = combine(&applied, &vectors, count, watch)?;
            next = applied.clone();
            let mut left = Vec::new();
            for (direction, square) in squares.iter().enumerate() {
                add_scaled(next.row_mut(direction), basis.row(direction), -square);
                left.push(dot(next.row(direction), next.row(direction)).sqrt());
            }
            let wanted = wanted.min(count);
            let largest = known.squares.iter().copied().fold(squares[0], f64::max);
            if left[..wanted].iter().all(|left| *left <= SETTLED * largest) || pass + 1 == PASSES {
                squares.truncate(wanted);
                return Ok(Directions { components: first(&basis, wanted), squares });
            }
            next = most_left(&next, &left, block);
        }
        Err(LearningError::NoVariance)
    }

    /// The covariance (not divided) times each row of a matrix.
    fn covariance_times(&self, basis: &Matrix, watch: Watch<'_>) -> Result<Matrix, LearningError> {
        let (rows, columns) = (self.data.rows(), self.data.columns());
        let along = self.along(basis, watch)?;
        let parts = by_parts(columns, BLOCK, |from, to| {
            let width = to - from;
            let mut values = vec![0.0; BATCH * width];
            let mut sums = vec![0.0; basis.rows() * width];
            let mut batch = vec![0.0; BATCH * basis.rows()];
            for first in (0..rows).step_by(BATCH) {
                watch.check()?;
                values.fill(0.0);
                batch.fill(0.0);
                for row in first..rows.min(first + BATCH) {
                    self.piece(row, from, &mut values[(row - first) * width..][..width]);
                    batch[(row - first) * basis.rows()..][..basis.rows()].copy_from_slice(along.row(row));
                }
                add_products(&batch, &values, (basis.rows(), width), &mut sums);
            }
            Ok(sums)
        })?;
        let mut applied = Matrix::zeros(basis.rows(), columns);
        for (part, sums) in parts.iter().enumerate() {
            let width = sums.len() / basis.rows();
            for (row, sums) in sums.chunks_exact(width).enumerate() {
                applied.row_mut(row)[part * BLOCK..][..width].copy_from_slice(sums);
            }
        }
        Ok(applied)
    }

    /// Each row along some directions (rows x directions), scaled.
    fn along(&self, directions: &Matrix, watch: Watch<'_>) -> Result<Matrix, LearningError> {
        let (columns, count) = (self.data.columns(), directions.rows());
        let mut along = Matrix::zeros(self.data.rows(), count.max(1));
        if count == 0 {
            return Ok(along);
        }
        along.values_mut().par_chunks_mut(BATCH * 8 * count).enumerate().try_for_each(|(part, along)| {
            let mut values = vec![0.0; columns];
            for (row, along) in along.chunks_exact_mut(count).enumerate() {
                if row % BATCH == 0 {
                    watch.check()?;
                }
                self.row(part * BATCH * 8 + row, &mut values);
                for (component, along) in along.iter_mut().enumerate() {
                    *along = dot(&values, directions.row(component));
                }
            }
            Ok(())
        })?;
        Ok(along)
    }

    /// Signs, units, scores, and zeros for what there is not.
    fn finish(&self, found: Directions, components: usize, watch: Watch<'_>) -> Result<Pca, LearningError> {
        let Directions { components: mut directions, mut squares } = found;
        for (component, square) in squares.iter_mut().enumerate() {
            *square = square.max(0.0);
            let direction = directions.row_mut(component);
            let largest =
                direction.iter().fold(0.0_f64, |most, weight| if weight.abs() > most.abs() { *weight } else { most });
            if largest < 0.0 {
                direction.iter_mut().for_each(|weight| *weight = -*weight);
            }
        }
        let ratios = squares.iter().map(|square| square / self.squares);
        let degrees = (self.data.rows() - 1) as f64;
        let variances = squares.iter().map(|square| (square / degrees / self.scale / self.scale).min(f64::MAX));
        let padded = |values: &mut dyn Iterator<Item = f64>| {
            let mut values: Vec<f64> = values.collect();
            values.resize(components, 0.0);
            values
        };
        let (explained_variance, explained_variance_ratio) = (padded(&mut { variances }), padded(&mut { ratios }));
        let mut values = directions.values().to_vec();
        values.resize(components * self.data.columns(), 0.0);
        let mut all = Matrix::zeros(components, self.data.columns());
        all.values_mut().copy_from_slice(&values);
        let mut scores = self.along(&all, watch)?;
        let unscale = 1.0 / self.scale;
        scores.values_mut().iter_mut().for_each(|score| *score *= unscale);
        Ok(Pca { scores, components: all, means: self.means.clone(), explained_variance, explained_variance_ratio })
    }
}

/// Directions that a search for so many starts from.
fn block(wanted: usize) -> usize {
    wanted.clamp(8, 32)
}

/// The covariance between directions, from what it is times each of them; only below the diagonal.
fn within(basis: &Matrix, applied: &Matrix, watch: Watch<'_>) -> Result<DMatrix<f64>, LearningError> {
    debug_assert!(basis.rows() <= DENSE, "{} directions at once", basis.rows());
    let products = by_parts(basis.rows(), 1, |row, _| {
        let mut products = vec![0.0; basis.rows()];
        for (other, product) in products.iter_mut().enumerate().take(row + 1) {
            watch.check()?;
            *product = dot(basis.row(row), applied.row(other));
        }
        Ok(products)
    })?;
    Ok(DMatrix::from_fn(basis.rows(), basis.rows(), |row, other| products[row][other]))
}

/// The largest eigenvalues of a symmetric matrix, of which the lower half is read, and their vectors as columns.
fn eigen(matrix: DMatrix<f64>, wanted: usize) -> Result<(Vec<f64>, DMatrix<f64>), LearningError> {
    let side = matrix.nrows();
    let eigen = SymmetricEigen::try_new(matrix, f64::EPSILON, 1_000 * side.max(1)).ok_or(LearningError::NoVariance)?;
    let mut order: Vec<usize> = (0..side).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let vectors = DMatrix::from_fn(side, wanted, |row, column| eigen.eigenvectors[(row, order[column])]);
    Ok((order[..wanted].iter().map(|at| eigen.eigenvalues[*at]).collect(), vectors))
}

/// Adds the products of each column of `a` with each of `b`, over [`BATCH`] rows of both.
fn add_products(a: &[f64], b: &[f64], (left, right): (usize, usize), sums: &mut [f64]) {
    Arch::new().dispatch(|| {
        for (a, b) in a.chunks_exact(4 * left).zip(b.chunks_exact(4 * right)) {
            let (b0, b) = b.split_at(right);
            let (b1, b) = b.split_at(right);
            let (b2, b3) = b.split_at(right);
            for (column, sums) in sums.chunks_exact_mut(right).enumerate() {
                let [a0, a1, a2, a3] = [0, 1, 2, 3].map(|row| a[row * left + column]);
                for ((((sum, b0), b1), b2), b3) in sums.iter_mut().zip(b0).zip(b1).zip(b2).zip(b3) {
                    *sum += (a0 * b0 + a1 * b1) + (a2 * b2 + a3 * b3);
                }
            }
        }
    });
}
