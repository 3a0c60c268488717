//! A large table in little memory.

use std::{path::Path, process::Command};

use fourmi_kinds::{IsolationForestOptions, KMeansOptions};
use fourmi_learning::{Watch, isolation_forest, kmeans, metrics, pca};

use super::{
    Algorithm, CLUSTERS, Figure, Goal, pair,
    solver::{self, Cost},
    table,
};

const ROWS: usize = 200_000;
const COLUMNS: usize = 50;
const MOST_MIB: f64 = 1024.0;

/// Rows of the silhouette, and the seed that they are drawn with.
const SAMPLE: (usize, u64) = (10_000, 42);

/// The peak of a process that does all of it.
pub(super) fn measure(folder: &Path) -> Figure {
    let folder = folder.join("large");
    table::write(&folder, ROWS, COLUMNS);
    let mut command = Command::new(std::env::current_exe().unwrap());
    let nowhere = folder.join("nothing.npy");
    let cost = pair::cost(command.arg("insight-fit"), &folder, Algorithm::Large, 1.0, 42, &nowhere);
    let mib = cost.map_or(f64::NAN, |cost| cost.rss_bytes as f64 / (1024.0 * 1024.0));
    if let Some(cost) = cost {
        eprintln!("large: {:.1} s, {mib:.1} MiB", cost.seconds);
    }
    Figure::of("large_rss_mib", "MiB", Goal::AtMost(MOST_MIB), &[mib])
}

/// Does all of it, one after the other; what one gives is kept until the end, as the worker does.
pub(super) fn fit(folder: &Path) -> Cost {
    let data = table::load(&folder.join("data.npy"));
    let (watch, idle_bytes, started) = (Watch::nobody(), solver::memory("VmRSS:"), std::time::Instant::now());
    let reduced = pca::fit(&data, 3, watch).unwrap();
    let clusters = kmeans::fit(&data, CLUSTERS, &KMeansOptions::default(), 42, watch).unwrap();
    let isolated = isolation_forest::fit(&data, &IsolationForestOptions::default(), 42, watch).unwrap();
    let silhouette = metrics::silhouette(&data, &clusters.labels, Some(SAMPLE), watch).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert!(silhouette.is_some() && reduced.scores.rows() == ROWS && isolated.scores.len() == ROWS);
    Cost { seconds, idle_bytes, rss_bytes: solver::memory("VmHWM:") }
}
