//! The clusters of all four linkages are those of scikit-learn, and so are the last distances.

use fourmi_kinds::Linkage;
use fourmi_learning::{Watch, agglomerative, metrics::adjusted_rand};

use crate::data::{SETS, assert_close, expected, labels, numbers, set};

#[test]
fn partitions_are_the_same() {
    let linkages = [
        ("ward", Linkage::Ward),
        ("complete", Linkage::Complete),
        ("average", Linkage::Average),
        ("single", Linkage::Single),
    ];
    for name in SETS {
        let (theirs, matrix) = (expected("agglomerative", name), set(name).matrix);
        let clusters = theirs["clusters"].as_u64().unwrap() as usize;
        for (key, linkage) in linkages {
            let ours = agglomerative::fit(&matrix, linkage, Watch::nobody()).unwrap();
            let same = adjusted_rand(&ours.cut(clusters), &labels(&theirs[key]["labels"]));
            assert_eq!(same, 1.0, "{name} {key}");
            let heights = numbers(&theirs[key]["heights"]);
            let last = &ours.merges()[ours.merges().len() - heights.len()..];
            last.iter().zip(&heights).for_each(|(merge, height)| assert_close(merge.distance, *height, 1e-9));
        }
    }
}
