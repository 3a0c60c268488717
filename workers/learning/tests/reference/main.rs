//! What scikit-learn, hdbscan, openTSNE and umap-learn give, and what we do. `make.py` makes the tables and the values.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod agglomerative;
mod data;
mod dbscan;
mod hdbscan;
mod isolation_forest;
mod kmeans;
mod metrics;
mod pca;
mod silhouette;
mod trustworthiness;
mod tsne;
mod umap;
