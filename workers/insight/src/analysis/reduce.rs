//! Places for the rows.

use fourmi_kinds::{DatasetAnalyze, Reduction, ReductionReport};
use fourmi_learning::{
    LearningError, Matrix, Watch,
    pca::{self, Pca},
    tsne, umap,
};
use fourmi_model::Failure;
use fourmi_runtime::Kept;
use serde::{Deserialize, Serialize};

use super::{algorithm, once, stages};
use crate::run::Run;

/// To so many dimensions columns are reduced before t-SNE and UMAP, if there are more.
const BEFORE: usize = 50;

/// Columns that are named for each dimension.
const LOADINGS: usize = 10;

/// Places for the rows.
pub(crate) struct Reduced {
    /// The columns as they were reduced before, if they were.
    pub(crate) space: Option<Matrix>,
    /// The places.
    pub(crate) map: Option<Matrix>,
    pub(crate) report: Option<ReductionReport>,
}

/// What is kept of it for a next run.
#[derive(Serialize, Deserialize)]
struct KeptMap {
    columns: usize,
    values: Vec<f64>,
    report: ReductionReport,
}

/// To how many dimensions the columns are reduced before anything else, if they are.
pub(crate) fn before(job: &DatasetAnalyze, columns: usize) -> Option<usize> {
    let is_neighbourly = matches!(job.reduce, Reduction::Tsne(_) | Reduction::Umap(_));
    match job.pre_reduce {
        Some(0) => None,
        Some(dimensions) => Some(dimensions as usize),
        None => is_neighbourly.then_some(BEFORE),
    }
    .filter(|dimensions| *dimensions < columns)
}

pub(crate) fn reduce(
    job: &DatasetAnalyze,
    features: &Matrix,
    names: &[String],
    kept: Option<&Kept>,
    run: &Run,
) -> Result<Reduced, Failure> {
    let before = before(job, features.columns());
    // PCA comes first, and takes a small part of the time of what comes after it.
    let first = if before.is_some() { 0.1 } else { 0.0 };
    let space = match before {
        Some(dimensions) => Some(
            run.watched(stages::REDUCE, "PCA", |watch| pca::fit(features, dimensions, watch.part(0.0, first)))
                .map_err(algorithm(stages::REDUCE))?
                .scores,
        ),
        None => None,
    };
    let Some(name) = name(&job.reduce) else { return Ok(Reduced { space, map: None, report: None }) };
    let data = space.as_ref().unwrap_or(features);
    let KeptMap { columns, values, mut report } = once(kept, "map", run, || {
        run.watched(stages::REDUCE, name, |watch| embed(job, features, data, names, watch.part(first, 1.0)))
            .map_err(algorithm(stages::REDUCE))
    })?;
    report.pre_reduced_to = before.map(|dimensions| dimensions as u32);
    let map = Matrix::new(columns, values).map_err(algorithm(stages::REDUCE))?;
    Ok(Reduced { space, map: Some(map), report: Some(report) })
}

/// What people call it; nothing if there is none.
fn name(reduction: &Reduction) -> Option<&'static str> {
    match reduction {
        Reduction::Pca(_) => Some("PCA"),
        Reduction::Tsne(_) => Some("t-SNE"),
        Reduction::Umap(_) => Some("UMAP"),
        Reduction::None(_) => None,
    }
}

fn embed(
    job: &DatasetAnalyze,
    features: &Matrix,
    data: &Matrix,
    names: &[String],
    watch: Watch<'_>,
) -> Result<KeptMap, LearningError> {
    let report = |algorithm: &str, dimensions: u8| ReductionReport {
        algorithm: algorithm.to_owned(),
        dimensions,
        pre_reduced_to: None,
        explained_variance: Vec::new(),
        loadings: Vec::new(),
        kl_divergence: None,
        trustworthiness: None,
    };
    let (map, report) = match &job.reduce {
        Reduction::Pca(options) => {
            let pca = pca::fit(features, usize::from(options.dimensions), watch)?;
            let report = ReductionReport {
                explained_variance: pca.explained_variance_ratio.clone(),
                loadings: loadings(&pca, names),
                ..report("pca", options.dimensions)
            };
            (pca.scores, report)
        }
        Reduction::Tsne(options) => {
            let embedded = tsne::embed(data, options, job.seed, watch)?;
            let kl_divergence = Some(embedded.kl_divergence);
            (embedded.embedding, ReductionReport { kl_divergence, ..report("tsne", options.dimensions) })
        }
        Reduction::Umap(options) => (umap::embed(data, options, job.seed, watch)?, report("umap", options.dimensions)),
        Reduction::None(_) => (Matrix::zeros(features.rows(), 1), report("none", 1)),
    };
    Ok(KeptMap { columns: map.columns(), values: map.values().to_vec(), report })
}

/// The columns that weigh most in each dimension.
fn loadings(pca: &Pca, names: &[String]) -> Vec<Vec<(String, f64)>> {
    let of_component = |component: usize| {
        let weights = pca.components.row(component);
        let mut columns: Vec<usize> = (0..weights.len()).collect();
        columns.sort_by(|a, b| weights[*b].abs().total_cmp(&weights[*a].abs()).then(a.cmp(b)));
        columns.into_iter().take(LOADINGS).map(|column| (names[column].clone(), weights[column])).collect()
    };
    (0..pca.components.rows()).map(of_component).collect()
}
