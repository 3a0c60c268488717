"""Makes trustworthiness.json: that of a map which both sides make, two sums of the columns."""

import json

import numpy as np
from make import HERE, SETS, load
from sklearn.manifold import trustworthiness

values = {}
for name in SETS:
    rows, _ = load(name)
    column = np.arange(rows.shape[1])
    flat = rows @ np.column_stack([1 / (column + 1), (column % 3) - 1.0])
    values[name] = trustworthiness(rows, flat, n_neighbors=5)
(HERE / "trustworthiness.json").write_text(json.dumps(values) + "\n")
