//! From a table to a map of it: which steps, in which order, within how much memory.

mod cluster;
mod memory;
mod reduce;
pub(crate) mod stages;
mod write;

use std::{
    fs,
    path::{Path, PathBuf},
};

use fourmi_kinds::{
    Anomalies, AnomalousRow, AnomalyReport, ClusterOn, ClusterProfile, ClusteringReport, DatasetAnalyze,
    DatasetAnalyzed, DatasetNote, Reduction,
};
use fourmi_learning::{
    LearningError, Matrix,
    isolation_forest::{self, Isolated},
    metrics,
    profile::{self, Profile},
};
use fourmi_model::Failure;
use fourmi_runtime::Kept;
use fourmi_tables::{Limits, Points, Preparation, Prepared};
use serde::{Serialize, de::DeserializeOwned};

use self::{cluster::Clustered, reduce::Reduced};
use crate::{
    failure,
    files::{read_json, write_json},
    results::EDITION,
    run::{Run, Stage},
};

pub(crate) use write::{POINTS, POINTS_JSON, REPORT};

/// With more rows, what looks at all pairs of them looks at so many drawn rows against all.
const ALL_PAIRS: usize = 10_000;

/// Rows that are drawn then.
const DRAWN: usize = 2_000;

/// Neighbours that the trustworthiness of a map is measured by.
const TRUSTED_NEIGHBOURS: usize = 5;

/// The highest scores that are told.
const TOP_ANOMALIES: usize = 100;

/// Columns that are named as the reason of one.
const REASONS: usize = 5;

/// Columns that are named as what sets a cluster apart.
const EFFECTS: usize = 10;

/// What came out. Its files are in the folder, and not stored yet.
pub(crate) struct Analysis {
    pub(crate) result: DatasetAnalyzed,
    /// Whether the points are few enough to be there as JSON too.
    pub(crate) has_json: bool,
}

/// Some rows of many, if there are many.
pub(crate) fn drawn(rows: usize, seed: u64) -> Option<(usize, u64)> {
    (rows > ALL_PAIRS).then_some((DRAWN, seed))
}

/// A stage in the words of jobs.
fn algorithm(stage: Stage) -> impl Fn(LearningError) -> Failure {
    move |error| failure::of_algorithm(&error).in_stage(stage.name)
}

/// What an earlier run of the job computed with the same algorithms, or what is computed now.
fn once<T: Serialize + DeserializeOwned>(
    kept: Option<&Kept>,
    name: &str,
    run: &Run,
    compute: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Some(kept) = kept else { return compute() };
    // A worker of another edition may have been at it before.
    let place = kept.folder().join(format!("{name}-{EDITION}.json"));
    if let Some(earlier) = read_json(&place, &|| !run.is_cancelled()) {
        return Ok(earlier);
    }
    let computed = compute()?;
    let part = place.with_extension("part");
    // A run that follows is worth the time that it takes.
    let written = write_json(&part, &computed, &|| !run.is_cancelled_for_good());
    // Without it the next run computes it again, and no more.
    if let Err(error) = written.and_then(|()| fs::rename(&part, &place)) {
        tracing::debug!(%error, "a checkpoint could not be written");
    }
    Ok(computed)
}

/// What an analysis is of.
pub(crate) struct Subject {
    pub(crate) job: DatasetAnalyze,
    /// Where the table is.
    pub(crate) path: PathBuf,
    pub(crate) input_hash: String,
    pub(crate) config_hash: String,
}

/// Makes the map within so many bytes of memory, with its files in `folder`.
pub(crate) fn run(
    subject: &Subject,
    folder: &Path,
    memory: u64,
    kept: Option<&Kept>,
    run: &Run,
) -> Result<Analysis, Failure> {
    let Subject { job, path, input_hash, config_hash } = subject;
    let mut table = read(job, path, memory, run)?;
    let features =
        Matrix::new(table.columns, std::mem::take(&mut table.features)).map_err(algorithm(stages::PREPROCESS))?;
    memory::check(job, &features, &table, memory)?;
    let originals = match table.original_names.len() {
        0 => None,
        columns => {
            let values = std::mem::take(&mut table.originals);
            Some(Matrix::new(columns, values).map_err(algorithm(stages::PREPROCESS))?)
        }
    };

    let Reduced { space, map, mut report } = reduce::reduce(job, &features, &table.names, kept, run)?;
    let mut notes = std::mem::take(&mut table.notes);
    let clustered_on = match job.cluster_on {
        ClusterOn::Features => &features,
        ClusterOn::Reduced => space.as_ref().unwrap_or(&features),
        ClusterOn::Embedding => {
            if matches!(job.reduce, Reduction::Tsne(_)) {
                notes.push(note(
                    "tsne_distances",
                    "distances in a t-SNE map mean little, so its clusters may mean little too",
                ));
            }
            map.as_ref().unwrap_or(&features)
        }
    };
    let clustered = cluster::cluster(job, clustered_on, kept, run)?;
    let data = Data { features: &features, originals: originals.as_ref(), clustered: clustered_on };
    if let Some(clustered) = &clustered {
        memory::check_clusters(&data, clustered.number(), memory)?;
    }
    let isolated = match &job.anomalies {
        Anomalies::IsolationForest(options) => Some(
            run.watched(stages::ANOMALIES, "Isolation Forest", |watch| {
                isolation_forest::fit(&features, options, job.seed, watch)
            })
            .map_err(algorithm(stages::ANOMALIES))?,
        ),
        Anomalies::None(_) => None,
    };
    let clustering = match &clustered {
        Some(clustered) => Some(clustering_report(job, &table, &data, clustered, run)?),
        None => None,
    };
    if let (Some(map), Some(report)) = (&map, &mut report) {
        report.trustworthiness = run
            .watched(stages::METRICS, "trustworthiness", |watch| {
                let sample = drawn(features.rows(), job.seed);
                metrics::trustworthiness(&features, map, TRUSTED_NEIGHBOURS, sample, watch.part(0.6, 1.0))
            })
            .map_err(algorithm(stages::METRICS))?;
    }
    let anomalies = isolated.as_ref().map(|isolated| anomaly_report(isolated, &features, &table));

    let mut result = DatasetAnalyzed {
        rows: table.total_rows,
        used_rows: features.rows() as u64,
        features: features.columns() as u64,
        columns: std::mem::take(&mut table.uses),
        reduction: report,
        clustering,
        anomalies,
        notes,
        files: Vec::new(),
        input_hash: input_hash.clone(),
        config_hash: config_hash.clone(),
        seed: job.seed,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cached: false,
    };
    run.begin(stages::PERSIST, "writing");
    let coordinates = map.as_ref().map(write::coordinates).unwrap_or_default();
    let coordinate = |at: usize| coordinates.get(at).map(Vec::as_slice);
    let is_anomaly: Option<Vec<bool>> =
        isolated.as_ref().map(|isolated| isolated.scores.iter().map(|score| *score > isolated.threshold).collect());
    let points = Points {
        row: &table.row_numbers,
        x: coordinate(0),
        y: coordinate(1),
        z: coordinate(2),
        label: clustered.as_ref().map(|clustered| clustered.labels.as_slice()),
        probability: clustered.as_ref().and_then(|clustered| clustered.probabilities.as_deref()),
        anomaly_score: isolated.as_ref().map(|isolated| isolated.scores.as_slice()),
        is_anomaly: is_anomaly.as_deref(),
    };
    let has_json = write::write(folder, job, &points, &mut result, clustered.as_ref(), run)?;
    Ok(Analysis { result, has_json })
}

fn note(code: &str, message: &str) -> DatasetNote {
    DatasetNote { code: code.to_owned(), message: message.to_owned() }
}

/// The table as numbers. It is read several times: as text, for what its columns hold, and for their numbers.
fn read(job: &DatasetAnalyze, path: &Path, memory: u64, run: &Run) -> Result<Prepared, Failure> {
    let bytes = path.metadata().map_err(|error| failure::of_table(&error.into()))?.len();
    run.begin(stages::LOAD, "reading");
    let go_on = |done: u64, of: u64| {
        // How often it is read in the end is not known before.
        let first = 2 * bytes;
        let (stage, done, of, message) = match done.checked_sub(first) {
            None => (stages::LOAD, done, first, "reading"),
            Some(done) => (stages::PREPROCESS, done, of.saturating_sub(first).max(bytes), "making numbers of it"),
        };
        run.advance(stage, done as f64 / of.max(1) as f64, message);
        !run.is_cancelled()
    };
    let preparation = Preparation {
        select: &job.select,
        missing: &job.missing,
        encode: &job.encode,
        scale: &job.scale,
        seed: job.seed,
    };
    let limits = Limits { memory_bytes: memory, ..Limits::default() };
    fourmi_tables::prepare(path, job.format, &preparation, &limits, &go_on)
        .map_err(|error| failure::of_table(&error).in_stage(stages::LOAD.name))
}

/// The rows as they are looked at.
struct Data<'a> {
    /// Encoded and scaled.
    features: &'a Matrix,
    /// The numeric columns in their own units; none if there are only categories.
    originals: Option<&'a Matrix>,
    /// As they were clustered.
    clustered: &'a Matrix,
}

fn clustering_report(
    job: &DatasetAnalyze,
    table: &Prepared,
    data: &Data<'_>,
    clustered: &Clustered,
    run: &Run,
) -> Result<ClusteringReport, Failure> {
    let labels = &clustered.labels;
    let Data { features, originals, clustered: rows } = *data;
    let sample = drawn(rows.rows(), job.seed);
    let measured = run.watched(stages::METRICS, "how well rows fit into their clusters", |watch| {
        let silhouette = metrics::silhouette(rows, labels, sample, watch.part(0.0, 0.3))?;
        let calinski_harabasz = metrics::calinski_harabasz(rows, labels, watch.part(0.3, 0.4))?;
        let davies_bouldin = metrics::davies_bouldin(rows, labels, watch.part(0.4, 0.5))?;
        // Columns of categories alone have no units of their own.
        let original = originals.unwrap_or(features);
        let profiles = profile::profiles(original, features, rows, labels, EFFECTS, watch.part(0.5, 0.6))?;
        Ok((silhouette, calinski_harabasz, davies_bouldin, profiles))
    });
    let (silhouette, calinski_harabasz, davies_bouldin, profiles) = measured.map_err(algorithm(stages::METRICS))?;
    Ok(ClusteringReport {
        algorithm: clustered.algorithm.to_owned(),
        on: job.cluster_on,
        number: clustered.number() as u64,
        clusters: profiles.into_iter().map(|profile| cluster_profile(profile, table)).collect(),
        noise: labels.iter().filter(|label| **label < 0).count() as u64,
        silhouette,
        silhouette_sample: sample.filter(|_| silhouette.is_some()).map(|(rows, _)| rows as u64),
        calinski_harabasz,
        davies_bouldin,
        stability: clustered.stability,
        eps: clustered.eps,
        inertia: clustered.inertia,
        tried: clustered.tried.clone(),
    })
}

fn cluster_profile(profile: Profile, table: &Prepared) -> ClusterProfile {
    let columns = if table.original_names.is_empty() { &table.names } else { &table.original_names };
    ClusterProfile {
        label: profile.label,
        size: profile.size as u64,
        centroid: columns.iter().cloned().zip(profile.centroid).collect(),
        top_features: profile
            .effects
            .iter()
            .map(|(feature, effect)| (table.names[*feature].clone(), *effect))
            .collect(),
        exemplars: profile.exemplars.iter().filter_map(|row| table.row_numbers.get(*row).copied()).collect(),
    }
}

fn anomaly_report(isolated: &Isolated, features: &Matrix, table: &Prepared) -> AnomalyReport {
    let Isolated { scores, threshold, forest } = isolated;
    let mut rows: Vec<usize> = (0..scores.len()).collect();
    let order = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if rows.len() > TOP_ANOMALIES {
        // All of them need not be in order.
        rows.select_nth_unstable_by(TOP_ANOMALIES, order);
        rows.truncate(TOP_ANOMALIES);
    }
    rows.sort_unstable_by(order);
    let told = |row: &usize| AnomalousRow {
        row: table.row_numbers[*row],
        score: scores[*row],
        reasons: forest
            .reasons(features.row(*row))
            .into_iter()
            .take(REASONS)
            .map(|(column, share)| (table.names[column].clone(), share))
            .collect(),
    };
    AnomalyReport {
        algorithm: "isolation_forest".to_owned(),
        threshold: *threshold,
        number: scores.iter().filter(|score| **score > *threshold).count() as u64,
        top: rows.iter().map(told).collect(),
    }
}
