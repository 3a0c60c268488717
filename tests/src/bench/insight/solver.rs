//! Our side: one fit of one algorithm in a process of its own, by the same rules as `tests/clients/insight.py`.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use fourmi_kinds::{HdbscanOptions, IsolationForestOptions, KMeansOptions, Linkage, TsneOptions, UmapOptions};
use fourmi_learning::{
    LearningError, Matrix, Watch, agglomerative, dbscan, hdbscan, isolation_forest, kmeans, metrics, pca, tsne, umap,
};
use serde::{Deserialize, Serialize};

use super::{Algorithm, CLUSTERS, THREADS, large, quantile, table};

/// Rows of the fit that warms up.
const WARM_UP_ROWS: usize = 300;

/// A fit is repeated until it took so long, but not more often than this.
const LEAST_SECONDS: f64 = 1.0;
const MOST_FITS: usize = 20;

/// Steps of t-SNE: as many as openTSNE takes.
const TSNE_STEPS: u32 = 750;

/// What is to be fitted.
#[derive(Debug, clap::Args)]
pub struct Task {
    algorithm: Algorithm,
    /// Holds `data.npy` and `labels.npy`.
    folder: PathBuf,
    /// Takes what comes out.
    result: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    eps: f64,
}

/// What a fit cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Cost {
    /// Seconds of a fit: the median of several, if it is a short one.
    pub(super) seconds: f64,
    /// Resident memory before it, the table included.
    pub(super) idle_bytes: u64,
    /// The peak of resident memory.
    pub(super) rss_bytes: u64,
}

/// Does it, writes the answer, and prints its cost as JSON.
pub fn solve(task: &Task) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build().unwrap();
    let cost =
        pool.install(|| if task.algorithm == Algorithm::Large { large::fit(&task.folder) } else { measure(task) });
    println!("{}", serde_json::to_string(&cost).unwrap());
}

fn measure(task: &Task) -> Cost {
    let data = table::load(&task.folder.join("data.npy"));
    let labels = table::load_labels(&task.folder.join("labels.npy"));
    let few = Matrix::new(data.columns(), data.values()[..WARM_UP_ROWS * data.columns()].to_vec()).unwrap();
    fit(task, &few, &labels[..WARM_UP_ROWS]).unwrap();
    let idle_bytes = memory("VmRSS:");
    let mut seconds = Vec::new();
    let answer = loop {
        let started = Instant::now();
        let answer = fit(task, &data, &labels).unwrap();
        seconds.push(started.elapsed().as_secs_f64());
        if seconds.iter().sum::<f64>() >= LEAST_SECONDS || seconds.len() == MOST_FITS {
            break answer;
        }
    };
    let rss_bytes = memory("VmHWM:");
    table::save(&task.result, answer.columns(), answer.values());
    seconds.sort_by(f64::total_cmp);
    Cost { seconds: quantile(&seconds, 0.5), idle_bytes, rss_bytes }
}

/// The map, a label or a score for each row, or the silhouette alone.
fn fit(task: &Task, data: &Matrix, labels: &[i32]) -> Result<Matrix, LearningError> {
    let (seed, watch) = (task.seed, Watch::nobody());
    let column = |values: Vec<f64>| Matrix::new(1, values);
    let labelled = |labels: Vec<i32>| column(labels.into_iter().map(f64::from).collect());
    match task.algorithm {
        Algorithm::Pca => Ok(pca::fit(data, 3, watch)?.scores),
        Algorithm::Tsne => {
            let options = TsneOptions { dimensions: 2, iterations: TSNE_STEPS, ..TsneOptions::default() };
            Ok(tsne::embed(data, &options, seed, watch)?.embedding)
        }
        Algorithm::Umap => umap::embed(data, &UmapOptions { dimensions: 2, ..UmapOptions::default() }, seed, watch),
        Algorithm::Kmeans => labelled(kmeans::fit(data, CLUSTERS, &KMeansOptions::default(), seed, watch)?.labels),
        Algorithm::Dbscan => labelled(dbscan::fit(data, task.eps, 5, watch)?.labels),
        Algorithm::Hdbscan => labelled(hdbscan::fit(data, &HdbscanOptions::default(), watch)?.labels),
        Algorithm::Agglomerative => labelled(agglomerative::fit(data, Linkage::Ward, watch)?.cut(CLUSTERS)),
        Algorithm::IsolationForest => {
            column(isolation_forest::fit(data, &IsolationForestOptions::default(), seed, watch)?.scores)
        }
        Algorithm::Silhouette | Algorithm::Large => {
            column(vec![metrics::silhouette(data, labels, None, watch)?.unwrap_or(f64::NAN)])
        }
    }
}

/// A field of this process's status, in bytes.
pub(super) fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}
