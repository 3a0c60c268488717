//! K-Means ends as low as scikit-learn's, within 1 %, with the same clusters but for a few rows.

use fourmi_kinds::KMeansOptions;
use fourmi_learning::{
    Watch, kmeans,
    metrics::{adjusted_rand, inertia},
};
use linfa::{
    DatasetBase,
    traits::{Fit, Predict},
};
use linfa_clustering::KMeansInit;
use ndarray::Array2;

use crate::data::{SETS, expected, labels, set};

#[test]
fn inertia_is_as_low() {
    for name in SETS {
        let theirs = expected("kmeans", name);
        let matrix = set(name).matrix;
        let clusters = theirs["clusters"].as_u64().unwrap() as usize;
        for seed in [42, 43, 44] {
            let ours = kmeans::fit(&matrix, clusters, &KMeansOptions::default(), seed, Watch::nobody()).unwrap();
            let (best, found) = (theirs["best_inertia"].as_f64().unwrap(), ours.inertia);
            assert!((best * (1.0 - 1e-6)..best * 1.01).contains(&found), "{name} {seed}: {found}, theirs {best}");
            let same = adjusted_rand(&ours.labels, &labels(&theirs["labels"]));
            assert!(same > 0.9, "{name} {seed}: {same}");
        }
    }
}

#[test]
fn linfa_finds_nothing_lower_from_where_we_end() {
    for name in SETS {
        let matrix = set(name).matrix;
        let clusters = expected("kmeans", name)["clusters"].as_u64().unwrap() as usize;
        let ours = kmeans::fit(&matrix, clusters, &KMeansOptions::default(), 42, Watch::nobody()).unwrap();
        let array =
            |rows: usize, values: &[f64]| Array2::from_shape_vec((rows, matrix.columns()), values.to_vec()).unwrap();
        let data = DatasetBase::from(array(matrix.rows(), matrix.values()));
        let start = KMeansInit::Precomputed(array(clusters, ours.centroids.values()));
        let params = linfa_clustering::KMeans::params(clusters).init_method(start).n_runs(1).max_n_iterations(300);
        let labels = params.fit(&data).unwrap().predict(&data);
        let labels: Vec<i32> = labels.iter().map(|label| *label as i32).collect();
        let theirs = inertia(&matrix, &labels, Watch::nobody()).unwrap();
        assert!(ours.inertia <= theirs * (1.0 + 1e-3), "{name}: {}, linfa {theirs}", ours.inertia);
    }
}
