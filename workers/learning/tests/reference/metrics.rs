//! Measures of clusterings are scikit-learn's, to 1e-9.

use fourmi_learning::{
    Watch,
    metrics::{adjusted_rand, calinski_harabasz, davies_bouldin, inertia},
};

use crate::data::{SETS, assert_close, expected, labels, set};

#[test]
fn are_the_same() {
    for name in SETS {
        let theirs = expected("metrics", name);
        let set = set(name);
        let by_means = labels(&expected("kmeans", name)["labels"]);
        let by_density = labels(&expected("dbscan", name)["labels"]);
        for (kind, labels) in [("kmeans", &by_means), ("dbscan", &by_density), ("classes", &set.classes)] {
            let ours = [calinski_harabasz, davies_bouldin].map(|of| of(&set.matrix, labels, Watch::nobody()).unwrap());
            if theirs[kind].is_null() {
                assert_eq!(ours, [None, None]);
            } else {
                assert_close(ours[0].unwrap(), theirs[kind]["calinski_harabasz"].as_f64().unwrap(), 1e-9);
                assert_close(ours[1].unwrap(), theirs[kind]["davies_bouldin"].as_f64().unwrap(), 1e-9);
            }
        }
        let rand = |pair: &str| theirs["adjusted_rand"][pair].as_f64().unwrap();
        assert_close(adjusted_rand(&set.classes, &by_means), rand("classes_kmeans"), 1e-9);
        assert_close(adjusted_rand(&set.classes, &by_density), rand("classes_dbscan"), 1e-9);
        assert_close(adjusted_rand(&by_means, &by_density), rand("kmeans_dbscan"), 1e-9);
        let within = inertia(&set.matrix, &by_means, Watch::nobody()).unwrap();
        // Its start may have ended by the tolerance, a little above the inertia around the means.
        assert_close(within, expected("kmeans", name)["inertia"].as_f64().unwrap(), 1e-5);
    }
}
