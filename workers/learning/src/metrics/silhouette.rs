//! How much nearer rows are to their own cluster than to the next one.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::drawn;
use crate::{
    LearningError, Matrix, Watch,
    distance::{Group, WIDTH},
};

/// Rows that distances are taken to between two questions whether to go on.
const STRETCH: usize = 1024;

/// The mean silhouette of the rows that have a label, from -1 (rows are nearer to another cluster than to their own) to 1
/// (clusters are small and far from each other), by Rousseeuw (1987), "Silhouettes: a graphical aid to the interpretation
/// and validation of cluster analysis". A row that is alone in its cluster has 0.
///
/// Rows with a negative label are noise: they are left out. Of a `sample` (how many, and a seed) so many rows are drawn, and
/// compared with all rows. There is none if there are fewer than two clusters, or if each row is one.
///
/// # Errors
/// [`LearningError::Cancelled`]
///
/// # Panics
/// If there is not one label for each row.
pub fn silhouette(
    data: &Matrix,
    labels: &[i32],
    sample: Option<(usize, u64)>,
    watch: Watch<'_>,
) -> Result<Option<f64>, LearningError> {
    Ok(silhouettes(data, &[labels], sample, watch)?.pop().flatten())
}

/// [`silhouette`] of several clusterings of the same rows, for which distances are taken only once.
///
/// # Errors
/// [`LearningError::Cancelled`]
///
/// # Panics
/// If one of them has not one label for each row.
pub fn silhouettes(
    data: &Matrix,
    labelings: &[&[i32]],
    sample: Option<(usize, u64)>,
    watch: Watch<'_>,
) -> Result<Vec<Option<f64>>, LearningError> {
    let labelings: Vec<_> = labelings.iter().map(|labels| Labels::of(data, labels)).collect();
    let labelled = (0..data.rows()).filter(|row| labelings.iter().any(|labels| labels.cluster(*row).is_some()));
    let queries = drawn(labelled.collect(), sample);
    let done = AtomicUsize::new(0);
    let parts: Result<Vec<_>, _> = queries
        .par_chunks(WIDTH)
        .map(|some| {
            let widths = part(data, some, &labelings, watch)?;
            watch.step(done.fetch_add(some.len(), Ordering::Relaxed) + some.len(), queries.len())?;
            Ok(widths)
        })
        .collect();
    let parts = parts?;
    let mean = |(at, labels): (usize, &Labels)| {
        let widths = parts.iter().flat_map(|part| &part[at]).flatten();
        let (count, sum) = widths.fold((0_u64, 0.0), |(count, sum), width| (count + 1, sum + width));
        (labels.tell_apart() && count > 0).then(|| sum / count as f64)
    };
    Ok(labelings.iter().enumerate().map(mean).collect())
}

/// Clusters, numbered from 0 without gaps.
struct Labels {
    /// Of each row; `sizes.len()` is noise.
    clusters: Vec<u32>,
    sizes: Vec<usize>,
}

impl Labels {
    fn of(data: &Matrix, labels: &[i32]) -> Self {
        assert_eq!(labels.len(), data.rows(), "one label for each row");
        let mut known: Vec<_> = labels.iter().copied().filter(|label| *label >= 0).collect();
        known.sort_unstable();
        known.dedup();
        let number = |label: &i32| known.binary_search(label).unwrap_or(known.len()) as u32;
        let clusters: Vec<_> = labels.iter().map(number).collect();
        let mut sizes = vec![0; known.len()];
        for cluster in &clusters {
            if let Some(size) = sizes.get_mut(*cluster as usize) {
                *size += 1;
            }
        }
        Self { clusters, sizes }
    }

    fn cluster(&self, row: usize) -> Option<usize> {
        Some(self.clusters[row] as usize).filter(|cluster| *cluster < self.sizes.len())
    }

    /// Whether there is more than one cluster, and one of more than one row.
    fn tell_apart(&self) -> bool {
        self.sizes.len() >= 2 && self.sizes.iter().any(|size| *size > 1)
    }

    /// The silhouette of a row, from the sum of its distances to the rows of each cluster.
    fn width(&self, row: usize, sum: impl Fn(usize) -> f64) -> Option<f64> {
        let own = self.cluster(row)?;
        if self.sizes[own] == 1 {
            return Some(0.0);
        }
        let within = sum(own) / (self.sizes[own] - 1) as f64;
        let others = (0..self.sizes.len()).filter(|cluster| *cluster != own);
        let next = others.map(|cluster| sum(cluster) / self.sizes[cluster] as f64).fold(f64::INFINITY, f64::min);
        let larger = within.max(next);
        Some(if larger > 0.0 && larger.is_finite() { (next - within) / larger } else { 0.0 })
    }
}

/// The silhouettes of a few rows in each clustering.
fn part(
    data: &Matrix,
    queries: &[usize],
    labelings: &[Labels],
    watch: Watch<'_>,
) -> Result<Vec<Vec<Option<f64>>>, LearningError> {
    let group = Group::of(data, queries);
    let mut sums: Vec<_> = labelings.iter().map(|labels| vec![[0.0; WIDTH]; labels.sizes.len() + 1]).collect();
    let mut near = [[0.0; WIDTH]; STRETCH];
    for start in (0..data.rows()).step_by(STRETCH) {
        watch.check()?;
        let rows = start..data.rows().min(start + STRETCH);
        let near = &mut near[..rows.len()];
        group.distances(data, rows.clone(), near);
        for (labels, sums) in labelings.iter().zip(&mut sums) {
            for (near, cluster) in near.iter().zip(&labels.clusters[rows.clone()]) {
                sums[*cluster as usize].iter_mut().zip(near).for_each(|(sum, distance)| *sum += distance);
            }
        }
    }
    let widths = |(labels, sums): (&Labels, &Vec<[f64; WIDTH]>)| {
        let width = |(lane, row): (usize, &usize)| labels.width(*row, |cluster| sums[cluster][lane]);
        queries.iter().enumerate().map(width).collect()
    };
    Ok(labelings.iter().zip(&sums).map(widths).collect())
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::stream;

    fn blobs(rows: usize) -> (Matrix, Vec<i32>) {
        let mut chance = stream(1, 2);
        let labels: Vec<_> = (0..rows).map(|row| (row % 4) as i32 - 1).collect();
        let values = labels.iter().flat_map(|label| [f64::from(*label), 2.0, f64::from(label % 2)]);
        let values = values.map(|centre| centre + chance.random::<f64>()).collect();
        (Matrix::new(3, values).unwrap(), labels)
    }

    fn plain(data: &Matrix, labels: &[i32]) -> f64 {
        let far = |a: usize, b: usize| crate::distance::squared(data.row(a), data.row(b)).sqrt();
        let rows: Vec<_> = (0..data.rows()).filter(|row| labels[*row] >= 0).collect();
        let width = |&row: &usize| {
            let mean = |label: i32| {
                let others: Vec<_> = rows.iter().filter(|other| labels[**other] == label && **other != row).collect();
                others.iter().map(|other| far(row, **other)).sum::<f64>() / others.len() as f64
            };
            let within = mean(labels[row]);
            let next = (0..=3).filter(|label| *label != labels[row]).map(mean).fold(f64::INFINITY, f64::min);
            (next - within) / within.max(next)
        };
        rows.iter().map(width).sum::<f64>() / rows.len() as f64
    }

    #[test]
    fn it_is_that_of_the_definition() {
        let (data, labels) = blobs(333);
        let found = silhouette(&data, &labels, None, Watch::nobody()).unwrap().unwrap();
        assert!((found - plain(&data, &labels)).abs() < 1e-12);
    }

    #[test]
    fn several_at_once_are_the_same_as_one_by_one() {
        let (data, labels) = blobs(100);
        let halves: Vec<_> = (0..100).map(|row| if row % 2 == 0 { 5 } else { i32::MAX }).collect();
        let alone = |labels| silhouette(&data, labels, None, Watch::nobody()).unwrap();
        let together = silhouettes(&data, &[&labels, &halves], None, Watch::nobody()).unwrap();
        assert_eq!(together, [alone(&labels), alone(&halves)]);
    }

    #[test]
    fn a_sample_is_near_the_whole() {
        let (data, labels) = blobs(2000);
        let of = |sample| silhouette(&data, &labels, sample, Watch::nobody()).unwrap().unwrap();
        assert!((of(Some((500, 3))) - of(None)).abs() < 0.02);
        assert_eq!(of(Some((5000, 3))), of(None));
    }

    #[test]
    fn without_two_clusters_there_is_none() {
        let (data, _) = blobs(4);
        for labels in [[-1; 4], [0, 0, 0, 0], [0, -1, 0, -1], [0, 1, 2, 3]] {
            assert_eq!(silhouette(&data, &labels, None, Watch::nobody()), Ok(None));
        }
        assert_eq!(silhouette(&Matrix::zeros(0, 1), &[], None, Watch::nobody()), Ok(None));
        assert_eq!(silhouettes(&data, &[], None, Watch::nobody()), Ok(vec![]));
        let same = Matrix::new(1, vec![1e149; 4]).unwrap();
        assert_eq!(silhouette(&same, &[0, 0, 1, 1], None, Watch::nobody()), Ok(Some(0.0)));
    }

    #[test]
    fn it_stops_when_told_to() {
        let (data, labels) = blobs(3000);
        for after in [0, 1, 30, 500] {
            let asked = AtomicUsize::new(0);
            let told = || asked.fetch_add(1, Ordering::Relaxed) >= after;
            assert_eq!(silhouette(&data, &labels, None, Watch::new(&told, &|_| {})), Err(LearningError::Cancelled));
        }
    }
}
