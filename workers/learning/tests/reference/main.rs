//! What scikit-learn, hdbscan, openTSNE and umap-learn give, and what we do. `make.py` makes the tables and the values.

mod data;
