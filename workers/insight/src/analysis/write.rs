//! What an analysis leaves: its points, and a report with what is too long for a result.

use std::path::Path;

use fourmi_kinds::{DatasetAnalyze, DatasetAnalyzed};
use fourmi_learning::Matrix;
use fourmi_model::Failure;
use fourmi_tables::{Points, TableError, write_points};
use serde::Serialize;

use super::{cluster::Clustered, stages};
use crate::{configuration::Configuration, files::write_json, run::Run};

pub(crate) const POINTS: &str = "points.parquet";
pub(crate) const POINTS_JSON: &str = "points.json";
pub(crate) const REPORT: &str = "report.json";

/// With more rows there is no JSON of them, nor of how they were joined.
const FEW_ROWS: usize = 20_000;

/// Clusters that a result tells of, the largest; the report has those that are described.
const TOLD_CLUSTERS: usize = 50;

/// Columns of a centre that a result tells; the report has all.
const TOLD_COLUMNS: usize = 30;

/// Points as JSON: columns, like the other file.
#[derive(Serialize)]
struct JsonPoints<'a> {
    row: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<&'a [f64]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<&'a [f64]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    z: Option<&'a [f64]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a [i32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<&'a [f64]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anomaly_score: Option<&'a [f64]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_anomaly: Option<&'a [bool]>,
}

/// The result with what is too long for it.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    result: &'a DatasetAnalyzed,
    /// What was asked for: with the table, the seed and the version all that it takes to make the result again.
    config: Configuration<'a>,
    /// The curve that DBSCAN's radius is the bend of.
    #[serde(skip_serializing_if = "<[f64]>::is_empty")]
    k_distances: &'a [f64],
    /// The joins of agglomerative clustering: both clusters, their distance, the rows of both.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    dendrogram: &'a [(u32, u32, f64, u32)],
    /// How far each row is an outlier of its cluster, of HDBSCAN.
    #[serde(skip_serializing_if = "<[f64]>::is_empty")]
    outlier_scores: &'a [f64],
}

/// The places of rows, a list for each dimension.
pub(crate) fn coordinates(map: &Matrix) -> Vec<Vec<f64>> {
    (0..map.columns())
        .map(|column| map.values().iter().skip(column).step_by(map.columns()).copied().collect())
        .collect()
}

/// Writes the files into a folder, and shortens the result to what a result should hold; whether there are points as JSON.
pub(crate) fn write(
    folder: &Path,
    job: &DatasetAnalyze,
    points: &Points<'_>,
    result: &mut DatasetAnalyzed,
    clustered: Option<&Clustered>,
    run: &Run,
) -> Result<bool, Failure> {
    let has_json = points.row.len() <= FEW_ROWS;
    let go_on = || !run.is_cancelled();
    let told = |done: u64, of: u64| {
        run.advance(stages::PERSIST, 0.5 * done as f64 / of.max(1) as f64, "writing");
        go_on()
    };
    let written = || -> Result<(), TableError> {
        write_points(&folder.join(POINTS), points, &told)?;
        if has_json {
            let Points { row, x, y, z, label, probability, anomaly_score, is_anomaly } = *points;
            let points = JsonPoints { row, x, y, z, label, probability, anomaly_score, is_anomaly };
            write_json(&folder.join(POINTS_JSON), &points, &go_on)?;
        }
        let few = |clustered: &&Clustered| has_json && !clustered.labels.is_empty();
        let report = Report {
            result,
            config: Configuration::of(job),
            k_distances: clustered.map_or(&[], |clustered| &clustered.k_distances),
            dendrogram: clustered.filter(few).map_or(&[], |clustered| &clustered.dendrogram),
            outlier_scores: clustered
                .filter(few)
                .and_then(|clustered| clustered.outlier_scores.as_deref())
                .unwrap_or(&[]),
        };
        Ok(write_json(&folder.join(REPORT), &report, &go_on)?)
    };
    written().map_err(|error| match error {
        TableError::Cancelled => Failure::cancelled(),
        error => Failure::retry("storage_failed", "the result could not be written")
            .because(error)
            .in_stage(stages::PERSIST.name),
    })?;
    shorten(result);
    Ok(has_json)
}

fn shorten(result: &mut DatasetAnalyzed) {
    let Some(clustering) = &mut result.clustering else { return };
    if clustering.clusters.len() > TOLD_CLUSTERS {
        clustering.clusters.sort_by_key(|cluster| (std::cmp::Reverse(cluster.size), cluster.label));
        clustering.clusters.truncate(TOLD_CLUSTERS);
        clustering.clusters.sort_by_key(|cluster| cluster.label);
    }
    for cluster in &mut clustering.clusters {
        cluster.centroid.truncate(TOLD_COLUMNS);
    }
}
