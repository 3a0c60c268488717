//! Whether options are within their ranges, which the schema names too.

use super::{
    AgglomerativeOptions, Anomalies, Clustering, Comparison, DbscanOptions, Encode, FilterValue, HdbscanOptions,
    IsolationForestOptions, KMeansOptions, Missing, PcaOptions, Reduction, Selection, TsneOptions, UmapOptions,
};
use crate::InvalidPayload;

/// Columns that can be named.
const MOST_COLUMNS: usize = 1_000;

/// Conditions on rows.
const MOST_FILTERS: usize = 20;

/// What can be wrong.
pub(super) trait Checked {
    /// The first mistake, by the path of the field.
    fn check(&self, path: &str) -> Result<(), InvalidPayload>;
}

/// Whether a number is within a range; one that is not there is.
fn within(path: &str, name: &str, number: Option<f64>, least: f64, most: f64) -> Result<(), InvalidPayload> {
    // NaN is within nothing.
    match number {
        Some(number) if !(least..=most).contains(&number) => {
            let message = if most == f64::MAX {
                format!("must be a number, at least {least}")
            } else {
                format!("must be between {least} and {most}")
            };
            Err(InvalidPayload::new(format!("{path}.{name}"), message))
        }
        _ => Ok(()),
    }
}

/// Whether a number is above 0; one that is not there is.
fn above_zero(path: &str, name: &str, number: Option<f64>) -> Result<(), InvalidPayload> {
    match number {
        Some(number) if number <= 0.0 || !number.is_finite() => {
            Err(InvalidPayload::new(format!("{path}.{name}"), "must be a number above 0"))
        }
        _ => Ok(()),
    }
}

fn whole(path: &str, name: &str, number: impl Into<Option<u32>>, least: u32, most: u32) -> Result<(), InvalidPayload> {
    within(path, name, number.into().map(f64::from), least.into(), most.into())
}

impl Checked for Selection {
    fn check(&self, path: &str) -> Result<(), InvalidPayload> {
        for (name, number, most) in [
            ("columns", self.columns.len(), MOST_COLUMNS),
            ("exclude", self.exclude.len(), MOST_COLUMNS),
            ("rows", self.rows.len(), MOST_FILTERS),
        ] {
            if number > most {
                return Err(InvalidPayload::new(format!("{path}.{name}"), format!("has more than {most} entries")));
            }
        }
        if self.sample == Some(0) {
            return Err(InvalidPayload::new(format!("{path}.sample"), "must be at least 1"));
        }
        for (number, filter) in self.rows.iter().enumerate() {
            let wrong = |message| Err(InvalidPayload::new(format!("{path}.rows[{number}].value"), message));
            match (filter.is, &filter.value) {
                (Comparison::Missing | Comparison::Present, Some(_)) => return wrong("means nothing here"),
                (Comparison::Missing | Comparison::Present, None) => {}
                (_, None) => return wrong("is missing"),
                (Comparison::Equal | Comparison::NotEqual, Some(_)) => {}
                (_, Some(FilterValue::Text(_))) => return wrong("must be a number"),
                (_, Some(FilterValue::Number(_))) => {}
            }
        }
        Ok(())
    }
}

impl Checked for Missing {
    fn check(&self, path: &str) -> Result<(), InvalidPayload> {
        whole(path, "neighbours", self.neighbours, 1, 100)?;
        within(path, "drop_column_above", Some(self.drop_column_above), 0.0, 1.0)
    }
}

impl Checked for Encode {
    fn check(&self, path: &str) -> Result<(), InvalidPayload> {
        whole(path, "max_levels", self.max_levels, 2, 1_000)?;
        whole(path, "buckets", self.buckets, 2, 256)
    }
}

impl Checked for Reduction {
    fn check(&self, path: &str) -> Result<(), InvalidPayload> {
        match *self {
            Self::None(_) => Ok(()),
            Self::Pca(PcaOptions { dimensions }) => whole(path, "dimensions", u32::from(dimensions), 2, 3),
            Self::Tsne(TsneOptions {
                dimensions,
                perplexity,
                learning_rate,
                iterations,
                early_exaggeration,
                theta,
            }) => {
                whole(path, "dimensions", u32::from(dimensions), 2, 3)?;
                within(path, "perplexity", Some(perplexity), 2.0, 500.0)?;
                within(path, "learning_rate", learning_rate, 1.0, 1e6)?;
                whole(path, "iterations", iterations, 250, 10_000)?;
                within(path, "early_exaggeration", Some(early_exaggeration), 1.0, 100.0)?;
                within(path, "theta", Some(theta), 0.0, 1.0)
            }
            Self::Umap(UmapOptions { dimensions, neighbours, min_dist, metric: _, epochs }) => {
                whole(path, "dimensions", u32::from(dimensions), 2, 3)?;
                whole(path, "neighbours", neighbours, 2, 200)?;
                within(path, "min_dist", Some(min_dist), 0.0, 3.0)?;
                whole(path, "epochs", epochs, 10, 10_000)
            }
        }
    }
}

impl Checked for Clustering {
    fn check(&self, path: &str) -> Result<(), InvalidPayload> {
        match *self {
            Self::None(_) => Ok(()),
            Self::Kmeans(KMeansOptions { clusters, restarts, iterations, tolerance }) => {
                whole(path, "clusters", clusters, 1, 1_000)?;
                whole(path, "restarts", restarts, 1, 100)?;
                whole(path, "iterations", iterations, 1, 10_000)?;
                within(path, "tolerance", Some(tolerance), 0.0, 1.0)
            }
            Self::Dbscan(DbscanOptions { eps, min_samples }) => {
                above_zero(path, "eps", eps)?;
                whole(path, "min_samples", min_samples, 1, 10_000)
            }
            Self::Hdbscan(HdbscanOptions { min_cluster_size, min_samples, selection: _ }) => {
                whole(path, "min_cluster_size", min_cluster_size, 2, 1_000_000)?;
                whole(path, "min_samples", min_samples, 1, 10_000)
            }
            Self::Agglomerative(AgglomerativeOptions { linkage: _, clusters, distance }) => {
                whole(path, "clusters", clusters, 1, 1_000)?;
                within(path, "distance", distance, 0.0, f64::MAX)?;
                if clusters.is_some() && distance.is_some() {
                    return Err(InvalidPayload::new(format!("{path}.distance"), "give it or clusters, not both"));
                }
                Ok(())
            }
        }
    }
}

impl Checked for Anomalies {
    fn check(&self, path: &str) -> Result<(), InvalidPayload> {
        match *self {
            Self::None(_) => Ok(()),
            Self::IsolationForest(IsolationForestOptions { trees, samples, contamination }) => {
                whole(path, "trees", trees, 1, 2_000)?;
                whole(path, "samples", samples, 2, 65_536)?;
                within(path, "contamination", contamination, 0.0001, 0.5)
            }
        }
    }
}
