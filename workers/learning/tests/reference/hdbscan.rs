//! HDBSCAN's clusters are those of scikit-learn but for a few rows: where distances are equal, as those of digits often are, the
//! tree that connects them may be another one.

use fourmi_kinds::{ClusterSelection, HdbscanOptions};
use fourmi_learning::{Watch, hdbscan, metrics::adjusted_rand};

use crate::data::{SETS, expected, labels, numbers, set};

/// The share of the rows whose values differ.
fn differing(ours: &[f64], theirs: &[f64]) -> f64 {
    let differ = ours.iter().zip(theirs).filter(|(ours, theirs)| (*ours - *theirs).abs() > 1e-3).count();
    differ as f64 / ours.len() as f64
}

#[test]
fn clusters_are_the_same() {
    for name in SETS {
        let (theirs, matrix) = (expected("hdbscan", name), set(name).matrix);
        for (key, theirs) in theirs.as_object().unwrap() {
            let selection = if key.starts_with("leaf") { ClusterSelection::Leaf } else { ClusterSelection::Eom };
            let whole = |field: &str| theirs[field].as_u64().unwrap() as u32;
            let (min_cluster_size, min_samples) = (whole("min_cluster_size"), Some(whole("min_samples")));
            let options = HdbscanOptions { min_cluster_size, min_samples, selection };
            let ours = hdbscan::fit(&matrix, &options, Watch::nobody()).unwrap();
            let same = adjusted_rand(&ours.labels, &labels(&theirs["labels"]));
            assert!(same >= 0.95, "{name} {key}: {same}");
            if name != "digits" && theirs["probabilities"].is_array() {
                let share = differing(&ours.probabilities, &numbers(&theirs["probabilities"]));
                assert!(share < 0.02, "{name} {key}: {share} of the probabilities");
            }
            if theirs["outlier_scores"].is_array() {
                let share = differing(&ours.outlier_scores, &numbers(&theirs["outlier_scores"]));
                assert!(share < 0.02, "{name} {key}: {share} of the outlier scores");
            }
        }
    }
}
