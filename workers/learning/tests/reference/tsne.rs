//! t-SNE keeps rows together as well as openTSNE's and scikit-learn's.

use fourmi_kinds::{Metric, TsneOptions};
use fourmi_learning::{Matrix, Watch, neighbours, tsne};

use crate::data::{SETS, expected, set};

/// Neighbours by which a map is judged.
const NEIGHBOURS: usize = 5;

/// How few rows are near in the map that are not in the data (Venna and Kaski 2001).
fn trustworthiness(data: &Matrix, map: &Matrix) -> f64 {
    let rows = data.rows();
    let near = |matrix: &Matrix, k: usize| neighbours::nearest(matrix, k, Metric::Euclidean, Watch::nobody()).unwrap();
    let (all, shown) = (near(data, rows - 1), near(map, NEIGHBOURS));
    let penalty: usize = (0..rows)
        .flat_map(|row| shown.of(row).iter().map(move |other| (row, other)))
        .map(|(row, other)| {
            let rank = 1 + all.of(row).iter().position(|neighbour| neighbour == other).unwrap();
            rank.saturating_sub(NEIGHBOURS)
        })
        .sum();
    let (n, k) = (rows as f64, NEIGHBOURS as f64);
    1.0 - 2.0 / (n * k * (2.0 * n - 3.0 * k - 1.0)) * penalty as f64
}

#[test]
fn maps_are_as_good() {
    for name in SETS {
        let (data, theirs) = (set(name).matrix, expected("tsne", name));
        for (dimensions, libraries) in [(2, &["openTSNE_2d", "sklearn_2d"][..]), (3, &["sklearn_3d"])] {
            let options = TsneOptions { dimensions, ..TsneOptions::default() };
            let ours = tsne::embed(&data, &options, 42, Watch::nobody()).unwrap();
            let trust = trustworthiness(&data, &ours.embedding);
            // A third dimension leaves no more of the divergence than two.
            let flat = theirs["openTSNE_2d"]["kl"].as_f64().unwrap();
            assert!(ours.kl_divergence <= 1.1 * flat, "{name} in {dimensions} dimensions: {}", ours.kl_divergence);
            for &library in libraries {
                let theirs = |value: &str| theirs[library][value].as_f64().unwrap();
                assert!(trust >= theirs("trustworthiness") - 0.01, "{name}, {library}: {trust}");
                // It may be better: scikit-learn's forces in three dimensions lead to a poorer divergence.
                assert!(ours.kl_divergence <= 1.1 * theirs("kl"), "{name}, {library}: {}", ours.kl_divergence);
            }
        }
    }
}
