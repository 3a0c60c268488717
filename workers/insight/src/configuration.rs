//! What was asked for of a table: all that makes a difference to the result but the table itself.

use fourmi_kinds::{
    Anomalies, ClusterOn, Clustering, DatasetAnalyze, Encode, Missing, Reduction, Scale, Selection, TableFormat,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::results::EDITION;

/// All options of an analysis, those that are as by default among them.
#[derive(Serialize)]
pub(crate) struct Configuration<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<TableFormat>,
    select: &'a Selection,
    missing: &'a Missing,
    encode: &'a Encode,
    scale: &'a Scale,
    #[serde(skip_serializing_if = "Option::is_none")]
    pre_reduce: Option<u32>,
    reduce: &'a Reduction,
    cluster_on: ClusterOn,
    cluster: &'a Clustering,
    anomalies: &'a Anomalies,
    seed: u64,
}

impl<'a> Configuration<'a> {
    pub(crate) fn of(job: &'a DatasetAnalyze) -> Self {
        let DatasetAnalyze {
            file: _,
            dataset_id: _,
            format,
            select,
            missing,
            encode,
            scale,
            pre_reduce,
            reduce,
            cluster_on,
            cluster,
            anomalies,
            seed,
            reuse: _,
        } = job;
        Self {
            format: *format,
            select,
            missing,
            encode,
            scale,
            pre_reduce: *pre_reduce,
            reduce,
            cluster_on: *cluster_on,
            cluster,
            anomalies,
            seed: *seed,
        }
    }

    /// Its SHA-256, with the edition of the algorithms.
    pub(crate) fn hash(&self) -> String {
        let options = serde_json::to_string(self).unwrap_or_default();
        hex::encode(Sha256::digest(format!("{EDITION} {options}")))
    }
}

#[cfg(test)]
mod tests {
    use fourmi_model::BlobId;

    use super::*;

    fn hash(job: &DatasetAnalyze) -> String {
        Configuration::of(job).hash()
    }

    #[test]
    fn the_hash_is_that_of_the_options_alone() {
        let asked = DatasetAnalyze { pre_reduce: Some(7), seed: 3, ..DatasetAnalyze::of(BlobId::random()) };
        let named = DatasetAnalyze { dataset_id: Some("sales-2026".to_owned()), ..asked.clone() };
        for same in [
            DatasetAnalyze { file: BlobId::random(), ..asked.clone() },
            DatasetAnalyze { reuse: false, ..asked.clone() },
            DatasetAnalyze { reuse: false, ..named.clone() },
            named,
        ] {
            assert_eq!(hash(&same), hash(&asked), "{same:?}");
        }
        for other in [
            DatasetAnalyze { seed: 4, ..asked.clone() },
            DatasetAnalyze { pre_reduce: None, ..asked.clone() },
            DatasetAnalyze { format: Some(TableFormat::Csv), ..asked.clone() },
            DatasetAnalyze { cluster_on: ClusterOn::Reduced, ..asked.clone() },
        ] {
            assert_ne!(hash(&other), hash(&asked), "{other:?}");
        }
    }

    #[test]
    fn what_is_as_by_default_is_said_too() {
        let job = DatasetAnalyze::of(BlobId::random());
        let options = serde_json::to_value(Configuration::of(&job)).unwrap();
        assert!(options["seed"] == 42 && options["missing"]["with"] == "median", "{options}");
        assert_eq!(options["cluster"]["restarts"], 10);
        assert!(options.get("file").is_none() && options.get("reuse").is_none(), "{options}");
    }
}
