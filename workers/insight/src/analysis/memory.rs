//! Whether all steps will fit into memory, before the first is taken; but how many clusters there are is found out on the way.

use fourmi_kinds::{Anomalies, ClusterOn, Clustering, DatasetAnalyze, Linkage, Reduction};
use fourmi_learning::{
    Matrix, agglomerative, dbscan, hdbscan, isolation_forest, kmeans, metrics, pca, profile, tsne, umap,
};
use fourmi_model::Failure;
use fourmi_tables::Prepared;

use super::{Data, EFFECTS, reduce::before, stages};
use crate::failure::too_large;

/// Of each row: its place, label, probability, score, also as they are written.
const OF_ROW: u64 = 128;

/// Clusters that are tried at most, if their number is to be found.
const MOST_TRIED: usize = 10;

/// A step: its name, the columns that it works on, what it takes beside them, and what to do if that is too much.
type Step = (&'static str, usize, u64, &'static str);

/// Of each number that a cluster is told by: its name, in the result and as it is written.
const OF_NUMBER: u64 = 128;

/// Whether the clusters can be measured and described, of which there may be as many as rows.
pub(super) fn check_clusters(data: &Data<'_>, clusters: usize, memory: u64) -> Result<(), Failure> {
    let Data { features, originals, clustered } = *data;
    let (rows, columns) = (features.rows(), features.columns());
    let original = originals.map_or(columns, Matrix::columns);
    let held = held(features, originals.map_or(0, |originals| originals.values().len()));
    let copy = if clustered.columns() < columns { 8 * clustered.values().len() as u64 } else { 0 };
    let told = OF_NUMBER * (clusters.min(profile::DESCRIBED) * (original + EFFECTS)) as u64;
    let described = profile::memory(rows, [original, columns, clustered.columns()], clusters);
    let needed = metrics::memory(rows, clustered.columns(), 1, clusters).max(described);
    let all = held + copy + told + needed;
    if all > memory {
        let step = format!("measuring {clusters} clusters");
        let instead = "ask for fewer or larger clusters";
        return Err(too_large(&step, rows, columns, all, memory, instead).in_stage(stages::METRICS.name));
    }
    Ok(())
}

/// Bytes that are there during all steps.
fn held(features: &Matrix, originals: usize) -> u64 {
    8 * (features.values().len() + originals) as u64 + OF_ROW * features.rows() as u64
}

pub(crate) fn check(job: &DatasetAnalyze, features: &Matrix, table: &Prepared, memory: u64) -> Result<(), Failure> {
    let rows = features.rows();
    let held = held(features, table.originals.len());
    for (name, columns, needed, instead) in steps(job, rows, features.columns()) {
        // Input of fewer columns is a copy.
        let copy = if columns < features.columns() { 8 * (rows * columns) as u64 } else { 0 };
        let all = held.saturating_add(copy).saturating_add(needed);
        if all > memory {
            return Err(too_large(name, rows, columns, all, memory, instead).in_stage(stages::PREPROCESS.name));
        }
    }
    Ok(())
}

fn steps(job: &DatasetAnalyze, rows: usize, columns: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let before = before(job, columns);
    if let Some(dimensions) = before {
        let needed = pca::memory(rows, columns, dimensions);
        steps.push(("PCA", columns, needed, "lower `pre_reduce`, or select fewer columns"));
    }
    let reduced = before.unwrap_or(columns);
    match &job.reduce {
        Reduction::Pca(options) => {
            let needed = pca::memory(rows, columns, usize::from(options.dimensions));
            steps.push(("PCA", columns, needed, "select fewer columns"));
        }
        Reduction::Tsne(options) => {
            steps.push((
                "t-SNE",
                reduced,
                tsne::memory(rows, reduced, options),
                "take UMAP or PCA, or a lower perplexity",
            ));
        }
        Reduction::Umap(options) => {
            steps.push(("UMAP", reduced, umap::memory(rows, reduced, options), "take PCA, or fewer neighbours"));
        }
        Reduction::None(_) => {}
    }
    let on = match (job.cluster_on, &job.reduce) {
        (ClusterOn::Features, _) => columns,
        (ClusterOn::Reduced, _) => reduced,
        (ClusterOn::Embedding, Reduction::Pca(options)) => options.dimensions.into(),
        (ClusterOn::Embedding, Reduction::Tsne(options)) => options.dimensions.into(),
        (ClusterOn::Embedding, Reduction::Umap(options)) => options.dimensions.into(),
        (ClusterOn::Embedding, Reduction::None(_)) => columns,
    };
    match &job.cluster {
        Clustering::Kmeans(options) => {
            let clusters = options.clusters.map_or(MOST_TRIED, |clusters| clusters as usize);
            let tried = if options.clusters.is_none() { (MOST_TRIED * rows * 4) as u64 } else { 0 };
            steps.push(("K-Means", on, tried + kmeans::memory(rows, on, clusters, options), "ask for fewer clusters"));
        }
        Clustering::Dbscan(options) => {
            let min_samples = options.min_samples as usize;
            let needed = dbscan::memory(rows, on).max(dbscan::knee_memory(rows, on, min_samples));
            steps.push(("DBSCAN", on, needed, "take K-Means"));
        }
        Clustering::Hdbscan(options) => {
            steps.push(("HDBSCAN", on, hdbscan::memory(rows, on, options), "take K-Means or DBSCAN"));
        }
        Clustering::Agglomerative(options) => {
            let instead = match options.linkage {
                Linkage::Complete | Linkage::Average => "take the linkage \"ward\" or \"single\", or HDBSCAN",
                Linkage::Ward | Linkage::Single => "take HDBSCAN or K-Means",
            };
            let needed = agglomerative::memory(rows, on, options.linkage);
            steps.push(("agglomerative clustering", on, needed, instead));
        }
        Clustering::None(_) => {}
    }
    if let Anomalies::IsolationForest(options) = &job.anomalies {
        let needed = isolation_forest::memory(rows, columns, options);
        steps.push(("the Isolation Forest", columns, needed, "ask for fewer trees or samples"));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_clusters_are_refused() {
        let features = Matrix::zeros(1_000, 2);
        let data = Data { features: &features, originals: None, clustered: &features };
        let check = |clusters| check_clusters(&data, clusters, 16 << 20);
        assert_eq!(check(10), Ok(()));
        let error = check(1_000_000).unwrap_err();
        assert_eq!((error.code.as_str(), error.stage.as_deref()), ("too_large_for_algorithm", Some("metrics")));
        assert!(error.message.starts_with("measuring 1000000 clusters on 1000 rows"), "{}", error.message);
    }
}
