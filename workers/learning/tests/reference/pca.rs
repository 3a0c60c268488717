//! PCA is scikit-learn's, to 1e-6 of the largest value of each kind, with the same signs.

use fourmi_learning::{Watch, pca};

use crate::data::{SETS, expected, numbers, set};

fn assert_same(what: &str, ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!((ours - theirs).abs() <= 1e-6 * largest, "{what} {at}: {ours} is not {theirs}");
    }
}

#[test]
fn is_the_same() {
    for name in SETS {
        let theirs = expected("pca", name);
        let ours = pca::fit(&set(name).matrix, 3, Watch::nobody()).unwrap();
        assert_same(name, &ours.means, &numbers(&theirs["means"]));
        assert_same(name, &ours.explained_variance, &numbers(&theirs["explained_variance"]));
        assert_same(name, &ours.explained_variance_ratio, &numbers(&theirs["explained_variance_ratio"]));
        for component in 0..3 {
            assert_same(name, ours.components.row(component), &numbers(&theirs["components"][component]));
        }
        for (row, scores) in theirs["scores"].as_array().unwrap().iter().enumerate() {
            assert_same(name, ours.scores.row(row), &numbers(scores));
        }
    }
}
