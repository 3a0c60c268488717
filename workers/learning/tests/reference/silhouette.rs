//! Silhouettes are scikit-learn's, to 1e-9.

use fourmi_learning::{
    Watch,
    metrics::{silhouette, silhouettes},
};

use crate::data::{SETS, assert_close, expected, labels, set};

#[test]
fn are_the_same() {
    for name in SETS {
        let theirs = expected("metrics", name);
        let set = set(name);
        let by_means = labels(&expected("kmeans", name)["labels"]);
        let by_density = labels(&expected("dbscan", name)["labels"]);
        let labelings = [("kmeans", &by_means), ("dbscan", &by_density), ("classes", &set.classes)];
        let together = silhouettes(&set.matrix, &labelings.map(|(_, labels)| labels.as_slice()), None, Watch::nobody());
        for ((kind, labels), together) in labelings.into_iter().zip(together.unwrap()) {
            let alone = silhouette(&set.matrix, labels, None, Watch::nobody()).unwrap();
            assert_eq!(alone, together);
            match theirs[kind]["silhouette"].as_f64() {
                Some(theirs) => assert_close(alone.unwrap(), theirs, 1e-9),
                None => assert_eq!(alone, None),
            }
        }
    }
}
