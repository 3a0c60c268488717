//! Likeness of each cluster and its nearest.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Means, squared_distance};
use crate::{LearningError, Matrix, Watch, parts::by_parts};

/// With more clusters nothing is measured: it would take the square of their number.
const MOST: usize = 5_000;

/// Likeness of each cluster and the one most like it: how far their rows are from their means, against how far the means are
/// from each other (Davies and Bouldin 1979, "A cluster separation measure"); less is better. As in scikit-learn, clusters
/// with the same mean are not alike. Rows with a negative label are left out; nothing if less than two clusters remain, or as
/// many as rows, or more than 5,000.
///
/// # Errors
/// [`LearningError::Cancelled`]
pub fn davies_bouldin(data: &Matrix, labels: &[i32], watch: Watch<'_>) -> Result<Option<f64>, LearningError> {
    let means = Means::of(data, labels, watch.part(0.0, 0.4))?;
    let clusters = means.sizes.len();
    if clusters < 2 || clusters >= means.rows() || clusters > MOST {
        return Ok(None);
    }
    let mut spread = vec![0.0; clusters];
    means.each_distance(data, labels, watch.part(0.4, 0.8), |_, cluster, squared| spread[cluster] += squared.sqrt())?;
    for (spread, size) in spread.iter_mut().zip(&means.sizes) {
        *spread /= *size as f64;
    }
    let done = AtomicUsize::new(0);
    let likeness = by_parts(clusters, 1, |cluster, _| {
        watch.part(0.8, 1.0).step(done.fetch_add(1, Ordering::Relaxed), clusters)?;
        let to_others = (0..clusters).filter_map(|other| {
            let apart = squared_distance(means.centroids.row(cluster), means.centroids.row(other)).sqrt();
            (apart > 0.0).then(|| (spread[cluster] + spread[other]) / apart)
        });
        Ok(to_others.fold(0.0, f64::max))
    })?;
    Ok(Some(likeness.iter().sum::<f64>() / clusters as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_right_by_hand() {
        // Rows are 1 from their means, which are 10 apart.
        let data = Matrix::new(1, vec![0.0, 2.0, 10.0, 12.0, 99.0]).unwrap();
        let found = davies_bouldin(&data, &[0, 0, 1, 1, -1], Watch::nobody()).unwrap();
        assert!((found.unwrap() - 0.2).abs() < 1e-12);
    }

    #[test]
    fn is_nothing_for_one_cluster_and_finite_for_the_rest() {
        let data = Matrix::new(1, vec![1.0, 1.0, 1.0]).unwrap();
        assert_eq!(davies_bouldin(&data, &[4, 4, -1], Watch::nobody()), Ok(None));
        assert_eq!(davies_bouldin(&data, &[0, 0, 1], Watch::nobody()), Ok(Some(0.0)));
        let huge = Matrix::new(1, vec![0.0, 2e149, 10e149, 12e149].into_iter().map(|v| v / 2.0).collect()).unwrap();
        let found = davies_bouldin(&huge, &[0, 0, 1, 1], Watch::nobody()).unwrap();
        assert!((found.unwrap() - 0.2).abs() < 1e-9);
    }

    #[test]
    fn is_nothing_for_very_many_clusters() {
        let of = |clusters: usize| {
            let rows = 2 * clusters;
            let data = Matrix::new(1, (0..rows).map(|row| row as f64).collect()).unwrap();
            let labels: Vec<i32> = (0..rows).map(|row| (row / 2) as i32).collect();
            davies_bouldin(&data, &labels, Watch::nobody()).unwrap()
        };
        // Rows are a half from their means, the nearest of which are 2 apart.
        assert_eq!((of(MOST), of(MOST + 1)), (Some(0.5), None));
    }

    #[test]
    fn stops_when_told_to() {
        let data = Matrix::zeros(2, 1);
        let watch = Watch::new(&|| true, &|_| {});
        assert_eq!(davies_bouldin(&data, &[0, 1], watch), Err(LearningError::Cancelled));
    }
}
