use std::sync::atomic::{AtomicUsize, Ordering};

use rand::RngExt;
use rayon::ThreadPoolBuilder;

use super::*;
use crate::stream;

/// Three far clouds of rows.
fn clouds(rows: usize, columns: usize, seed: u64) -> Matrix {
    let mut chance = stream(seed, 0);
    let at = |index: usize| if index % columns == index / columns % 3 { 10.0 } else { 0.0 };
    Matrix::new(columns, (0..rows * columns).map(|index| at(index) + chance.random_range(-1.0..1.0)).collect()).unwrap()
}

fn options(dimensions: u8, perplexity: f64, iterations: u32) -> TsneOptions {
    TsneOptions { dimensions, perplexity, iterations, ..TsneOptions::default() }
}

/// Places at random, as dense in the middle as maps are.
fn places<const D: usize>(rows: usize, spread: f32) -> Vec<[f32; D]> {
    let mut chance = stream(7, 0);
    (0..rows).map(|_| std::array::from_fn(|_| spread * chance.random_range(-1.0_f32..1.0).powi(3))).collect()
}

/// The root mean square by which forces differ, as a share of that of the forces; and by how much the sums differ.
fn deviation<const D: usize>(places: &[[f32; D]], repulsion: &mut dyn Repulsion<D>) -> (f64, f64) {
    let mut forces = [vec![[0.0; D]; places.len()], vec![[0.0; D]; places.len()]];
    let exact = Exact::default().repel(places, &mut forces[0], Watch::nobody()).unwrap();
    let rough = repulsion.repel(places, &mut forces[1], Watch::nobody()).unwrap();
    let square = |force: &[f32; D]| force.iter().map(|part| f64::from(part * part)).sum::<f64>();
    let apart = |(a, b): (&[f32; D], &[f32; D])| square(&std::array::from_fn(|axis| a[axis] - b[axis]));
    let wrong = forces[0].iter().zip(&forces[1]).map(apart).sum::<f64>();
    ((wrong / forces[0].iter().map(square).sum::<f64>()).sqrt(), (rough / exact - 1.0).abs())
}

/// Says whether rows of a cloud have only such nearest to them.
fn assert_parted(embedded: &Embedded) {
    let map = &embedded.embedding;
    let near = neighbours::nearest(map, 3, Metric::Euclidean, Watch::nobody()).unwrap();
    let stray = (0..map.rows()).flat_map(|row| near.of(row).iter().map(move |&other| (row, other as usize)));
    assert_eq!(stray.filter(|(row, other)| row % 3 != other % 3).count(), 0);
    assert!(embedded.kl_divergence > 0.0 && embedded.kl_divergence < 3.0, "{}", embedded.kl_divergence);
}

#[test]
fn exact_forces_are_those_of_the_definition() {
    let places = places::<3>(70, 5.0);
    let mut forces = vec![[0.0; 3]; 70];
    let sum = Exact::default().repel(&places, &mut forces, Watch::nobody()).unwrap();
    let (mut expected, mut all) = (vec![[0.0_f64; 3]; 70], 0.0);
    for (row, other) in (0..70).flat_map(|row| (0..70).map(move |other| (row, other))).filter(|(a, b)| a != b) {
        let apart = |axis: usize| f64::from(places[row][axis]) - f64::from(places[other][axis]);
        let q = 1.0 / (1.0 + (0..3).map(|axis| apart(axis) * apart(axis)).sum::<f64>());
        all += q;
        (0..3).for_each(|axis| expected[row][axis] += q * q * apart(axis));
    }
    assert!((sum / all - 1.0).abs() < 1e-6);
    for (force, expected) in forces.iter().zip(&expected) {
        (0..3).for_each(|axis| assert!((f64::from(force[axis]) - expected[axis]).abs() < 1e-5));
    }
}

#[test]
fn trees_are_near_the_exact_forces() {
    for spread in [1e-4, 1.0, 30.0] {
        let (forces, sum) = deviation(&places::<2>(2_000, spread), &mut BarnesHut::new(0.5));
        assert!(forces < 0.01 && sum < 0.005, "2D, {spread}: {forces}, {sum}");
        let (forces, sum) = deviation(&places::<3>(2_000, spread), &mut BarnesHut::new(0.5));
        assert!(forces < 0.01 && sum < 0.005, "3D, {spread}: {forces}, {sum}");
        let (forces, sum) = deviation(&places::<3>(2_000, spread), &mut BarnesHut::new(0.05));
        assert!(forces < 1e-4 && sum < 1e-4, "3D with a small angle, {spread}: {forces}, {sum}");
    }
}

#[test]
fn grids_are_near_the_exact_forces() {
    // Boxes as wide as the reach of the forces are what openTSNE takes too; narrower ones do better.
    for (spread, most) in [(1e-4, 0.02), (1.0, 0.02), (30.0, 0.12), (80.0, 0.12)] {
        let (forces, sum) = deviation(&places::<2>(2_000, spread), &mut Interpolation::new(0.5));
        assert!(forces < most && sum < 0.02, "{spread}: {forces}, {sum}");
    }
    // Too large for a grid.
    let (forces, sum) = deviation(&places::<2>(2_000, 1e5), &mut Interpolation::new(0.5));
    assert!(forces < 0.01 && sum < 0.005, "{forces}, {sum}");
}

#[test]
fn rows_in_the_same_place_push_as_many() {
    let places = vec![[1.0_f32; 2]; 500];
    let mut forces = vec![[9.0; 2]; 500];
    for repulsion in [&mut BarnesHut::new(0.5) as &mut dyn Repulsion<2>, &mut Interpolation::new(0.5)] {
        let sum = repulsion.repel(&places, &mut forces, Watch::nobody()).unwrap();
        assert!((sum / (500.0 * 499.0) - 1.0).abs() < 1e-3, "{sum}");
        assert!(forces.iter().flatten().all(|force| force.abs() < 1e-2));
    }
}

#[test]
fn clouds_stay_apart() {
    for dimensions in [2, 3] {
        assert_parted(&embed(&clouds(120, 4, 1), &options(dimensions, 10.0, 500), 1, Watch::nobody()).unwrap());
    }
}

#[test]
fn all_ways_of_summing_up_lead_to_maps_as_good() {
    let data = clouds(600, 4, 2);
    let options = options(2, 15.0, 500);
    let ways: [Box<dyn Repulsion<2>>; 3] =
        [Box::new(Exact::default()), Box::new(BarnesHut::new(0.5)), Box::new(Interpolation::new(0.5))];
    let maps = ways.map(|way| place(&data, &options, 1, Watch::nobody(), way).unwrap());
    maps.iter().for_each(assert_parted);
    for map in &maps[1..] {
        assert!((map.kl_divergence / maps[0].kl_divergence - 1.0).abs() < 0.05, "{}", map.kl_divergence);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let data = clouds(700, 5, 3);
    let on = |threads: usize, way: fn() -> Box<dyn Repulsion<2>>| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| place(&data, &options(2, 10.0, 260), 5, Watch::nobody(), way()).unwrap())
    };
    let ways: [fn() -> Box<dyn Repulsion<2>>; 3] =
        [|| Box::new(Exact::default()), || Box::new(BarnesHut::new(0.5)), || Box::new(Interpolation::new(0.5))];
    for way in ways {
        let one = on(1, way);
        assert_eq!(one, on(2, way));
        assert_eq!(one, on(3, way));
    }
    let on = |threads: usize| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| embed(&data, &options(3, 10.0, 260), 5, Watch::nobody()).unwrap())
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn stops_in_every_stage() {
    let data = clouds(400, 3, 4);
    let options = options(2, 10.0, 250);
    let asked = AtomicUsize::new(0);
    let count = || {
        asked.fetch_add(1, Ordering::Relaxed);
        false
    };
    embed(&data, &options, 1, Watch::new(&count, &|_| {})).unwrap();
    let all = asked.load(Ordering::Relaxed);
    for stop in [1, 2, 5, 10, all / 100, all / 10, all / 2, all - 1] {
        let asked = AtomicUsize::new(0);
        let stopped = || asked.fetch_add(1, Ordering::Relaxed) >= stop;
        let result = embed(&data, &options, 1, Watch::new(&stopped, &|_| {}));
        assert_eq!(result.unwrap_err(), LearningError::Cancelled, "after {stop} of {all}");
        // Others may be asking at that moment, but nobody starts anew.
        assert!(asked.load(Ordering::Relaxed) <= stop + 64, "after {stop}");
    }
}

#[test]
fn each_way_of_summing_up_stops() {
    let places = places::<2>(3_000, 20.0);
    let mut forces = vec![[0.0; 2]; 3_000];
    let ways: [fn() -> Box<dyn Repulsion<2>>; 3] =
        [|| Box::new(Exact::default()), || Box::new(BarnesHut::new(0.5)), || Box::new(Interpolation::new(0.5))];
    for way in ways {
        for stop in [0, 1, 2, 20] {
            let asked = AtomicUsize::new(0);
            let stopped = || asked.fetch_add(1, Ordering::Relaxed) >= stop;
            let result = way().repel(&places, &mut forces, Watch::new(&stopped, &|_| {}));
            assert_eq!(result.unwrap_err(), LearningError::Cancelled);
        }
    }
}

#[test]
fn progress_only_grows_up_to_the_end() {
    let last = std::sync::Mutex::new((0.0, 0));
    let report = |share: f64| {
        let mut last = last.lock().unwrap();
        assert!(share >= last.0, "{share} after {}", last.0);
        *last = (share, last.1 + 1);
    };
    let pool = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| embed(&clouds(60, 3, 5), &options(3, 5.0, 300), 1, Watch::new(&|| false, &report)).unwrap());
    let (share, reports) = *last.lock().unwrap();
    assert!(share == 1.0 && reports > 300, "{share}, {reports}");
}

#[test]
fn too_few_rows_or_too_high_a_perplexity_are_errors() {
    let of = |rows: usize, perplexity: f64| {
        embed(&clouds(rows, 3, 6), &options(2, perplexity, 250), 1, Watch::nobody())
            .map(|embedded| embedded.embedding.rows())
    };
    for rows in 0..4 {
        assert_eq!(of(rows, 2.0), Err(LearningError::TooFewRows { rows, least: 4, what: "t-SNE" }));
    }
    let limit = 2.0;
    assert_eq!(of(7, 2.0), Err(LearningError::PerplexityTooHigh { perplexity: 2.0, rows: 7, limit }));
    assert_eq!(of(8, 2.0), Ok(8));
    assert!(matches!(of(91, 30.0), Err(LearningError::PerplexityTooHigh { .. })));
    assert_eq!(of(92, 30.0), Ok(92));
}

#[test]
fn odd_data_give_finite_maps() {
    let twins = Matrix::new(2, (0..400).map(|index| f64::from(index / 2 % 2)).collect()).unwrap();
    let lone = Matrix::new(1, (0..100).map(|row| if row == 0 { 1.0 } else { 0.0 }).collect()).unwrap();
    let line = Matrix::new(1, (0..100).map(f64::from).collect()).unwrap();
    let huge = Matrix::new(2, (0..200).map(|index| f64::from(index * 37 % 101) * 1e147).collect()).unwrap();
    let tiny = Matrix::new(2, (0..200).map(|index| f64::from(index * 37 % 101) * 1e-140).collect()).unwrap();
    for (name, data) in [("twins", twins), ("lone", lone), ("line", line), ("huge", huge), ("tiny", tiny)] {
        for dimensions in [2, 3] {
            match embed(&data, &options(dimensions, 5.0, 300), 1, Watch::nobody()) {
                Ok(embedded) => {
                    assert!(embedded.embedding.values().iter().all(|value| value.is_finite()), "{name}");
                    assert!(embedded.kl_divergence.is_finite(), "{name}: {}", embedded.kl_divergence);
                }
                Err(error) => assert_eq!((name, error), ("tiny", LearningError::NoVariance)),
            }
        }
    }
    let alike = Matrix::new(2, vec![3.0; 100]).unwrap();
    assert_eq!(embed(&alike, &options(2, 5.0, 250), 1, Watch::nobody()), Err(LearningError::NoVariance));
}

#[test]
fn reckless_steps_stay_finite() {
    let reckless = TsneOptions { learning_rate: Some(1e6), early_exaggeration: 100.0, ..options(2, 5.0, 400) };
    let embedded = embed(&clouds(50, 3, 8), &reckless, 1, Watch::nobody()).unwrap();
    assert!(embedded.embedding.values().iter().all(|value| value.is_finite()));
    assert!(embedded.kl_divergence.is_finite());
}

#[test]
fn memory_grows_with_the_rows_and_the_neighbours() {
    let of = |rows: usize, perplexity: f64| memory(rows, 20, &options(3, perplexity, 1_000));
    assert!(of(50_000, 30.0) > 50_000 * 90 * 8 && of(50_000, 30.0) < 200_000_000);
    assert!(of(100_000, 30.0) > of(50_000, 30.0) && of(50_000, 50.0) > of(50_000, 30.0));
}
