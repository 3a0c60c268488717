//! What `dataset.analyze` gives.

use fourmi_model::Artifact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClusterOn, ColumnType, DatasetNote};

/// What `dataset.analyze` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetAnalyzed {
    /// Rows of the table.
    pub rows: u64,
    /// Rows that were looked at.
    pub used_rows: u64,
    /// Columns of numbers that were looked at, after encoding.
    pub features: u64,
    /// What became of each column.
    pub columns: Vec<ColumnUse>,
    /// How rows got their places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduction: Option<ReductionReport>,
    /// How rows were grouped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clustering: Option<ClusteringReport>,
    /// Which rows are unlike the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anomalies: Option<AnomalyReport>,
    /// What was noticed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<DatasetNote>,
    /// `points`: the rows that were looked at with x, y, z, label, probability, anomaly score, as Apache Parquet;
    /// `points_json`: the same as JSON, up to 20,000 rows; `report`: this result with whole tables, as JSON.
    pub files: Vec<Artifact>,
    /// The SHA-256 of the table.
    pub input_hash: String,
    /// The SHA-256 of the options with the version of the algorithms: the same input and options have the same result.
    pub config_hash: String,
    /// The seed.
    pub seed: u64,
    /// The version of Fourmi that computed it.
    pub version: String,
    /// Whether it was computed earlier, for the same input and options.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
}

/// What became of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ColumnUse {
    /// Its name.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// How many columns of numbers were made of it; none if it was left out.
    pub features: u32,
    /// Why it was left out (`text`, `identifier`, `constant`, `too_many_levels`, `not_encoded`, `mostly_missing`,
    /// `not_selected`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// Values that were filled in.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub filled: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How rows got their places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReductionReport {
    /// The algorithm.
    pub algorithm: String,
    /// Dimensions of the places.
    pub dimensions: u8,
    /// To how many dimensions the columns were reduced before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_reduced_to: Option<u32>,
    /// Of PCA: the share of the variance along each dimension.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub explained_variance: Vec<f64>,
    /// Of PCA: the columns that weigh most in each dimension, with their weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loadings: Vec<Vec<(String, f64)>>,
    /// Of t-SNE: the Kullback-Leibler divergence that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_divergence: Option<f64>,
    /// How far neighbours in the map are neighbours in the table: from 0 to 1 (Venna and Kaski 2001), with 5 neighbours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trustworthiness: Option<f64>,
}

/// How rows were grouped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusteringReport {
    /// The algorithm.
    pub algorithm: String,
    /// What was clustered.
    pub on: ClusterOn,
    /// How many clusters there are.
    #[serde(default)]
    pub number: u64,
    /// The clusters, by label; of more than 50 the largest.
    pub clusters: Vec<ClusterProfile>,
    /// Rows in no cluster.
    pub noise: u64,
    /// How well rows fit into their clusters: from -1 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silhouette: Option<f64>,
    /// So many drawn rows the silhouette is the mean of, if not of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silhouette_sample: Option<u64>,
    /// Spread between clusters against that within them: more is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calinski_harabasz: Option<f64>,
    /// Likeness of each cluster and its nearest: less is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub davies_bouldin: Option<f64>,
    /// The mean adjusted Rand index between this clustering and those with other seeds, or of K-Means alone: 1 is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability: Option<f64>,
    /// Of DBSCAN: the radius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Of K-Means: the sum of squared distances to the centres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inertia: Option<f64>,
    /// The numbers of clusters that were tried, if one was to be found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<TriedClusters>,
}

/// A number of clusters that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriedClusters {
    /// The number.
    pub clusters: u32,
    /// The silhouette, which decides.
    pub silhouette: f64,
    /// A second opinion: less is better.
    pub davies_bouldin: f64,
    /// The sum of squared distances to the means, for the elbow.
    pub inertia: f64,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterProfile {
    /// Its label, from 0.
    pub label: i32,
    /// Its rows.
    pub size: u64,
    /// The mean of each numeric column, in the column's own units.
    pub centroid: Vec<(String, f64)>,
    /// What sets it apart: columns and categories (`colour=red`) with the difference of its mean from that of the others, in
    /// standard deviations.
    pub top_features: Vec<(String, f64)>,
    /// The rows nearest to its middle, counted from 0 as in the table.
    pub exemplars: Vec<u64>,
}

/// Which rows are unlike the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnomalyReport {
    /// The algorithm.
    pub algorithm: String,
    /// Rows with a higher score are anomalies.
    pub threshold: f64,
    /// How many are.
    pub number: u64,
    /// The highest scores, at most a hundred.
    pub top: Vec<AnomalousRow>,
}

/// A row unlike the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnomalousRow {
    /// Counted from 0 as in the table.
    pub row: u64,
    /// From 0 to 1; a half is ordinary (Liu, Ting and Zhou 2008).
    pub score: f64,
    /// The columns whose cuts set it apart, with their share.
    pub reasons: Vec<(String, f64)>,
}
