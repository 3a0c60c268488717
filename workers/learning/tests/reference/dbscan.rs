//! DBSCAN labels each row as scikit-learn does.

use fourmi_learning::{Watch, dbscan};

use crate::data::{SETS, expected, labels, set};

#[test]
fn labels_are_the_same() {
    for name in SETS {
        let theirs = expected("dbscan", name);
        let (eps, min_samples) = (theirs["eps"].as_f64().unwrap(), theirs["min_samples"].as_u64().unwrap() as usize);
        let ours = dbscan::fit(&set(name).matrix, eps, min_samples, Watch::nobody()).unwrap();
        assert_eq!(ours.labels, labels(&theirs["labels"]), "{name}");
        let cores = ours.core.iter().filter(|core| **core).count();
        assert_eq!(cores as u64, theirs["cores"].as_u64().unwrap(), "{name}");
    }
}

#[test]
fn the_bend_finds_the_clusters_of_blobs() {
    let set = set("blobs");
    let knee = dbscan::knee(&set.matrix, 5, 42, Watch::nobody()).unwrap();
    let ours = dbscan::fit(&set.matrix, knee.eps, 5, Watch::nobody()).unwrap();
    assert_eq!(ours.labels.iter().max(), Some(&7), "{}", knee.eps);
    assert!(fourmi_learning::metrics::adjusted_rand(&ours.labels, &set.classes) > 0.95);
}
