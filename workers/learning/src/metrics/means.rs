//! The means of clusters.

use crate::{LearningError, Matrix, Watch};

/// Rows between two questions whether to go on.
const ROWS: usize = 256;

/// The means of clusters. A row with a negative label is in none.
pub(crate) struct Means {
    /// The label of each cluster, ascending.
    pub(crate) labels: Vec<i32>,
    /// Rows of each cluster.
    pub(crate) sizes: Vec<usize>,
    /// The mean of each cluster (clusters x columns), times `scale`.
    pub(crate) centroids: Matrix,
    /// What values were multiplied by, so that their squares are finite: 1 but for enormous ones.
    pub(crate) scale: f64,
}

impl Means {
    /// One pass over all rows, in their order.
    pub(crate) fn of(data: &Matrix, labels: &[i32], watch: Watch<'_>) -> Result<Self, LearningError> {
        let mut known: Vec<i32> = labels.iter().copied().filter(|label| *label >= 0).collect();
        known.sort_unstable();
        known.dedup();
        let scale = safe_scale(data);
        let mut means = Self {
            sizes: vec![0; known.len()],
            centroids: Matrix::zeros(known.len(), data.columns()),
            labels: known,
            scale,
        };
        for (row, label) in labels.iter().enumerate() {
            if row % ROWS == 0 {
                watch.step(row, labels.len())?;
            }
            if let Some(cluster) = means.cluster(*label) {
                means.sizes[cluster] += 1;
                for (sum, value) in means.centroids.row_mut(cluster).iter_mut().zip(data.row(row)) {
                    *sum += value * scale;
                }
            }
        }
        for (cluster, size) in means.sizes.iter().enumerate() {
            means.centroids.row_mut(cluster).iter_mut().for_each(|sum| *sum /= *size as f64);
        }
        Ok(means)
    }

    /// Which cluster has a label.
    pub(crate) fn cluster(&self, label: i32) -> Option<usize> {
        self.labels.binary_search(&label).ok()
    }

    /// The clusters' rows.
    pub(crate) fn rows(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// Calls for each row of a cluster: with the row, its cluster, and its squared distance to the mean, times `scale`².
    pub(crate) fn each_distance(
        &self,
        data: &Matrix,
        labels: &[i32],
        watch: Watch<'_>,
        mut call: impl FnMut(usize, usize, f64),
    ) -> Result<(), LearningError> {
        for (row, label) in labels.iter().enumerate() {
            if row % ROWS == 0 {
                watch.step(row, labels.len())?;
            }
            if let Some(cluster) = self.cluster(*label) {
                let centroid = self.centroids.row(cluster);
                let values = data.row(row).iter().map(|value| value * self.scale);
                call(row, cluster, values.zip(centroid).map(|(value, mean)| (value - mean).powi(2)).sum());
            }
        }
        Ok(())
    }
}

/// The sum of the squared distances of rows to the means of their clusters, which K-Means makes small. Rows with a negative
/// label are left out.
///
/// # Errors
/// [`LearningError::Cancelled`]
pub fn inertia(data: &Matrix, labels: &[i32], watch: Watch<'_>) -> Result<f64, LearningError> {
    let means = Means::of(data, labels, watch.part(0.0, 0.5))?;
    let mut sum = 0.0;
    means.each_distance(data, labels, watch.part(0.5, 1.0), |_, _, squared| sum += squared)?;
    Ok((sum / means.scale / means.scale).min(f64::MAX))
}

/// The squared distance of two rows.
pub(crate) fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// What to multiply values by, so that sums of their squares are finite: 1 but for enormous ones.
pub(crate) fn safe_scale(data: &Matrix) -> f64 {
    let largest = data.values().iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    if largest > 1e100 { 1.0 / largest } else { 1.0 }
}
