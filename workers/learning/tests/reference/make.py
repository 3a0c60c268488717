"""Makes the tables and the reference values that the tests compare with.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python make.py            # everything, a few minutes
    venv/bin/python make.py pca tsne   # only these values

Tables (data/*.csv): the columns, and `class` last: iris, wine and digits as scikit-learn ships them, and blobs: 1,000 rows,
20 columns, 8 round clusters, 2 % of the rows spread evenly over a larger cube (class -1).

What the algorithms are given: iris and wine with each column at mean 0 and standard deviation 1 (of the rows, not an
estimate of the population's); digits and blobs as they are, for their columns have one unit. Labels are those of the
library, whose numbers mean nothing: compare partitions. Rows in no cluster are -1.
"""

import json
import os
import sys
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(threads, "2")

import numpy as np
from sklearn import cluster, datasets, decomposition, ensemble, manifold, metrics, neighbors

HERE = Path(__file__).parent
SETS = {"iris": 3, "wine": 3, "digits": 10, "blobs": 8}  # with their clusters
LINKAGES = ["ward", "complete", "average", "single"]


def blobs():
    chance = np.random.default_rng(42)
    centres = chance.uniform(-6, 6, (8, 20))
    of = chance.integers(0, 8, 1000)
    rows = centres[of] + chance.normal(0, 2, (1000, 20))
    outliers = chance.choice(1000, 20, replace=False)
    rows[outliers] = chance.uniform(-14, 14, (20, 20))
    of[outliers] = -1
    return rows, of


def tables():
    (HERE / "data").mkdir(exist_ok=True)
    for name in SETS:
        values, of = blobs() if name == "blobs" else getattr(datasets, f"load_{name}")(return_X_y=True)
        form = "%.4f" if name == "blobs" else "%g"
        header = ",".join([f"c{column}" for column in range(values.shape[1])] + ["class"])
        np.savetxt(HERE / "data" / f"{name}.csv", np.column_stack([values, of]), fmt=[form] * values.shape[1] + ["%d"],
                   delimiter=",", header=header, comments="")


def load(name):
    """What the algorithms are given, and the class of each row."""
    table = np.loadtxt(HERE / "data" / f"{name}.csv", delimiter=",", skiprows=1)
    values, of = table[:, :-1], table[:, -1].astype(int)
    if name in ("iris", "wine"):
        values = (values - values.mean(axis=0)) / values.std(axis=0)
    return np.ascontiguousarray(values), of


def fitted_kmeans(name, values):
    return cluster.KMeans(SETS[name], n_init=10, random_state=0).fit(values)


def fitted_dbscan(values):
    """With the 90 % quantile of the distances to the 5th neighbour as its radius, so that some rows are noise."""
    distances, _ = neighbors.NearestNeighbors(n_neighbors=5).fit(values).kneighbors(values)
    eps = round(float(np.quantile(distances[:, -1], 0.9)), 2)
    return eps, cluster.DBSCAN(eps=eps, min_samples=5).fit(values)


def pca(name, values, of):
    """Three components with svd_flip's signs: the largest loading of each, by magnitude, is positive. Scores of 50 rows."""
    fit = decomposition.PCA(3, svd_solver="full")
    scores = fit.fit_transform(values)
    return {
        "components": fit.components_.tolist(),
        "means": fit.mean_.tolist(),
        "explained_variance": fit.explained_variance_.tolist(),
        "explained_variance_ratio": fit.explained_variance_ratio_.tolist(),
        "scores": scores[:50].tolist(),
    }


def kmeans(name, values, of):
    """The best of ten starts with greedy k-means++; and of ten times as many, which is as low as it gets."""
    fit = fitted_kmeans(name, values)
    best = cluster.KMeans(SETS[name], n_init=100, random_state=1).fit(values)
    return {"clusters": SETS[name], "inertia": fit.inertia_, "best_inertia": best.inertia_, "labels": fit.labels_.tolist()}


def judged(values, labels):
    kept = labels >= 0
    values, labels = values[kept], labels[kept]
    return {
        "silhouette": metrics.silhouette_score(values, labels),
        "calinski_harabasz": metrics.calinski_harabasz_score(values, labels),
        "davies_bouldin": metrics.davies_bouldin_score(values, labels),
    }


def metrics_of(name, values, of):
    """Of K-Means' labels (in kmeans.json), of DBSCAN's (in dbscan.json) without its noise, and of the classes as labels.
    Rand indices count noise as one more cluster. Trustworthiness of the first 2 and 3 principal components, 5 neighbours."""
    by_means, by_density = fitted_kmeans(name, values).labels_, fitted_dbscan(values)[1].labels_
    scores = decomposition.PCA(3, svd_solver="full").fit_transform(values)
    made = {
        "kmeans": judged(values, by_means),
        "classes": judged(values, of),
        "adjusted_rand": {
            "classes_kmeans": metrics.adjusted_rand_score(of, by_means),
            "classes_dbscan": metrics.adjusted_rand_score(of, by_density),
            "kmeans_dbscan": metrics.adjusted_rand_score(by_means, by_density),
        },
        "trustworthiness": {str(d): manifold.trustworthiness(values, scores[:, :d], n_neighbors=5) for d in (2, 3)},
    }
    if len(set(by_density) - {-1}) > 1:
        made["dbscan"] = judged(values, by_density)
    return made


def isolation_forest(name, values, of):
    """100 trees, 256 rows each: each row's mean score of 20 seeds, how many pass a half, and how well they find class -1."""
    scores = np.array([-ensemble.IsolationForest(random_state=seed).fit(values).score_samples(values) for seed in range(20)])
    made = {
        "mean_scores": np.round(scores.mean(axis=0), 4).tolist(),
        "mean_above_half": float((scores > 0.5).sum(axis=1).mean()),
    }
    if (of < 0).any():
        made["mean_auc"] = float(np.mean([metrics.roc_auc_score(of < 0, score) for score in scores]))
    return made


def dbscan(name, values, of):
    eps, fit = fitted_dbscan(values)
    return {"eps": eps, "min_samples": 5, "labels": fit.labels_.tolist(), "cores": len(fit.core_sample_indices_)}


def hdbscan(name, values, of):
    """scikit-learn's, which counts a row as its own first neighbour; outlier scores (GLOSH) by hdbscan, which does not."""
    import hdbscan as contrib

    made = {}
    for size, samples in ((15, 15), (10, 5)):
        for selection in ("eom", "leaf"):
            fit = cluster.HDBSCAN(min_cluster_size=size, min_samples=samples, cluster_selection_method=selection,
                                  copy=True).fit(values)
            made[f"{selection}_{size}_{samples}"] = {
                "min_cluster_size": size,
                "min_samples": samples,
                "labels": fit.labels_.tolist(),
            }
            if selection == "eom":
                made[f"{selection}_{size}_{samples}"]["probabilities"] = np.round(fit.probabilities_, 4).tolist()
    other = contrib.HDBSCAN(min_cluster_size=15, min_samples=14, approx_min_span_tree=False).fit(values)
    made["eom_15_15"]["outlier_scores"] = np.round(other.outlier_scores_, 4).tolist()
    return made


def agglomerative(name, values, of):
    made = {"clusters": SETS[name]}
    for linkage in LINKAGES:
        fit = cluster.AgglomerativeClustering(SETS[name], linkage=linkage, compute_distances=True).fit(values)
        made[linkage] = {
            "labels": fit.labels_.tolist(),
            # The heights of the last nine mergers, the highest last.
            "heights": fit.distances_[-9:].tolist(),
        }
    return made


def affinities(values):
    """The joint probabilities of t-SNE at a perplexity of 30, from the 90 nearest neighbours."""
    from openTSNE.affinity import PerplexityBasedNN

    return PerplexityBasedNN(values, perplexity=30, k_neighbors=90, method="exact", n_jobs=2).P.tocoo()


def divergence(joint, places):
    """The Kullback-Leibler divergence of a map, with all pairs of rows: what libraries report is an estimate of it."""
    places = np.asarray(places, dtype=np.float64)
    near = 1 / (1 + metrics.pairwise.euclidean_distances(places, squared=True))
    np.fill_diagonal(near, 0)
    there = joint.data > 0
    p, q = joint.data[there], near[joint.row[there], joint.col[there]] / near.sum()
    return float(np.sum(p * np.log(p / np.maximum(q, 1e-300))))


def tsne(name, values, of):
    """Perplexity 30 and defaults but for 1,000 steps: openTSNE (250 + 750; 2D only) and scikit-learn's Barnes-Hut (2D, 3D).
    Trustworthiness with 5 neighbours; kl is the true divergence with one degree of freedom (scikit-learn takes two in 3D, so
    its 3D maps are not made for this measure). Means of three seeds."""
    import openTSNE

    joint, made = affinities(values), {}
    for library, dimensions in (("openTSNE", 2), ("sklearn", 2), ("sklearn", 3)):
        trust, kl = [], []
        for seed in range(3):
            if library == "openTSNE":
                places = openTSNE.TSNE(dimensions, perplexity=30, n_iter=750, n_jobs=2, random_state=seed,
                                       neighbors="exact").fit(values)
            else:
                places = manifold.TSNE(dimensions, perplexity=30, max_iter=1000, init="pca", n_jobs=2,
                                       random_state=seed).fit_transform(values)
            trust.append(manifold.trustworthiness(values, np.asarray(places), n_neighbors=5))
            kl.append(divergence(joint, places))
        made[f"{library}_{dimensions}d"] = {"trustworthiness": float(np.mean(trust)), "kl": float(np.mean(kl))}
    return made


def umap(name, values, of):
    """umap-learn's defaults, in 2D and 3D: trustworthiness with 5 neighbours, mean of three seeds."""
    import warnings

    import umap as learn

    warnings.filterwarnings("ignore")
    made = {}
    for dimensions in (2, 3):
        made[f"{dimensions}d"] = {"trustworthiness": float(np.mean([
            manifold.trustworthiness(values, learn.UMAP(n_components=dimensions, random_state=seed).fit_transform(values),
                                     n_neighbors=5)
            for seed in range(3)
        ]))}
    return made


VALUES = {
    "pca": pca, "kmeans": kmeans, "metrics": metrics_of, "isolation_forest": isolation_forest, "dbscan": dbscan,
    "hdbscan": hdbscan, "agglomerative": agglomerative, "tsne": tsne, "umap": umap,
}


def main(asked):
    if not asked:
        tables()
    for name in asked or VALUES:
        print(name, flush=True)
        made = {each: VALUES[name](each, *load(each)) for each in SETS}
        (HERE / f"{name}.json").write_text(json.dumps(made, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
