//! Isolation Forest scores as scikit-learn's, but for chance.

use fourmi_kinds::IsolationForestOptions;
use fourmi_learning::{Watch, isolation_forest};

use crate::data::{SETS, expected, numbers, set};

/// How likely an outlier has a higher score than another row (Mann and Whitney 1947).
fn auc(scores: &[f64], classes: &[i32]) -> f64 {
    let of = |outlier: bool| scores.iter().zip(classes).filter(move |(_, class)| (**class < 0) == outlier);
    let (mut higher, mut pairs) = (0.0, 0.0);
    for (outlier, _) in of(true) {
        for (other, _) in of(false) {
            pairs += 1.0;
            higher += if outlier > other { 1.0 } else { f64::from(outlier == other) / 2.0 };
        }
    }
    higher / pairs
}

#[test]
fn scores_are_the_same_but_for_chance() {
    const SEEDS: u64 = 20;
    for name in SETS {
        let theirs = expected("isolation_forest", name);
        let set = set(name);
        let runs: Vec<_> = (0..SEEDS)
            .map(|seed| {
                let options = IsolationForestOptions::default();
                isolation_forest::fit(&set.matrix, &options, seed, Watch::nobody()).unwrap().scores
            })
            .collect();
        let mean = |row: usize| runs.iter().map(|scores| scores[row]).sum::<f64>() / SEEDS as f64;
        let ours: Vec<f64> = (0..set.matrix.rows()).map(mean).collect();
        let apart = ours.iter().zip(numbers(&theirs["mean_scores"])).map(|(ours, theirs)| ours - theirs);
        let (mut worst, mut sum) = (0.0_f64, 0.0);
        apart.for_each(|apart| (worst, sum) = (worst.max(apart.abs()), sum + apart));
        assert!(worst < 0.03 && sum.abs() / ours.len() as f64 <= 0.004, "{name}: {worst} {sum}");
        if let Some(expected) = theirs["mean_auc"].as_f64() {
            let found = runs.iter().map(|scores| auc(scores, &set.classes)).sum::<f64>() / SEEDS as f64;
            assert!((found - expected).abs() <= 0.02, "{name}: {found}, theirs {expected}");
        }
    }
}
