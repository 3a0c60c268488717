#![doc = include_str!("../README.md")]

mod boxes;
mod error;
mod lanes;
mod matrix;
mod parts;
mod random;
mod spanning;
mod watch;

pub mod agglomerative;
pub mod choose_k;
pub mod dbscan;
pub mod distance;
pub mod hdbscan;
pub mod isolation_forest;
pub mod kmeans;
pub mod metrics;
pub mod neighbours;
pub mod pca;
pub mod profile;
pub mod tsne;
pub mod umap;

pub use error::LearningError;
pub use matrix::Matrix;
pub use random::{Stream, stream};
pub use watch::Watch;
