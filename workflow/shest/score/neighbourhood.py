"""Which types of a slide lie beside which."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from squidpy import gr

NEIGHBOURS = 6
PERMUTATIONS = 200
SEED = 42
FEWEST = 50  # cells below which neighbours say nothing


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
