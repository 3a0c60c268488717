//! Matrices whose rows are directions.

use nalgebra::DMatrix;
use rayon::prelude::*;

use crate::{LearningError, Matrix, Watch, lanes::dot};

/// Linear combinations of rows, by the first columns of a matrix.
pub(super) fn combine(
    rows: &Matrix,
    by: &DMatrix<f64>,
    count: usize,
    watch: Watch<'_>,
) -> Result<Matrix, LearningError> {
    let mut combined = Matrix::zeros(count, rows.columns());
    combined.values_mut().par_chunks_mut(rows.columns()).enumerate().try_for_each(|(column, combined)| {
        watch.check()?;
        (0..rows.rows()).for_each(|row| add_scaled(combined, rows.row(row), by[(row, column)]));
        Ok(())
    })?;
    Ok(combined)
}

/// Makes rows perpendicular to those of some bases and to each other, and of length 1 (Gram and Schmidt, twice: Giraud et al.
/// 2005). A row that depends on the others is left out.
pub(super) fn perpendicular(bases: &[&Matrix], mut rows: Matrix, watch: Watch<'_>) -> Result<Matrix, LearningError> {
    let columns = rows.columns();
    let mut kept = 0;
    for row in 0..rows.rows() {
        watch.check()?;
        rows.values_mut().copy_within(row * columns..(row + 1) * columns, kept * columns);
        let (before, after) = rows.values_mut().split_at_mut(kept * columns);
        let after = &mut after[..columns];
        let mut is_free = true;
        for _ in 0..2 {
            normalise(after);
            let known = bases.iter().flat_map(|basis| basis.values().chunks_exact(columns));
            let others = known.chain(before.chunks_exact(columns));
            others.for_each(|other| add_scaled(after, other, -dot(other, after)));
            is_free &= dot(after, after) > f64::EPSILON;
        }
        normalise(after);
        kept += usize::from(is_free);
    }
    let mut free = Matrix::zeros(kept, columns);
    free.values_mut().copy_from_slice(&rows.values()[..kept * columns]);
    Ok(free)
}

/// Takes what lies along some directions, at right angles to each other, from rows.
pub(super) fn remove(directions: &Matrix, rows: &mut Matrix, watch: Watch<'_>) -> Result<(), LearningError> {
    let columns = rows.columns();
    rows.values_mut().par_chunks_mut(columns).try_for_each(|row| {
        watch.check()?;
        for direction in directions.values().chunks_exact(columns) {
            let along = dot(direction, row);
            add_scaled(row, direction, -along);
        }
        Ok(())
    })
}

/// The first of some rows.
pub(super) fn first(rows: &Matrix, count: usize) -> Matrix {
    let mut first = Matrix::zeros(count, rows.columns());
    first.values_mut().copy_from_slice(&rows.values()[..count * rows.columns()]);
    first
}

/// Rows below each other.
pub(super) fn stacked(above: &Matrix, below: &Matrix) -> Matrix {
    let mut all = Matrix::zeros(above.rows() + below.rows(), above.columns());
    let (first, second) = all.values_mut().split_at_mut(above.values().len());
    first.copy_from_slice(above.values());
    second.copy_from_slice(below.values());
    all
}

/// The rows with the largest measures, in their order.
pub(super) fn most_left(rows: &Matrix, measures: &[f64], count: usize) -> Matrix {
    let mut order: Vec<usize> = (0..rows.rows()).collect();
    order.sort_by(|a, b| measures[*b].total_cmp(&measures[*a]));
    order.truncate(count);
    order.sort_unstable();
    let mut most = Matrix::zeros(order.len(), rows.columns());
    order.iter().enumerate().for_each(|(to, from)| most.row_mut(to).copy_from_slice(rows.row(*from)));
    most
}

pub(super) fn normalise(row: &mut [f64]) {
    let length = dot(row, row).sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|value| *value /= length);
    }
}

pub(super) fn add_scaled(to: &mut [f64], from: &[f64], by: f64) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from * by;
    }
}
