//! Spread between clusters against that within them.

use super::{Means, squared_distance};
use crate::{LearningError, Matrix, Watch};

/// Spread between clusters against that within them, each by its degrees of freedom (Caliński and Harabasz 1974, "A dendrite
/// method for cluster analysis"): more is better. As in scikit-learn it is 1 if there is none within. Rows with a negative
/// label are left out; nothing if less than two clusters remain, or as many as rows.
///
/// # Errors
/// [`LearningError::Cancelled`]
pub fn calinski_harabasz(data: &Matrix, labels: &[i32], watch: Watch<'_>) -> Result<Option<f64>, LearningError> {
    let means = Means::of(data, labels, watch.part(0.0, 0.5))?;
    let (clusters, rows) = (means.sizes.len(), means.rows());
    if clusters < 2 || clusters >= rows {
        return Ok(None);
    }
    let mut within = 0.0;
    means.each_distance(data, labels, watch.part(0.5, 1.0), |_, _, squared| within += squared)?;
    let centre = centre(&means);
    let between: f64 = (0..clusters)
        .map(|cluster| means.sizes[cluster] as f64 * squared_distance(means.centroids.row(cluster), &centre))
        .sum();
    Ok(Some(if within == 0.0 { 1.0 } else { between * (rows - clusters) as f64 / (within * (clusters - 1) as f64) }))
}

/// The mean of all rows that are in a cluster.
fn centre(means: &Means) -> Vec<f64> {
    let rows = means.rows() as f64;
    let mut centre = vec![0.0; means.centroids.columns()];
    for (cluster, size) in means.sizes.iter().enumerate() {
        for (sum, mean) in centre.iter_mut().zip(means.centroids.row(cluster)) {
            *sum += mean * (*size as f64 / rows);
        }
    }
    centre
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_right_by_hand() {
        // Means 1 and 11, of all 6: between 4 * 25, within 4 * 1; degrees 1 and 2.
        let data = Matrix::new(1, vec![0.0, 2.0, 10.0, 12.0, 99.0]).unwrap();
        let found = calinski_harabasz(&data, &[0, 0, 1, 1, -1], Watch::nobody()).unwrap();
        assert!((found.unwrap() - 50.0).abs() < 1e-12);
    }

    #[test]
    fn is_nothing_for_one_cluster_and_finite_for_the_rest() {
        let data = Matrix::new(1, vec![1.0, 1.0, 1.0]).unwrap();
        assert_eq!(calinski_harabasz(&data, &[0, 0, -1], Watch::nobody()), Ok(None));
        assert_eq!(calinski_harabasz(&data, &[0, 1, 2], Watch::nobody()), Ok(None));
        assert_eq!(calinski_harabasz(&data, &[0, 0, 1], Watch::nobody()), Ok(Some(1.0)));
        let huge = Matrix::new(1, vec![0.0, 2e149, 10e149, 12e149].into_iter().map(|v| v / 2.0).collect()).unwrap();
        let found = calinski_harabasz(&huge, &[0, 0, 1, 1], Watch::nobody()).unwrap();
        assert!((found.unwrap() - 50.0).abs() < 1e-9);
    }

    #[test]
    fn stops_when_told_to() {
        let data = Matrix::zeros(2, 1);
        let watch = Watch::new(&|| true, &|_| {});
        assert_eq!(calinski_harabasz(&data, &[0, 1], watch), Err(LearningError::Cancelled));
    }
}
