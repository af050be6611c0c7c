"""Two clusters of expression against a pathologist's regions: cancer, and all else."""

from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

SEED, STARTS = 42, 10


def two_clusters(values: np.ndarray) -> np.ndarray:
    """Cluster units by their expression (n, genes), of logarithms, by k-means -> (n,) 0 and 1; seeded."""
    return KMeans(2, n_init=STARTS, random_state=SEED).fit_predict(np.asarray(values, np.float64))


def agreement(cluster: np.ndarray, cancer: np.ndarray) -> dict[str, Any]:
    """Hold two clusters against regions; which of them stands for cancer is what agrees better, as it was published.

    Parameters
    ----------
    cluster
        (n,) 0 and 1.
    cancer
        (n,) bool.

    Returns
    -------
    dict
        ``n``; ``agree``, number of units in the right cluster, and their ``share``; ``majority``, the share that one
        cluster alone would have: what the first must be above to say anything; ``rand``, the adjusted Rand index, 0
        by chance.
    """
    n, first = len(cancer), int(((cluster == 1) == cancer).sum())
    agree = max(first, n - first)
    majority = max(cancer.mean(), 1 - cancer.mean())
    rand = float(adjusted_rand_score(cancer, cluster))
    return {"n": n, "agree": agree, "share": agree / n, "majority": float(majority), "rand": rand}


def stands_for_cancer(cluster: np.ndarray, cancer: np.ndarray) -> np.ndarray:
    """Return which units lie in the cluster that stands for cancer, (n,) bool."""
    found = cluster == 1
    return found if (found == cancer).sum() * 2 >= len(cancer) else ~found
