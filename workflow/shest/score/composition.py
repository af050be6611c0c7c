"""What a slide is made of, by its predictions: types with intervals and densities."""

import numpy as np
from scipy.stats import norm

COLUMNS = ("type", "called", "expected", "share", "low", "high", "per_mm2")
"""What is said of each type."""


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
        For each type :data:`COLUMNS`: ``type``, ``called`` (cells that are called so), ``expected``, ``share`` with
        ``low`` and ``high``, and ``per_mm2``.
    """
    n = max(len(probabilities), 1)
    expected = probabilities.sum(axis=0, dtype=np.float64)
    half = norm.ppf(0.5 + level / 2) * np.sqrt((probabilities * (1 - probabilities)).sum(axis=0, dtype=np.float64))
    called = (
        np.bincount(probabilities.argmax(axis=1), minlength=len(classes)) if len(probabilities) else [0] * len(classes)
    )
    rows = [
        (
            name,
            int(called[k]),
            float(expected[k]),
            float(expected[k] / n),
            float(max(expected[k] - half[k], 0) / n),
            float(min(expected[k] + half[k], n) / n),
            float(expected[k] / area_mm2) if area_mm2 else None,
        )
        for k, name in enumerate(classes)
    ]
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]
