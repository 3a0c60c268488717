//! Values in place of missing ones.

use fourmi_kinds::{Fill, Missing};

use crate::{
    TableError,
    order::sorted,
    random::Draw,
    spread::{quantile_of, spread},
    value::LARGEST,
    watch::{PIECE, Watch},
};

/// Rows up to which all are searched for neighbours.
const ALL_ROWS: usize = 20_000;

/// Rows that are searched if there are more.
const DRAWN_ROWS: u64 = 5_000;

/// Values whose distances are summed side by side.
const LANES: usize = 8;

/// Rows between two questions whether to go on.
const ROWS: usize = 1_024;

/// Fills in one value for all that are NaN.
pub(crate) fn fill(values: &mut [f64], options: &Missing, watch: &Watch<'_>) -> Result<(), TableError> {
    if !values.iter().any(|value| value.is_nan()) {
        return Ok(());
    }
    let filling = match options.with {
        Fill::Median => quantile_of(&there(values, watch)?, 0.5, watch)?,
        Fill::Mean => spread(&there(values, watch)?, watch)?.mean,
        Fill::Mode => mode(there(values, watch)?, watch)?,
        Fill::Constant => options.value.clamp(-LARGEST, LARGEST),
        // The rows are gone, or the neighbours are there.
        Fill::DropRow | Fill::Neighbours => return Ok(()),
    };
    for piece in values.chunks_mut(PIECE) {
        watch.check()?;
        piece.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = filling);
    }
    Ok(())
}

/// The values that are not missing.
fn there(values: &[f64], watch: &Watch<'_>) -> Result<Vec<f64>, TableError> {
    let mut there = Vec::with_capacity(values.len());
    for piece in values.chunks(PIECE) {
        watch.check()?;
        there.extend(piece.iter().filter(|value| !value.is_nan()));
    }
    Ok(there)
}

/// The most frequent value; of several, the smallest.
fn mode(values: Vec<f64>, watch: &Watch<'_>) -> Result<f64, TableError> {
    let mut best = (0, f64::NAN);
    for run in sorted(values, watch)?.chunk_by(|one, other| one == other) {
        if run.len() > best.0 {
            best = (run.len(), run[0]);
        }
    }
    Ok(best.1)
}

/// Bytes that [`neighbours`] takes for each row of so many columns.
pub(crate) const fn bytes_of_row(columns: usize) -> usize {
    columns.next_multiple_of(LANES) * size_of::<f64>()
}

/// Fills in the mean of the nearest rows that have a value, by the distance over the columns that both rows have, of columns
/// brought to mean 0 and standard deviation 1 (Troyanskaya et al. 2001; `KNNImputer` of scikit-learn after `StandardScaler`).
/// Of equally near rows the first is nearer. Gives the number of rows that were searched, if not all were.
pub(crate) fn neighbours(
    columns: &mut [&mut Vec<f64>],
    neighbours: u32,
    seed: u64,
    watch: &Watch<'_>,
) -> Result<Option<u64>, TableError> {
    let rows = columns.first().map_or(0, |column| column.len());
    let mut incomplete: Vec<usize> = Vec::new();
    for row in 0..rows {
        if row.is_multiple_of(ROWS) {
            watch.check()?;
        }
        if columns.iter().any(|column| column[row].is_nan()) {
            incomplete.push(row);
        }
    }
    if incomplete.is_empty() {
        return Ok(None);
    }
    let (matrix, means) = standardised(columns, watch)?;
    let width = columns.len().next_multiple_of(LANES);
    let row_of = |row: usize| &matrix[row * width..][..width];
    let drawn = (rows > ALL_ROWS).then(|| Draw::new(DRAWN_ROWS, rows as u64, seed));
    let donors: Vec<usize> = match drawn {
        None => (0..rows).collect(),
        Some(mut draw) => (0..rows).filter(|_| draw.next()).collect(),
    };
    let mut near: Vec<(f64, usize)> = Vec::with_capacity(donors.len());
    let mut having: Vec<(f64, usize)> = Vec::with_capacity(donors.len());
    let mut filled: Vec<(usize, usize, f64)> = Vec::new();
    for row in incomplete {
        watch.check()?;
        near.clear();
        near.extend(donors.iter().map(|&donor| (distance(row_of(row), row_of(donor)), donor)));
        for column in 0..columns.len() {
            if !columns[column][row].is_nan() {
                continue;
            }
            having.clear();
            having.extend(near.iter().filter(|(far, donor)| !far.is_nan() && !columns[column][*donor].is_nan()));
            let count = having.len().min(neighbours as usize);
            let value = if count == 0 {
                means[column]
            } else {
                let order =
                    |one: &(f64, usize), other: &(f64, usize)| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1));
                having.select_nth_unstable_by(count - 1, order);
                // In the order of rows, so that the sum does not depend on how they were sorted.
                having[..count].sort_unstable_by_key(|&(_, donor)| donor);
                having[..count].iter().map(|&(_, donor)| columns[column][donor]).sum::<f64>() / count as f64
            };
            filled.push((column, row, value));
        }
    }
    for (column, row, value) in filled {
        columns[column][row] = value;
    }
    Ok((donors.len() < rows).then_some(donors.len() as u64))
}

/// Rows of standardised values with NaN where one is missing, filled up with NaN to whole lanes; and the means.
fn standardised(columns: &[&mut Vec<f64>], watch: &Watch<'_>) -> Result<(Vec<f64>, Vec<f64>), TableError> {
    let rows = columns.first().map_or(0, |column| column.len());
    let width = columns.len().next_multiple_of(LANES);
    let mut matrix = vec![f64::NAN; rows * width];
    let mut means = Vec::with_capacity(columns.len());
    for (place, column) in columns.iter().enumerate() {
        let spread = spread(&there(column, watch)?, watch)?;
        let width_of = if spread.sd > 0.0 { spread.sd } else { 1.0 };
        for (piece, rows) in column.chunks(PIECE).zip(matrix.chunks_mut(PIECE * width)) {
            watch.check()?;
            for (value, row) in piece.iter().zip(rows.chunks_mut(width)) {
                row[place] = (value - spread.mean) / width_of;
            }
        }
        means.push(spread.mean);
    }
    Ok((matrix, means))
}

/// The mean square of the differences in columns that both have; NaN if they have none.
fn distance(one: &[f64], other: &[f64]) -> f64 {
    let (mut sums, mut counts) = ([0.0; LANES], [0.0; LANES]);
    for (one, other) in one.as_chunks::<LANES>().0.iter().zip(other.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            let difference = one[lane] - other[lane];
            let there = !difference.is_nan();
            sums[lane] += if there { difference * difference } else { 0.0 };
            counts[lane] += if there { 1.0 } else { 0.0 };
        }
    }
    sums.iter().sum::<f64>() / counts.iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f64 = f64::NAN;

    fn filled(with: Fill, values: &[f64]) -> Vec<f64> {
        let mut values = values.to_vec();
        fill(&mut values, &Missing { with, value: 7.5, ..Missing::default() }, &Watch::nobody()).unwrap();
        values
    }

    #[test]
    fn fills_as_asked() {
        let values = [3.0, NAN, 1.0, 3.0, 2.0, 10.0, 1.0];
        for (with, value) in [(Fill::Median, 2.5), (Fill::Mean, 20.0 / 6.0), (Fill::Mode, 1.0), (Fill::Constant, 7.5)] {
            let filled = filled(with, &values);
            assert!((filled[1] - value).abs() < 1e-12, "{with:?} {filled:?}");
            assert_eq!(filled[0], 3.0);
        }
    }

    #[test]
    fn neighbours_agree_with_scikit_learn() {
        // z = (X - nanmean) / nanstd; KNNImputer(n_neighbors=2).fit_transform(z) * nanstd + nanmean
        let mut columns = [vec![1.0, 2.0, NAN, 8.0, 9.5], vec![2.0, NAN, 6.0, 5.0, 7.0], vec![NAN, 3.0, 5.0, 9.0, 8.0]];
        let [one, two, three] = &mut columns;
        assert_eq!(neighbours(&mut [one, two, three], 2, 42, &Watch::nobody()).unwrap(), None);
        assert_eq!(columns[0], [1.0, 2.0, 5.75, 8.0, 9.5]);
        assert_eq!(columns[1], [2.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(columns[2], [6.0, 3.0, 5.0, 9.0, 8.0]);
    }

    #[test]
    fn rows_with_nothing_in_common_get_the_mean() {
        let mut columns = [vec![1.0, 3.0, NAN], vec![NAN, NAN, 4.0]];
        let [one, two] = &mut columns;
        neighbours(&mut [one, two], 5, 42, &Watch::nobody()).unwrap();
        assert_eq!(columns, [vec![1.0, 3.0, 2.0], vec![4.0, 4.0, 4.0]]);
    }

    #[test]
    fn searches_a_sample_of_many_rows() {
        let mut one: Vec<f64> = (0..20_001).map(f64::from).collect();
        let mut two = one.clone();
        two[700] = NAN;
        let mut columns = [&mut one, &mut two];
        assert_eq!(neighbours(&mut columns, 5, 42, &Watch::nobody()).unwrap(), Some(DRAWN_ROWS));
        assert!((two[700] - 700.0).abs() < 20.0, "{}", two[700]);
    }
}
