//! What the algorithms of `fourmi-learning` cost beside scikit-learn, openTSNE and umap-learn, in pairs: one fit in a process
//! of its own, two threads, and nothing counts that gives a worse answer.

mod judge;
mod large;
mod pair;
mod solver;
mod table;

use std::path::Path;

use clap::ValueEnum as _;
use tempfile::TempDir;

use super::{Figure, Goal, Report, quantile};
use judge::Verdict;
use pair::Pair;
pub use solver::{Task, solve};

/// Threads of a fit, on both sides.
const THREADS: usize = 2;

/// Columns of the tables.
const COLUMNS: usize = 20;

/// Clusters in the tables, and those that are asked for.
const CLUSTERS: usize = 8;

/// Rounds of what takes seconds, and of what takes a minute.
const ROUNDS: u64 = 3;
const LONG_ROUNDS: u64 = 1;

/// The most memory, as a share of the other's.
const MEMORY: f64 = 0.5;

/// An algorithm that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Algorithm {
    /// Three principal components.
    Pca,
    /// t-SNE in two dimensions, 750 steps.
    Tsne,
    /// UMAP in two dimensions.
    Umap,
    /// K-Means, ten starts.
    Kmeans,
    /// DBSCAN.
    Dbscan,
    /// HDBSCAN.
    Hdbscan,
    /// Ward's linkage.
    Agglomerative,
    /// 100 trees of 256 rows, and the score of each row.
    IsolationForest,
    /// The silhouette of all rows.
    Silhouette,
    /// K-Means, PCA, a sampled silhouette and an Isolation Forest of 200,000 rows x 50 columns, one after the other.
    Large,
}

impl Algorithm {
    /// Its name in figures.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The most time, as a share of the other's.
    const fn time(self) -> f64 {
        match self {
            Self::Silhouette | Self::Umap | Self::Tsne => 0.5,
            Self::Hdbscan | Self::Agglomerative | Self::Kmeans | Self::IsolationForest | Self::Large => 0.8,
            Self::Dbscan | Self::Pca => 1.2,
        }
    }

    const fn rounds(self, rows: Rows) -> u64 {
        match (self, rows) {
            (Self::Tsne | Self::Umap | Self::Hdbscan | Self::Silhouette, Rows::Many) => LONG_ROUNDS,
            _ => ROUNDS,
        }
    }

    /// Whether it is made for so many rows: all pairs of 50,000 are refused.
    fn takes(self, rows: Rows) -> bool {
        !(self == Self::Agglomerative && rows == Rows::Many)
    }
}

/// How many rows a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Rows {
    /// 1,000.
    #[value(name = "1k")]
    Few,
    /// 10,000.
    #[value(name = "10k")]
    Some,
    /// 50,000.
    #[value(name = "50k")]
    Many,
}

impl Rows {
    const fn count(self) -> usize {
        match self {
            Self::Few => 1_000,
            Self::Some => 10_000,
            Self::Many => 50_000,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Few => "1k",
            Self::Some => "10k",
            Self::Many => "50k",
        }
    }

    /// A radius that leaves most outliers alone: the distance to the 4th other row, of nine rows in ten.
    const fn eps(self) -> f64 {
        match self {
            Self::Few => 3.1,
            Self::Some => 2.6,
            Self::Many => 2.35,
        }
    }
}

/// Measures the algorithms and sizes that are named, or all of them.
pub fn run(mut report: Report, only: &[Algorithm], sizes: &[Rows]) -> Report {
    let python = std::env::var("FOURMI_RIVALS").expect("scripts/bench says where the other libraries are");
    let folder = TempDir::new().unwrap();
    let wanted = |algorithm: Algorithm| only.is_empty() || only.contains(&algorithm);
    eprintln!("{}", Pair::HEADER);
    for rows in Rows::value_variants().iter().filter(|rows| sizes.is_empty() || sizes.contains(rows)) {
        let folder = folder.path().join(rows.name());
        table::write(&folder, rows.count(), COLUMNS);
        let algorithms = Algorithm::value_variants().iter().filter(|algorithm| **algorithm != Algorithm::Large);
        for algorithm in algorithms.filter(|algorithm| wanted(**algorithm) && algorithm.takes(*rows)) {
            compare(&mut report, Path::new(&python), &folder, *algorithm, *rows);
        }
    }
    if only.contains(&Algorithm::Large) || only.is_empty() && sizes.is_empty() {
        report.add(&large::measure(folder.path()));
    }
    report
}

/// Adds the two figures of an algorithm at a size. What answers worse than the other has met no goal.
fn compare(report: &mut Report, python: &Path, folder: &Path, algorithm: Algorithm, rows: Rows) {
    let pairs: Vec<_> = (0..algorithm.rounds(rows))
        .map(|round| {
            let pair = Pair::measure(python, folder, algorithm, rows.eps(), round);
            let verdict = pair.as_ref().map(|_| judge::judge(folder, algorithm));
            eprintln!("{}", Pair::line(algorithm, rows, pair.as_ref(), verdict.as_ref()));
            (pair, verdict)
        })
        .collect();
    let equal = pairs.iter().all(|(_, verdict)| verdict.as_ref().is_some_and(Verdict::is_equal));
    if !equal {
        let name = algorithm.name();
        eprintln!("*** {name} {}: one failed, or ours is worse: the figures are not met ***", rows.name());
    }
    let ratios = |of: fn(&Pair) -> f64| pairs.iter().map(|(pair, _)| pair.as_ref().map_or(f64::NAN, of)).collect();
    let time: Vec<f64> = ratios(Pair::time_ratio);
    let memory: Vec<f64> = ratios(Pair::memory_ratio);
    for (what, most, ratios) in [("time", algorithm.time(), time), ("memory", MEMORY, memory)] {
        let name = format!("{}_{}_{what}_ratio", algorithm.name(), rows.name());
        let mut figure = Figure::of(name, "ratio", Goal::AtMost(most), &ratios);
        figure.met = figure.met.map(|met| met && equal);
        report.add(&figure);
    }
}
