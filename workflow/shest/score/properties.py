"""Which properties of genes go with how well they are predicted: rank correlations over genes, raw and partial.

A gene that is read often has more of everything: less noise, so a higher R, and a higher Moran's I. What a property
tells beyond that is its partial correlation, in which others are held fixed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

HELD = {
    "moran_actual": ("mean_counts", "zeros"),
    "mean_counts": ("moran_actual",),
    "zeros": ("moran_actual",),
    "gc": ("mean_counts", "zeros"),
    "length": ("mean_counts", "zeros"),
}
"""Properties of genes, columns of their table, and which others their partial correlation holds fixed: of Moran's I and
of transcripts how many counts there are; of that, which has two measures that go together, Moran's I."""
FEWEST = 3  # genes beyond what is held fixed


def partial_spearman(x: np.ndarray, y: np.ndarray, held: Sequence[np.ndarray] = ()) -> float | None:
    """Spearman's rho of two properties (n,) once others are held fixed.

    Pearson's R of what is left of the ranks after a linear fit to the ranks of ``held``.

    Returns
    -------
    None for too few values, or where nothing is left to vary.
    """
    if len(x) < FEWEST + len(held):
        return None
    x, y, *others = (stats.rankdata(values) - (len(x) + 1) / 2 for values in (x, y, *held))
    if others:
        basis = np.stack(others, axis=1)
        left = [v - basis @ np.linalg.lstsq(basis, v, rcond=None)[0] for v in (x, y)]
    else:
        left = [x, y]
    spreads = [float(a @ a) for a in left]
    if min(spreads) <= 1e-9 * len(x) ** 3:  # ranks that vary have a sum of squares of about n³ / 12
        return None
    return float(left[0] @ left[1] / np.sqrt(spreads[0] * spreads[1]))


def go_with(genes: pd.DataFrame, score: str = "pearson") -> dict[str, dict[str, Any]]:
    """Correlate a score with every property of :data:`HELD` that a table of genes has as a column.

    Returns
    -------
    dict
        By property: ``rho``, ``partial``, ``held`` (names), and ``n``, the genes that have all of these.
    """
    found = {}
    for name, others in HELD.items():
        if name not in genes or any(other not in genes for other in others):
            continue
        rows = genes[[score, name, *others]].astype(float).dropna()
        x, y, *held = (rows[column].to_numpy() for column in rows)
        partial = partial_spearman(x, y, held)
        found[name] = {"rho": partial_spearman(x, y), "partial": partial, "held": list(others), "n": len(rows)}
    return found
