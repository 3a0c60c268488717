//! `dataset.analyze`: a map of a table, with clusters and anomalies.

use std::time::Duration;

use fourmi_model::{BlobId, Isolation, Policy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Anomalies, ClusterOn, Clustering, DatasetAnalyzed, Encode, Fill, Missing, Reduction, Scale, Selection, TableFormat,
    options::is_default, range::Checked,
};
use crate::{InvalidPayload, JobKind};

/// The seed if none is given.
const SEED: u64 = 42;

/// What a run may take at most. Each is given less, by a setting of the worker; this is for what escapes its estimates.
const MEMORY: u64 = 16 * 1024 * 1024 * 1024;

/// Makes a map of a table in two or three dimensions, with clusters and anomalies. The same file, options and seed give the
/// same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetAnalyze {
    /// The stored table.
    pub file: BlobId,
    /// How it is written; found out by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<TableFormat>,
    /// Which part of it is looked at.
    #[serde(default, skip_serializing_if = "is_default")]
    pub select: Selection,
    /// What becomes of missing values.
    #[serde(default, skip_serializing_if = "is_default")]
    pub missing: Missing,
    /// How categories become numbers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encode: Encode,
    /// How columns are brought to one scale.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scale: Scale,
    /// Reduces the columns by PCA to so many before t-SNE and UMAP; by default to 50, if there are more. 0 never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 500))]
    pub pre_reduce: Option<u32>,
    /// How rows get their places.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reduce: Reduction,
    /// What is clustered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cluster_on: ClusterOn,
    /// How rows are grouped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cluster: Clustering,
    /// How rows unlike the others are found.
    #[serde(default, skip_serializing_if = "is_default")]
    pub anomalies: Anomalies,
    /// Where chance begins.
    #[serde(default = "seed", skip_serializing_if = "is_seed")]
    pub seed: u64,
}

const fn seed() -> u64 {
    SEED
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_seed(seed: &u64) -> bool {
    *seed == SEED
}

impl DatasetAnalyze {
    /// Everything by default.
    pub fn of(file: BlobId) -> Self {
        Self {
            file,
            format: None,
            select: Selection::default(),
            missing: Missing::default(),
            encode: Encode::default(),
            scale: Scale::default(),
            pre_reduce: None,
            reduce: Reduction::default(),
            cluster_on: ClusterOn::default(),
            cluster: Clustering::default(),
            anomalies: Anomalies::default(),
            seed: SEED,
        }
    }
}

impl JobKind for DatasetAnalyze {
    const NAME: &'static str = "dataset.analyze";
    const QUEUE: &'static str = "insight";
    const SUMMARY: &'static str = "Makes a map of a table in two or three dimensions, with clusters and anomalies.";
    type Output = DatasetAnalyzed;

    fn policy() -> Policy {
        Policy {
            attempts: Some(3),
            timeout: Duration::from_hours(8),
            isolation: Isolation::Process { memory_bytes: MEMORY },
            ..Policy::default()
        }
    }

    fn validate(&self) -> Result<(), InvalidPayload> {
        self.select.check("select")?;
        self.missing.check("missing")?;
        self.encode.check("encode")?;
        self.reduce.check("reduce")?;
        self.cluster.check("cluster")?;
        self.anomalies.check("anomalies")?;
        if self.pre_reduce.is_some_and(|dimensions| dimensions > 500 || dimensions == 1) {
            return Err(InvalidPayload::new("pre_reduce", "must be 0, or between 2 and 500"));
        }
        if self.missing.with != Fill::Constant && self.missing.value != 0.0 {
            return Err(InvalidPayload::new("missing.value", "means nothing unless `with` is \"constant\""));
        }
        if self.cluster_on == ClusterOn::Embedding && matches!(self.reduce, Reduction::None(_)) {
            return Err(InvalidPayload::new("cluster_on", "there is no embedding without a reduction"));
        }
        Ok(())
    }
}
