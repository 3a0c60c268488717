//! Maps can be trusted as much as those of umap-learn, within 0.01.

use fourmi_kinds::UmapOptions;
use fourmi_learning::{Watch, metrics::trustworthiness, umap};

use crate::data::{SETS, expected, set};

#[test]
fn can_be_trusted_as_much() {
    for name in SETS {
        let data = set(name).matrix;
        for dimensions in [2, 3] {
            let options = UmapOptions { dimensions, ..UmapOptions::default() };
            let map = umap::embed(&data, &options, 42, Watch::nobody()).unwrap();
            let ours = trustworthiness(&data, &map, 5, None, Watch::nobody()).unwrap().unwrap();
            let theirs = &expected("umap", name)[format!("{dimensions}d")]["trustworthiness"];
            assert!(ours > theirs.as_f64().unwrap() - 0.01, "{name} in {dimensions} dimensions: {ours}, not {theirs}");
        }
    }
}
