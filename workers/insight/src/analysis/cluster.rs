//! Groups of rows.

use fourmi_kinds::{
    AgglomerativeOptions, Clustering, DatasetAnalyze, DbscanOptions, HdbscanOptions, KMeansOptions, TriedClusters,
};
use fourmi_learning::{
    LearningError, Matrix, Watch,
    agglomerative::{self, Merge},
    choose_k::{self, Chosen},
    dbscan::{self, Knee},
    hdbscan, kmeans, metrics,
};
use fourmi_model::Failure;
use fourmi_runtime::Kept;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{algorithm, drawn, once, stages};
use crate::run::Run;

/// Groups of rows, and what was found out on the way.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Clustered {
    pub(crate) algorithm: String,
    /// The cluster of each row; -1 of rows in none.
    pub(crate) labels: Vec<i32>,
    pub(crate) probabilities: Option<Vec<f64>>,
    pub(crate) outlier_scores: Option<Vec<f64>>,
    pub(crate) stability: Option<f64>,
    pub(crate) eps: Option<f64>,
    pub(crate) inertia: Option<f64>,
    pub(crate) tried: Vec<TriedClusters>,
    /// The curve of distances to the neighbour that would make a row a core.
    pub(crate) k_distances: Vec<f64>,
    /// Where it bends.
    pub(crate) bend: f64,
    /// The joins of agglomerative clustering: both clusters, their distance, the rows of both.
    pub(crate) dendrogram: Vec<(u32, u32, f64, u32)>,
}

impl Clustered {
    /// How many clusters there are: labels count from 0.
    pub(crate) fn number(&self) -> usize {
        self.labels.iter().max().map_or(0, |label| (label + 1) as usize)
    }
}

/// Groups the rows; nothing if that is not asked for.
pub(crate) fn cluster(
    job: &DatasetAnalyze,
    data: &Matrix,
    kept: Option<&Kept>,
    run: &Run,
) -> Result<Option<Clustered>, Failure> {
    let seed = job.seed;
    let (name, clustered) = match &job.cluster {
        Clustering::None(_) => return Ok(None),
        Clustering::Kmeans(options) => (
            "K-Means",
            once(kept, "clusters", run, || watched(run, "K-Means", |watch| by_means(data, options, seed, watch))),
        ),
        Clustering::Dbscan(options) => (
            "DBSCAN",
            once(kept, "clusters", run, || watched(run, "DBSCAN", |watch| by_radius(data, options, seed, watch))),
        ),
        Clustering::Hdbscan(options) => (
            "HDBSCAN",
            once(kept, "clusters", run, || watched(run, "HDBSCAN", |watch| by_density(data, options, watch))),
        ),
        Clustering::Agglomerative(options) => (
            "agglomerative clustering",
            once(kept, "clusters", run, || {
                watched(run, "joining clusters", |watch| by_joining(data, options, seed, watch))
            }),
        ),
    };
    let clustered = clustered?;
    if clustered.labels.iter().all(|label| *label < 0) {
        return Err(all_noise(name, &job.cluster, &clustered).in_stage(stages::CLUSTERING.name));
    }
    Ok(Some(clustered))
}

fn watched(
    run: &Run,
    message: &str,
    work: impl FnOnce(Watch<'_>) -> Result<Clustered, LearningError>,
) -> Result<Clustered, Failure> {
    run.watched(stages::CLUSTERING, message, work).map_err(algorithm(stages::CLUSTERING))
}

fn all_noise(name: &str, options: &Clustering, clustered: &Clustered) -> Failure {
    let instead = match options {
        Clustering::Dbscan(_) if clustered.k_distances.is_empty() => "lower `cluster.min_samples`".to_owned(),
        Clustering::Dbscan(DbscanOptions { eps: Some(_), .. }) => {
            format!("try `cluster.eps` {}, or lower `cluster.min_samples`", rounded_up(clustered.bend))
        }
        // The bend was too small.
        Clustering::Dbscan(_) => {
            let largest = clustered.k_distances.last().copied().unwrap_or_default();
            format!("try `cluster.eps` {}, or lower `cluster.min_samples`", rounded_up(largest))
        }
        _ => "lower `cluster.min_cluster_size` or `cluster.min_samples`".to_owned(),
    };
    Failure::permanent("all_noise", format!("{name} found no cluster: all rows are noise; {instead}"))
}

/// A number as JSON, with four significant digits and no smaller than it is: what is rounded down reaches one row less.
fn rounded_up(number: f64) -> Value {
    let digits = |number: f64| format!("{number:.3e}");
    let read = |text: &str| text.parse().unwrap_or(number);
    let near: f64 = read(&digits(number));
    if near >= number {
        return near.into();
    }
    let text = digits(near);
    let exponent = text.split_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok()).unwrap_or_default();
    let last_digit: f64 = read(&format!("1e{}", exponent - 3));
    let above: f64 = read(&digits(near + last_digit));
    above.max(number).into()
}

/// The best number of clusters, by the silhouette.
fn choose(
    data: &Matrix,
    seed: u64,
    make: impl FnMut(usize, Watch<'_>) -> Result<Vec<i32>, LearningError>,
    watch: Watch<'_>,
) -> Result<Chosen, LearningError> {
    let silhouettes = |labels: &[Vec<i32>], watch: Watch<'_>| {
        let labels: Vec<&[i32]> = labels.iter().map(Vec::as_slice).collect();
        metrics::silhouettes(data, &labels, drawn(data.rows(), seed), watch)
    };
    choose_k::choose(data, make, &silhouettes, watch)
}

fn by_means(data: &Matrix, options: &KMeansOptions, seed: u64, watch: Watch<'_>) -> Result<Clustered, LearningError> {
    let (clusters, tried, rest) = match options.clusters {
        Some(clusters) => (clusters as usize, Vec::new(), watch),
        None => {
            let make = choose_k::of_kmeans(data, options, seed);
            let Chosen { best, tried, .. } = choose(data, seed, make, watch.part(0.0, 0.6))?;
            (tried[best].clusters as usize, tried, watch.part(0.6, 1.0))
        }
    };
    let found = kmeans::fit(data, clusters, options, seed, rest.part(0.0, 0.2))?;
    let stability = choose_k::stability(data, &found.labels, clusters, options, seed, rest.part(0.2, 1.0))?;
    Ok(Clustered {
        algorithm: "kmeans".to_owned(),
        labels: found.labels,
        inertia: Some(found.inertia),
        stability: Some(stability),
        tried,
        ..Clustered::default()
    })
}

fn by_radius(data: &Matrix, options: &DbscanOptions, seed: u64, watch: Watch<'_>) -> Result<Clustered, LearningError> {
    let min_samples = options.min_samples as usize;
    let (eps, labels, knee) = match options.eps {
        Some(eps) => {
            let labels = dbscan::fit(data, eps, min_samples, watch.part(0.0, 0.9))?.labels;
            let better = better_radius(data, &labels, min_samples, seed, watch.part(0.9, 1.0))?;
            (eps, labels, better)
        }
        None => {
            let knee = dbscan::knee(data, min_samples, seed, watch.part(0.0, 0.4))?;
            (knee.eps, dbscan::fit(data, knee.eps, min_samples, watch.part(0.4, 1.0))?.labels, Some(knee))
        }
    };
    let clustered = Clustered { algorithm: "dbscan".to_owned(), labels, eps: Some(eps), ..Clustered::default() };
    Ok(match knee {
        Some(knee) => Clustered { bend: knee.eps, k_distances: knee.curve, ..clustered },
        None => clustered,
    })
}

/// What to suggest instead of a radius with which nothing was found; nothing if it is not needed, or there is none.
fn better_radius(
    data: &Matrix,
    labels: &[i32],
    min_samples: usize,
    seed: u64,
    watch: Watch<'_>,
) -> Result<Option<Knee>, LearningError> {
    if labels.iter().any(|label| *label >= 0) {
        return Ok(None);
    }
    match dbscan::knee(data, min_samples, seed, watch) {
        Err(LearningError::Cancelled) => Err(LearningError::Cancelled),
        knee => Ok(knee.ok()),
    }
}

fn by_density(data: &Matrix, options: &HdbscanOptions, watch: Watch<'_>) -> Result<Clustered, LearningError> {
    let found = hdbscan::fit(data, options, watch)?;
    Ok(Clustered {
        algorithm: "hdbscan".to_owned(),
        labels: found.labels,
        probabilities: Some(found.probabilities),
        outlier_scores: Some(found.outlier_scores),
        ..Clustered::default()
    })
}

fn by_joining(
    data: &Matrix,
    options: &AgglomerativeOptions,
    seed: u64,
    watch: Watch<'_>,
) -> Result<Clustered, LearningError> {
    let rows = data.rows();
    if let Some(clusters) = options.clusters.filter(|clusters| *clusters as usize > rows) {
        return Err(LearningError::TooManyClusters { clusters: clusters as usize, rows });
    }
    let tree = agglomerative::fit(data, options.linkage, watch.part(0.0, 0.7))?;
    let (labels, tried) = match (options.clusters, options.distance) {
        (Some(clusters), _) => (tree.cut(clusters as usize), Vec::new()),
        (None, Some(distance)) => (tree.cut_at(distance), Vec::new()),
        (None, None) => {
            let chosen = choose(data, seed, |clusters, _| Ok(tree.cut(clusters)), watch.part(0.7, 1.0))?;
            (chosen.labels[chosen.best].clone(), chosen.tried)
        }
    };
    let dendrogram = tree.merges().iter().map(|Merge { a, b, distance, size }| (*a, *b, *distance, *size)).collect();
    Ok(Clustered { algorithm: "agglomerative".to_owned(), labels, tried, dendrogram, ..Clustered::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_radius_of(data: &Matrix, eps: Option<f64>) -> Result<Clustered, LearningError> {
        by_radius(data, &DbscanOptions { eps, min_samples: 5 }, 1, Watch::nobody())
    }

    #[test]
    fn a_radius_that_is_given_needs_no_bend() {
        // Four values of 25 rows each: the distances to the fifth row are all 0.
        let data = Matrix::new(1, (0..100).map(|row| f64::from(1 + row % 4)).collect()).unwrap();
        let found = by_radius_of(&data, Some(0.5)).unwrap();
        assert_eq!(found.labels, (0..100).map(|row| row % 4).collect::<Vec<_>>());
        assert_eq!((found.eps, found.k_distances.len()), (Some(0.5), 0));
        assert_eq!(by_radius_of(&data, None).err(), Some(LearningError::NoRadius { rows: 5 }));
    }

    #[test]
    fn a_better_radius_is_suggested_where_nothing_was_found() {
        let line = Matrix::new(1, (0..50).map(f64::from).collect()).unwrap();
        let found = by_radius_of(&line, Some(0.5)).unwrap();
        assert!(found.labels.iter().all(|label| *label == -1) && found.bend >= 2.0, "{}", found.bend);
        // One row alone tells no distance.
        let alone = by_radius_of(&Matrix::new(1, vec![1.0]).unwrap(), Some(0.5)).unwrap();
        assert_eq!((alone.labels.as_slice(), alone.bend), ([-1].as_slice(), 0.0));
        let options = Clustering::Dbscan(DbscanOptions { eps: Some(0.5), min_samples: 5 });
        let message = all_noise("DBSCAN", &options, &alone).message;
        assert!(message.ends_with("; lower `cluster.min_samples`"), "{message}");
    }

    #[test]
    fn a_radius_to_try_is_never_rounded_down() {
        for (number, text) in [
            (0.5, "0.5"),
            (0.123_44, "0.1235"),
            (0.999_91, "1.0"),
            (1_234.1, "1235.0"),
            (12_345_678.0, "12350000.0"),
            (1.000_1e-7, "1.001e-7"),
            (0.0, "0.0"),
        ] {
            assert_eq!(rounded_up(number).to_string(), text);
        }
        for number in [1e-300, 4.3e-300, 1.7e200, 3.3] {
            assert!(rounded_up(number).as_f64().unwrap() >= number, "{number}");
        }
    }
}
