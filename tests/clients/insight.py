"""What scripts/bench compares the algorithms of fourmi-learning with: one fit of one algorithm in a process of its own.

    insight.py ALGORITHM FOLDER RESULT --seed SEED --eps EPS

Reads FOLDER/data.npy (and labels.npy for the silhouette), writes what came out to RESULT, and prints a JSON object:
`seconds` of a fit without imports, loading and compilation, `idle_bytes` before it, and `rss_bytes`, the peak of the process.
The same rules as in tests/src/bench/insight/solver.rs; options are those of `dataset.analyze`, else the library's.
"""

import argparse
import json
import os
import statistics
import time
import warnings

THREADS = 2
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = str(THREADS)

import numpy as np  # noqa: E402 (the threads are counted when libraries are loaded)

WARM_UP_ROWS = 300
LEAST_SECONDS = 1.0
MOST_FITS = 20


def pca():
    from sklearn.decomposition import PCA

    return lambda data, _: PCA(3).fit_transform(data)


def tsne():
    """750 steps, openTSNE's default; two dimensions, because more have no fast method there."""
    from openTSNE import TSNE

    return lambda data, _: np.asarray(TSNE(n_jobs=THREADS, random_state=arguments.seed).fit(data))


def umap():
    """Without a seed, which would keep it on one thread."""
    from umap import UMAP

    def fit(data, _, **options):
        return UMAP(n_jobs=THREADS, **options).fit_transform(data)

    # Few rows are searched in another way than many: this compiles the other one.
    fit(np.random.default_rng(0).normal(size=(WARM_UP_ROWS, 20)), None, force_approximation_algorithm=True)
    return fit


def kmeans():
    from sklearn.cluster import KMeans

    return lambda data, _: KMeans(8, n_init=10, random_state=arguments.seed).fit(data).labels_


def dbscan():
    from sklearn.cluster import DBSCAN

    return lambda data, _: DBSCAN(eps=arguments.eps, min_samples=5, n_jobs=THREADS).fit(data).labels_


def hdbscan():
    from sklearn.cluster import HDBSCAN

    return lambda data, _: HDBSCAN(min_cluster_size=15, n_jobs=THREADS, copy=True).fit(data).labels_


def agglomerative():
    from sklearn.cluster import AgglomerativeClustering

    return lambda data, _: AgglomerativeClustering(8, linkage="ward").fit(data).labels_


def isolation_forest():
    from sklearn.ensemble import IsolationForest

    return lambda data, _: -IsolationForest(n_jobs=THREADS, random_state=arguments.seed).fit(data).score_samples(data)


def silhouette():
    from sklearn.metrics import silhouette_score

    return lambda data, labels: silhouette_score(data, labels, n_jobs=THREADS)


ALGORITHMS = (pca, tsne, umap, kmeans, dbscan, hdbscan, agglomerative, isolation_forest, silhouette)


def memory(field, processes=("self",)):
    """The sum over processes of a field of /proc/PROCESS/status, in bytes."""
    total = 0
    for process in processes:
        with open(f"/proc/{process}/status") as status:
            total += next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024
    return total


def family():
    """This process and those that it has started."""
    processes = ["self"]
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as children:
            processes += children.read().split()
    return processes


parser = argparse.ArgumentParser()
parser.add_argument("algorithm", choices=[algorithm.__name__ for algorithm in ALGORITHMS])
parser.add_argument("folder")
parser.add_argument("result")
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--eps", type=float, required=True)
arguments = parser.parse_args()
warnings.filterwarnings("ignore")

data = np.load(f"{arguments.folder}/data.npy")
labels = np.load(f"{arguments.folder}/labels.npy").ravel().astype(np.int32)
fit = next(algorithm for algorithm in ALGORITHMS if algorithm.__name__ == arguments.algorithm)()
fit(data[:WARM_UP_ROWS].copy(), labels[:WARM_UP_ROWS])
idle = memory("VmRSS", family())
seconds = []
while not seconds or (sum(seconds) < LEAST_SECONDS and len(seconds) < MOST_FITS):
    started = time.perf_counter()
    answer = fit(data, labels)
    seconds.append(time.perf_counter() - started)
peak = memory("VmHWM", family())
answer = np.asarray(answer, dtype=np.float64)
np.save(arguments.result, np.ascontiguousarray(answer.reshape(-1, answer.shape[-1] if answer.ndim == 2 else 1)))
print(json.dumps({"seconds": statistics.median(seconds), "idle_bytes": idle, "rss_bytes": peak}))
