"""What a slide is made of, by its predictions: types with intervals, densities, and who lies beside whom."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

NEIGHBOURS = 6
PERMUTATIONS = 200
SEED = 42
FEWEST = 50  # cells below which neighbours say nothing


def composition(probabilities: np.ndarray, classes: list[str], area_mm2: float | None, level: float = 0.95) -> list:
    """Count the cells of each type by their calibrated probabilities.

    The number of cells of a type is a sum of independent draws, one a cell, with these probabilities (Poisson
    binomial): its mean is their sum, its variance the sum of p (1 - p). The interval holds as far as the probabilities
    do; errors that neighbouring cells share make it too narrow.

    Parameters
    ----------
    probabilities
        (n, classes), calibrated.
    area_mm2
        Of the tissue; None: no density is given.

    Returns
    -------
    list of dict
        For each type: ``type``, ``called`` (cells that are called so), ``expected``, ``share`` with ``low`` and
        ``high``, and ``per_mm2``.
    """
    n = max(len(probabilities), 1)
    expected = probabilities.sum(axis=0, dtype=np.float64)
    half = norm.ppf(0.5 + level / 2) * np.sqrt((probabilities * (1 - probabilities)).sum(axis=0, dtype=np.float64))
    called = (
        np.bincount(probabilities.argmax(axis=1), minlength=len(classes)) if len(probabilities) else [0] * len(classes)
    )
    return [
        {
            "type": name,
            "called": int(called[k]),
            "expected": float(expected[k]),
            "share": float(expected[k] / n),
            "low": float(max(expected[k] - half[k], 0) / n),
            "high": float(min(expected[k] + half[k], n) / n),
            "per_mm2": float(expected[k] / area_mm2) if area_mm2 else None,
        }
        for k, name in enumerate(classes)
    ]


def neighbourhood(cell_type: pd.Series, xy: np.ndarray) -> list[dict[str, Any]]:
    """Say which types lie beside which more often than by chance.

    z-scores of squidpy's neighbourhood enrichment (Palla et al. 2022): edges between types among each cell's
    :data:`NEIGHBOURS` nearest, against permuted types.

    Parameters
    ----------
    cell_type
        (n,) type of each cell.
    xy
        (n, 2) µm.

    Returns
    -------
    list of dict
        ``type``, ``beside``, ``z``; none for fewer than :data:`FEWEST` cells, or one type.
    """
    from anndata import AnnData
    from squidpy import gr

    called = pd.Series(pd.Categorical(cell_type.astype(str)))
    if len(called) < FEWEST or len(called.cat.categories) < 2:
        return []
    cells = AnnData(np.zeros((len(called), 0), np.float32), obs=pd.DataFrame({"type": called.to_numpy()}))
    cells.obs["type"] = cells.obs["type"].astype("category")
    cells.obsm["spatial"] = np.asarray(xy, np.float64)
    gr.spatial_neighbors(cells, coord_type="generic", n_neighs=NEIGHBOURS)
    gr.nhood_enrichment(cells, "type", seed=SEED, n_perms=PERMUTATIONS, n_jobs=1, show_progress_bar=False)
    z, names = cells.uns["type_nhood_enrichment"]["zscore"], list(cells.obs["type"].cat.categories)
    return [
        {"type": a, "beside": b, "z": float(z[i, j])}
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if np.isfinite(z[i, j])
    ]
