//! The stages of an analysis, and how much of the whole each is.

use crate::run::Stage;

const fn stage(name: &'static str, from: f32, to: f32) -> Stage {
    Stage { name, from, to }
}

pub(crate) const LOAD: Stage = stage("load", 0.0, 10.0);
pub(crate) const PREPROCESS: Stage = stage("preprocess", 10.0, 25.0);
pub(crate) const REDUCE: Stage = stage("reduce", 25.0, 60.0);
pub(crate) const CLUSTERING: Stage = stage("clustering", 60.0, 80.0);
pub(crate) const ANOMALIES: Stage = stage("anomalies", 80.0, 88.0);
pub(crate) const METRICS: Stage = stage("metrics", 88.0, 97.0);
pub(crate) const PERSIST: Stage = stage("persist", 97.0, 100.0);

/// The only one of `dataset.probe`.
pub(crate) const PROBE: Stage = stage("profile", 0.0, 100.0);
