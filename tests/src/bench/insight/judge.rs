//! Whether our answer is as good as the others', by the tolerances of the tests: one judge for both.

use std::{fmt, path::Path};

use fourmi_kinds::Metric;
use fourmi_learning::{Matrix, Watch, metrics, neighbours};
use rayon::prelude::*;

use super::{Algorithm, pair, table};

/// Rows whose neighbours in a map are judged, if there are more.
const SAMPLE: (usize, u64) = (5_000, 1);

/// t-SNE's perplexity, and the neighbours that have a weight then.
const PERPLEXITY: f64 = 30.0;
const AFFINE: usize = 90;

/// Halvings by which a width is found.
const HALVINGS: usize = 60;

/// How good two answers are.
pub(super) struct Verdict {
    /// What was judged, ours and theirs. A comparison has one figure only.
    judged: Vec<(&'static str, f64, Option<f64>)>,
    equal: bool,
}

impl Verdict {
    /// Whether ours is no worse than it may be.
    pub(super) const fn is_equal(&self) -> bool {
        self.equal
    }

    fn of_both(name: &'static str, ours: f64, theirs: f64, equal: bool) -> Self {
        Self { judged: vec![(name, ours, Some(theirs))], equal }
    }

    /// Two clusterings: how far they are the same.
    fn of_partitions(ours: &[i32], theirs: &[i32], truth: &[i32], least: f64) -> Self {
        let same = metrics::adjusted_rand(ours, theirs);
        let (to_ours, to_theirs) = (metrics::adjusted_rand(ours, truth), metrics::adjusted_rand(theirs, truth));
        Self { judged: vec![("same", same, None), ("as drawn", to_ours, Some(to_theirs))], equal: same >= least }
    }

    fn and(mut self, other: Self) -> Self {
        self.judged.extend(other.judged);
        Self { judged: self.judged, equal: self.equal && other.equal }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, ours, theirs) in &self.judged {
            write!(formatter, "{name} {ours:.6}")?;
            if let Some(theirs) = theirs {
                write!(formatter, " {theirs:.6}")?;
            }
            formatter.write_str("  ")?;
        }
        formatter.write_str(if self.equal { "equal" } else { "WORSE" })
    }
}

/// Judges the two answers in a folder.
pub(super) fn judge(folder: &Path, algorithm: Algorithm) -> Verdict {
    let watch = Watch::nobody();
    let data = table::load(&folder.join("data.npy"));
    let truth = table::load_labels(&folder.join("labels.npy"));
    let outliers = table::load_labels(&folder.join("outliers.npy"));
    let paths = [pair::answer_of_ours(folder), pair::answer_of_theirs(folder)];
    let [ours, theirs] = paths.each_ref().map(|path| table::load(path));
    let labels = || paths.each_ref().map(|path| table::load_labels(path));
    let trust =
        |map: &Matrix| metrics::trustworthiness(&data, map, 5, Some(SAMPLE), watch).unwrap().unwrap_or(f64::NAN);
    let trusted = || {
        let (ours, theirs) = (trust(&ours), trust(&theirs));
        Verdict::of_both("trustworthiness", ours, theirs, ours >= theirs - 0.01)
    };
    match algorithm {
        Algorithm::Pca => {
            let apart = apart(&ours, &theirs);
            Verdict { judged: vec![("apart", apart, None)], equal: apart <= 1e-6 }
        }
        Algorithm::Umap => trusted(),
        Algorithm::Tsne => {
            let affinities = Affinities::of(&data);
            let (kl, other) = (affinities.divergence(&ours), affinities.divergence(&theirs));
            Verdict::of_both("divergence", kl, other, kl <= 1.1 * other).and(trusted())
        }
        Algorithm::Kmeans => {
            let [ours, theirs] = labels().map(|labels| metrics::inertia(&data, &labels, watch).unwrap());
            Verdict::of_both("inertia", ours, theirs, ours <= 1.01 * theirs)
        }
        Algorithm::Dbscan | Algorithm::Agglomerative => {
            let [ours, theirs] = labels();
            Verdict::of_partitions(&ours, &theirs, &truth, 1.0 - 1e-12)
        }
        Algorithm::Hdbscan => {
            let [ours, theirs] = labels();
            Verdict::of_partitions(&ours, &theirs, &truth, 0.95)
        }
        Algorithm::IsolationForest => {
            let (ours, theirs) = (area(ours.values(), &outliers), area(theirs.values(), &outliers));
            Verdict::of_both("AUC", ours, theirs, ours >= theirs - 0.02)
        }
        Algorithm::Silhouette | Algorithm::Large => {
            let (ours, theirs) = (ours.values()[0], theirs.values()[0]);
            Verdict::of_both("silhouette", ours, theirs, (ours - theirs).abs() <= 1e-9)
        }
    }
}

/// The largest difference of two maps whose axes may be turned round.
fn apart(ours: &Matrix, theirs: &Matrix) -> f64 {
    let column = |map: &Matrix, column| map.values().iter().skip(column).step_by(map.columns()).copied().collect();
    let apart = |at| {
        let (ours, theirs): (Vec<f64>, Vec<f64>) = (column(ours, at), column(theirs, at));
        let apart = |sign: f64| ours.iter().zip(&theirs).map(|(a, b)| (a - sign * b).abs()).fold(0.0, f64::max);
        apart(1.0).min(apart(-1.0))
    };
    (0..ours.columns()).map(apart).fold(0.0, f64::max)
}

/// The area under the curve: how often an outlier has a higher score than another row (Mann and Whitney 1947).
fn area(scores: &[f64], outliers: &[i32]) -> f64 {
    let mut order: Vec<_> = scores.iter().zip(outliers).collect();
    order.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let (mut below, mut wins, mut all) = (0.0, 0.0, 0.0);
    for tied in order.chunk_by(|(a, _), (b, _)| a == b) {
        let found = tied.iter().filter(|(_, outlier)| **outlier == 1).count() as f64;
        let others = tied.len() as f64 - found;
        wins += found * (below + others / 2.0);
        below += others;
        all += found;
    }
    wins / (below * all)
}

/// How near rows are to one another, as t-SNE weighs it (van der Maaten and Hinton 2008).
struct Affinities {
    neighbours: neighbours::Neighbours,
    /// Of each row for each of its neighbours; the weights of a row add up to 1.
    weights: Vec<f64>,
    /// The sum of p ln p over all pairs.
    entropy: f64,
}

impl Affinities {
    fn of(data: &Matrix) -> Self {
        let neighbours = neighbours::nearest(data, AFFINE, Metric::Euclidean, Watch::nobody()).unwrap();
        let k = neighbours.k;
        let weights = (0..data.rows()).into_par_iter().flat_map_iter(|row| weights(neighbours.distances_of(row)));
        let weights: Vec<f64> = weights.collect();
        let of = |from: usize, to: u32| {
            let place = neighbours.of(from).iter().position(|other| *other == to);
            place.map_or(0.0, |place| weights[from * k + place])
        };
        let pairs = 2.0 * data.rows() as f64;
        let term = |row: usize| {
            let each = neighbours.of(row).iter().zip(&weights[row * k..]).map(|(other, weight)| {
                let back = of(*other as usize, row as u32);
                let p = (weight + back) / pairs;
                // Who is not chosen in return comes here only once for two pairs.
                let times = if back > 0.0 { 1.0 } else { 2.0 };
                if p > 0.0 { times * p * p.ln() } else { 0.0 }
            });
            each.sum::<f64>()
        };
        let entropy = (0..data.rows()).into_par_iter().map(term).collect::<Vec<_>>().iter().sum();
        Self { neighbours, weights, entropy }
    }

    /// The Kullback-Leibler divergence of a map, from all pairs.
    fn divergence(&self, map: &Matrix) -> f64 {
        let rows = map.rows();
        let apart =
            |a: usize, b: usize| 1.0 + map.row(a).iter().zip(map.row(b)).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let sums = (0..rows).into_par_iter().map(|row| {
            let k = self.neighbours.k;
            let near = self.neighbours.of(row).iter().zip(&self.weights[row * k..]);
            let pulled: f64 = near.map(|(other, weight)| weight * apart(row, *other as usize).ln()).sum();
            let pushed: f64 = (0..row).map(|other| 1.0 / apart(row, other)).sum();
            (pulled / rows as f64, 2.0 * pushed)
        });
        let (pulled, all) =
            sums.collect::<Vec<_>>().iter().fold((0.0, 0.0), |sums, part| (sums.0 + part.0, sums.1 + part.1));
        self.entropy + pulled + all.ln()
    }
}

/// Gaussian weights whose perplexity is the one that is wanted.
fn weights(distances: &[f64]) -> Vec<f64> {
    let nearest = distances.first().copied().unwrap_or_default().powi(2);
    let at = |precision: f64| {
        let raw: Vec<f64> =
            distances.iter().map(|distance| (-precision * (distance.powi(2) - nearest)).exp()).collect();
        let sum: f64 = raw.iter().sum();
        raw.into_iter().map(|weight| weight / sum).collect::<Vec<_>>()
    };
    let entropy = |weights: &[f64]| -> f64 { weights.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum() };
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut precision: f64 = 1.0;
    for _ in 0..HALVINGS {
        if entropy(&at(precision)) > PERPLEXITY.ln() {
            low = precision;
            precision = if high.is_finite() { f64::midpoint(low, high) } else { 2.0 * precision };
        } else {
            high = precision;
            precision = f64::midpoint(low, high);
        }
    }
    at(precision)
}
