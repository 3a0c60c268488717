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
pub(super) const SEED: u64 = 42;

/// What a run may take at most. Each is given less, by a setting of the worker; this is for what escapes its estimates.
const MEMORY: u64 = 16 * 1024 * 1024 * 1024;

/// Makes a map of a table in two or three dimensions, with clusters and anomalies. The same file, options and seed give the
/// same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetAnalyze {
    /// The stored table.
    pub file: BlobId,
    /// What the caller calls the table: events in the vocabulary `processing` name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub dataset_id: Option<String>,
    /// How it is written; found out by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("description_fr" = "Écriture de la table ; trouvée par défaut."))]
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
    #[schemars(
        range(min = 0, max = 500),
        extend("description_fr" = "Réduit d'abord les colonnes à ce nombre par ACP, avant t-SNE et UMAP ; par défaut à 50, s'il y en a plus. 0 ne le fait jamais.")
    )]
    pub pre_reduce: Option<u32>,
    /// How rows get their places.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reduce: Reduction,
    /// What is clustered.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("description_fr" = "Ce dont on fait des groupes."))]
    pub cluster_on: ClusterOn,
    /// How rows are grouped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cluster: Clustering,
    /// How rows unlike the others are found.
    #[serde(default, skip_serializing_if = "is_default")]
    pub anomalies: Anomalies,
    /// Where chance begins.
    #[serde(default = "seed", skip_serializing_if = "is_seed")]
    #[schemars(extend("description_fr" = "Là où commence le hasard."))]
    pub seed: u64,
    /// Whether what an equal job made of an equal table may be given again.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(extend("description_fr" = "Si ce qu'une tâche égale a fait d'une table égale peut être donné à nouveau."))]
    pub reuse: bool,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_yes(answer: &bool) -> bool {
    *answer
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
            dataset_id: None,
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
            reuse: true,
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
        if self.dataset_id.as_ref().is_some_and(|id| !(1..=200).contains(&id.chars().count())) {
            return Err(InvalidPayload::new("dataset_id", "must have between 1 and 200 characters"));
        }
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

#[cfg(test)]
mod tests {
    use crate::catalogue;

    fn check(options: &str) -> Result<String, (String, String)> {
        let comma = if options.is_empty() { "" } else { "," };
        let payload = format!(r#"{{"file":"file-6f9619ff8b86d011b42d00c04fc964ff"{comma}{options}}}"#);
        let checked = catalogue().get("dataset.analyze").unwrap().check(&payload);
        checked.map(|text| text.get().to_owned()).map_err(|mistake| (mistake.path, mistake.message))
    }

    #[test]
    fn what_is_as_by_default_is_not_written() {
        let plain = check("").unwrap();
        for same in [
            r#""seed":42,"reuse":true"#,
            r#""reduce":{"algorithm":"pca"},"cluster":{"algorithm":"kmeans","restarts":10}"#,
            r#""missing":{"with":"median"},"scale":{},"cluster_on":"features""#,
        ] {
            assert_eq!(check(same).unwrap(), plain, "{same}");
        }
        let other =
            check(r#""cluster":{"algorithm":"dbscan","min_samples":7},"anomalies":{"algorithm":"none"}"#).unwrap();
        assert!(other.contains(r#""min_samples":7"#) && other.contains(r#""algorithm":"none""#), "{other}");
    }

    #[test]
    fn a_mistake_is_told_before_the_job_is_accepted() {
        for (options, path, says) in [
            (r#""reduce":{"algorithm":"magic"}"#, "reduce.algorithm", "magic"),
            (r#""reduce":{"algorithm":"pca","perplexity":5}"#, "reduce", "perplexity"),
            (r#""reduce":{"algorithm":"tsne","perplexity":1}"#, "reduce.perplexity", "between 2 and 500"),
            (r#""reduce":{"algorithm":"umap","dimensions":4}"#, "reduce.dimensions", "between 2 and 3"),
            (r#""cluster":{"algorithm":"kmeans","clusters":0}"#, "cluster.clusters", "between 1 and 1000"),
            (r#""cluster":{"algorithm":"dbscan","eps":0}"#, "cluster.eps", "above 0"),
            (r#""cluster":{"algorithm":"dbscan","eps":-1e-9}"#, "cluster.eps", "above 0"),
            (r#""cluster":{"algorithm":"agglomerative","clusters":3,"distance":1}"#, "cluster.distance", "not both"),
            (r#""anomalies":{"algorithm":"isolation_forest","contamination":0.9}"#, "anomalies.contamination", "0.5"),
            (r#""select":{"sample":0}"#, "select.sample", "at least 1"),
            (r#""select":{"rows":[{"column":"a","is":"less","value":"b"}]}"#, "select.rows[0].value", "a number"),
            (r#""missing":{"value":3}"#, "missing.value", "constant"),
            (r#""reduce":{"algorithm":"none"},"cluster_on":"embedding""#, "cluster_on", "no embedding"),
        ] {
            let (at, message) = check(options).unwrap_err();
            assert_eq!(at, path, "{options}: {message}");
            assert!(message.contains(says), "{options}: {message}");
        }
    }
}
