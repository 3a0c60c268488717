use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Columns that vary the less the later they come, turned against each other.
fn table(rows: usize, columns: usize) -> Matrix {
    let mut random = stream(7, 0);
    let mut data = Matrix::zeros(rows, columns);
    for row in 0..rows {
        let hidden: Vec<f64> = (0..columns).map(|at| (random.random::<f64>() - 0.5) / (1.0 + at as f64)).collect();
        for (column, value) in data.row_mut(row).iter_mut().enumerate() {
            *value = hidden[column] + hidden[(column * 7 + 3) % columns] + 0.5 * hidden[0] * (column % 3) as f64 + 5.0;
        }
    }
    data
}

/// That components are perpendicular, and scores have the variances that they are said to have and do not covary.
fn assert_principal(data: &Matrix, pca: &Pca, count: usize) {
    for a in 0..count {
        for b in 0..=a {
            let product = dot(pca.components.row(a), pca.components.row(b));
            assert!((product - f64::from(a == b)).abs() < 1e-9, "{a} {b} {product}");
            let products = (0..data.rows()).map(|row| pca.scores.row(row)[a] * pca.scores.row(row)[b]);
            let covariance = products.sum::<f64>() / (data.rows() - 1) as f64;
            let expected = if a == b { pca.explained_variance[a] } else { 0.0 };
            assert!((covariance - expected).abs() < 1e-8 * pca.explained_variance[0], "{a} {b} {covariance}");
        }
    }
}

#[test]
fn components_are_principal_in_each_way_of_finding_them() {
    for (rows, columns) in [(50, 5), (200, 100), (40, 400), (400, 330)] {
        let data = table(rows, columns);
        let pca = fit(&data, 4, Watch::nobody()).unwrap();
        assert_principal(&data, &pca, 4);
        assert!(pca.explained_variance.windows(2).all(|pair| pair[0] >= pair[1]));
    }
}

#[test]
fn fewer_directions_than_asked_for_end_the_search() {
    // Three directions in a table that is large both ways.
    let (mut data, mut random) = (Matrix::zeros(330, 330), stream(9, 9));
    for row in 0..330 {
        let along: [f64; 3] = std::array::from_fn(|_| random.random());
        data.row_mut(row).iter_mut().enumerate().for_each(|(at, value)| *value = along[at % 3] * (at as f64).sin());
    }
    let pca = fit(&data, 8, Watch::nobody()).unwrap();
    assert_principal(&data, &pca, 3);
    assert!((pca.explained_variance_ratio.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(pca.explained_variance_ratio[3..].iter().all(|share| *share < 1e-12));
}

#[test]
fn the_ways_agree() {
    let data = table(400, 330);
    let centred = Centred::of(&data, Watch::nobody()).unwrap();
    let [a, b] = [centred.by_columns(3, Watch::nobody()), centred.by_krylov(3, Watch::nobody())].map(Result::unwrap);
    for component in 0..3 {
        assert!((a.squares[component] / b.squares[component] - 1.0).abs() < 1e-9);
        assert!((dot(a.components.row(component), b.components.row(component)).abs() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn many_components_are_found_some_at_once() {
    let data = table(400, 330);
    let pca = fit(&data, 200, Watch::nobody()).unwrap();
    assert_principal(&data, &pca, 200);
    assert!(pca.explained_variance.windows(2).all(|pair| pair[0] >= pair[1]));
    let centred = Centred::of(&data, Watch::nobody()).unwrap();
    let [a, b] =
        [centred.by_columns(200, Watch::nobody()), centred.by_krylov(200, Watch::nobody())].map(Result::unwrap);
    assert_eq!(b.squares.len(), 200);
    for (a, b) in a.squares.iter().zip(&b.squares) {
        assert!((a - b).abs() < 1e-9 * centred.squares, "{a} {b}");
    }
}

#[test]
fn directions_that_vary_alike_are_all_found() {
    // Each row has one value of its own, so that all columns vary alike.
    let mut data = Matrix::zeros(400, 330);
    (0..400).for_each(|row| data.row_mut(row)[row % 330] = 1.0);
    let pca = fit(&data, 150, Watch::nobody()).unwrap();
    assert_principal(&data, &pca, 150);
}

#[test]
fn a_line_has_one_component_and_the_others_are_zero() {
    let data = Matrix::new(2, vec![0.0, 0.0, 3.0, 4.0, 6.0, 8.0]).unwrap();
    let pca = fit(&data, 3, Watch::nobody()).unwrap();
    assert!((pca.components.row(0)[0] - 0.6).abs() < 1e-12 && (pca.components.row(0)[1] - 0.8).abs() < 1e-12);
    assert!((pca.explained_variance[0] - 25.0).abs() < 1e-12);
    assert!((pca.explained_variance_ratio[0] - 1.0).abs() < 1e-12);
    assert_eq!(pca.scores.columns(), 3);
    assert_eq!((pca.explained_variance.len(), pca.explained_variance[2]), (3, 0.0));
    assert!((0..3).all(|row| pca.scores.row(row)[2] == 0.0));
}

#[test]
fn degenerate_tables_are_an_error_or_finite() {
    for same in [Matrix::zeros(0, 2), Matrix::zeros(1, 2), Matrix::zeros(9, 2)] {
        assert_eq!(fit(&same, 2, Watch::nobody()), Err(LearningError::NoVariance));
    }
    let constant = Matrix::new(1, vec![0.1; 11]).unwrap();
    assert_eq!(fit(&constant, 2, Watch::nobody()), Err(LearningError::NoVariance));
    for size in [1e149, 1e-149, 1e-300] {
        let data = Matrix::new(2, vec![size, 0.3 * size, -size, size, 0.0, 0.5 * size]).unwrap();
        let pca = fit(&data, 3, Watch::nobody()).unwrap();
        assert!(pca.scores.values().iter().all(|score| score.is_finite() && score.abs() < 3.0 * size));
        assert!((pca.explained_variance_ratio.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn is_the_same_on_any_number_of_threads() {
    for data in [table(9_000, 7), table(40, 400), table(330, 330)] {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fit(&data, 3, Watch::nobody()).unwrap())
        };
        let one = on(1);
        assert!(one == on(2) && one == on(3));
    }
}

#[test]
fn stops_wherever_it_is_told_to() {
    for data in [table(9_000, 7), table(40, 400), table(330, 330)] {
        let asked = AtomicUsize::new(0);
        let count = || {
            asked.fetch_add(1, Ordering::Relaxed);
            false
        };
        fit(&data, 3, Watch::new(&count, &|_| {})).unwrap();
        let all = asked.load(Ordering::Relaxed);
        assert!(all > 20, "{all}");
        for at in (0..all).step_by(all / 10) {
            let left = AtomicUsize::new(at);
            let stop = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err();
            assert_eq!(fit(&data, 3, Watch::new(&stop, &|_| {})), Err(LearningError::Cancelled), "{at} of {all}");
        }
    }
}
