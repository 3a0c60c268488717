//! Whether what is near on a map is near in the data.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::drawn;
use crate::{
    LearningError, Matrix, Watch,
    distance::{Group, WIDTH},
};

/// Rows that distances are taken to between two questions whether to go on.
const STRETCH: usize = 1024;

/// How far the nearest rows on a map can be trusted to be near in the data, from 0 to 1, by Venna and Kaski (2001),
/// "Neighborhood preservation in nonlinear projection methods". For each of the `neighbours` nearest rows on the map it counts
/// the rows by which it is farther than the nearest in the data; of equally far rows, the lower comes first.
///
/// Of a `sample` (how many, and a seed) so many rows are drawn, whose neighbours are sought among all rows. Fewer than half of
/// the rows can be neighbours: if there are not so many rows, fewer are looked at. There is none for fewer than 3 rows.
///
/// # Errors
/// [`LearningError::Cancelled`]
///
/// # Panics
/// If the map has another number of rows.
pub fn trustworthiness(
    data: &Matrix,
    map: &Matrix,
    neighbours: usize,
    sample: Option<(usize, u64)>,
    watch: Watch<'_>,
) -> Result<Option<f64>, LearningError> {
    assert_eq!(data.rows(), map.rows(), "one place for each row");
    let rows = data.rows();
    let neighbours = neighbours.min(rows.saturating_sub(1) / 2);
    if neighbours == 0 {
        return Ok(None);
    }
    let queries = drawn((0..rows).collect(), sample);
    let done = AtomicUsize::new(0);
    let parts: Result<Vec<u64>, _> = queries
        .par_chunks(WIDTH)
        .map(|part| {
            let penalty = penalty(data, part, nearest(map, part, neighbours, watch)?, watch)?;
            watch.step(done.fetch_add(part.len(), Ordering::Relaxed) + part.len(), queries.len())?;
            Ok(penalty)
        })
        .collect();
    let penalty: u64 = parts?.iter().sum();
    let (k, rows) = (neighbours as f64, rows as f64);
    let worst = queries.len() as f64 * k * (2.0 * rows - 3.0 * k - 1.0) / 2.0;
    Ok(Some(1.0 - penalty as f64 / worst))
}

/// The nearest other rows on the map of each of a few rows.
fn nearest(map: &Matrix, queries: &[usize], k: usize, watch: Watch<'_>) -> Result<Vec<Vec<usize>>, LearningError> {
    let mut found = vec![Vec::with_capacity(k + 1); queries.len()];
    stretches(map, queries, watch, |row, near| {
        for ((found, query), near) in found.iter_mut().zip(queries).zip(near) {
            let is_nearer = found.len() < k || found.last().is_some_and(|(farthest, _)| near < farthest);
            if is_nearer && row != *query {
                let place = found.partition_point(|(distance, _)| distance <= near);
                found.insert(place, (*near, row));
                found.truncate(k);
            }
        }
    })?;
    Ok(found.into_iter().map(|found| found.into_iter().map(|(_, row)| row).collect()).collect())
}

/// By how many rows the neighbours on the map are farther in the data than the nearest ones.
fn penalty(
    data: &Matrix,
    queries: &[usize],
    neighbours: Vec<Vec<usize>>,
    watch: Watch<'_>,
) -> Result<u64, LearningError> {
    let k = neighbours[0].len();
    // For each neighbour how far it is in the data, and the rows that are nearer: side by side for all queries.
    let mut limits = vec![([0.0; WIDTH], [0_u64; WIDTH]); k];
    let group = Group::of(data, queries);
    for (lane, neighbours) in neighbours.iter().enumerate() {
        for (limits, neighbour) in limits.iter_mut().zip(neighbours) {
            let mut near = [[0.0; WIDTH]];
            group.distances(data, *neighbour..neighbour + 1, &mut near);
            limits.0[lane] = near[0][lane];
        }
    }
    stretches(data, queries, watch, |row, near| {
        for (at, (limits, nearer)) in limits.iter_mut().enumerate() {
            for ((nearer, near), limit) in nearer.iter_mut().zip(near).zip(limits.iter()) {
                *nearer += u64::from(near < limit);
            }
            for (lane, neighbours) in neighbours.iter().enumerate() {
                nearer[lane] += u64::from(near[lane] == limits[lane] && row < neighbours[at]);
            }
        }
    })?;
    let mut penalty = 0;
    for (lane, (query, neighbours)) in queries.iter().zip(&neighbours).enumerate() {
        for ((limits, nearer), neighbour) in limits.iter().zip(neighbours) {
            // Among those that are nearer is the row itself, unless the neighbour is equal to it and comes first.
            let itself = u64::from(0.0 < limits[lane] || query < neighbour);
            penalty += (nearer[lane] - itself + 1).saturating_sub(k as u64);
        }
    }
    Ok(penalty)
}

/// The distances from a few rows to each row.
fn stretches(
    data: &Matrix,
    queries: &[usize],
    watch: Watch<'_>,
    mut each: impl FnMut(usize, &[f64; WIDTH]),
) -> Result<(), LearningError> {
    let group = Group::of(data, queries);
    let mut near = [[0.0; WIDTH]; STRETCH];
    for start in (0..data.rows()).step_by(STRETCH) {
        watch.check()?;
        let rows = start..data.rows().min(start + STRETCH);
        group.distances(data, rows.clone(), &mut near[..rows.len()]);
        near.iter().zip(rows).for_each(|(near, row)| each(row, near));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::{distance::squared, stream};

    fn chance(rows: usize, columns: usize, levels: i32) -> Matrix {
        let mut chance = stream(9, 9);
        let values = (0..rows * columns).map(|_| f64::from(chance.random_range(0..levels)));
        Matrix::new(columns, values.collect()).unwrap()
    }

    fn plain(data: &Matrix, map: &Matrix, k: usize) -> f64 {
        let rows = data.rows();
        let order = |of: &Matrix, row: usize| {
            let mut others: Vec<_> = (0..rows).filter(|other| *other != row).collect();
            let far = |other: &usize| squared(of.row(row), of.row(*other)).sqrt();
            others.sort_by(|a, b| far(a).total_cmp(&far(b)));
            others
        };
        let mut penalty = 0;
        for row in 0..rows {
            let ranks = order(data, row);
            for near in &order(map, row)[..k] {
                penalty += (ranks.iter().position(|other| other == near).unwrap() + 1).saturating_sub(k);
            }
        }
        1.0 - 2.0 * penalty as f64 / (rows * k * (2 * rows - 3 * k - 1)) as f64
    }

    #[test]
    fn it_is_that_of_the_definition() {
        for levels in [2, 5, 1000] {
            let (data, map) = (chance(203, 3, levels), chance(203, 2, levels));
            let found = trustworthiness(&data, &map, 5, None, Watch::nobody()).unwrap().unwrap();
            assert!((found - plain(&data, &map, 5)).abs() < 1e-12, "{levels}");
        }
    }

    #[test]
    fn the_data_are_a_trustworthy_map_of_themselves() {
        let data = chance(1500, 2, 1_000_000);
        let of = |map, sample| trustworthiness(&data, map, 5, sample, Watch::nobody()).unwrap().unwrap();
        assert_eq!(of(&data, None), 1.0);
        assert_eq!(of(&data, Some((100, 1))), 1.0);
        let other = chance(1500, 1, 1_000_000);
        assert!((of(&other, Some((500, 1))) - of(&other, None)).abs() < 0.05);
    }

    #[test]
    fn few_rows_have_few_neighbours() {
        for rows in 0..3 {
            let data = Matrix::zeros(rows, 2);
            assert_eq!(trustworthiness(&data, &data, 5, None, Watch::nobody()), Ok(None));
        }
        let data = chance(3, 1, 100);
        assert_eq!(trustworthiness(&data, &data, 5, None, Watch::nobody()), Ok(Some(1.0)));
    }

    #[test]
    fn it_stops_when_told_to() {
        let data = chance(3000, 2, 100);
        for after in [0, 1, 30, 500] {
            let asked = AtomicUsize::new(0);
            let told = || asked.fetch_add(1, Ordering::Relaxed) >= after;
            let found = trustworthiness(&data, &data, 5, None, Watch::new(&told, &|_| {}));
            assert_eq!(found, Err(LearningError::Cancelled));
        }
    }
}
