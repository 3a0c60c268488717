//! K-Means ends as low as scikit-learn's, within 1 %, with the same clusters but for a few rows.

use fourmi_kinds::KMeansOptions;
use fourmi_learning::{Watch, kmeans, metrics::adjusted_rand};

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
