"""Scales that expression is given on, by name: counts, their logarithms, or those of counts brought to one depth.

``CP10K``: counts of a unit, over their sum, times 10,000. ``CPmedian``: times the median sum of the units that a system
was trained on. Sums are over the genes that are given.
"""

import numpy as np
from scipy import sparse

LOG10_CP10K = "log10(1+CP10K)"
LOG1P_MEDIAN = "log1p CPmedian"
LOG1P = "log1p counts"
COMMON = LOG10_CP10K
"""The scale that predictions of any unit are brought to, to stand beside each other."""


def scale_of(unit: str) -> str:
    """Return the name of the scale of a unit: its own, of logarithms, else ``counts``."""
    return unit if unit in (LOG10_CP10K, LOG1P_MEDIAN, LOG1P) else "counts"


def is_expression(unit: str) -> bool:
    """Tell whether values of a unit are expression, on whatever scale: a probability of being high is none."""
    return not unit.startswith("probability")


def to_depth(counts: sparse.csr_matrix, total: np.ndarray, depth: float | np.ndarray) -> sparse.csr_matrix:
    """Scale units' counts so that sums of ``total`` (n,) become ``depth``; a unit without counts keeps none."""
    factor = np.where(np.asarray(total) > 0, depth / np.maximum(total, 1e-12), 0)
    return sparse.csr_matrix(sparse.diags(factor) @ counts)


def normalise(
    counts: sparse.csr_matrix, total: np.ndarray, unit: str, median: float | np.ndarray | None = None
) -> sparse.csr_matrix:
    """Bring counts (n, g) to the scale of a unit, CSR float32; counts stay what they are.

    Parameters
    ----------
    total
        (n,) sums of the units' counts over all genes, of which ``counts`` may hold some.
    unit
        One of the names above, or any other for counts.
    median
        Of the training units' sums; one number, or one a unit.
    """
    if scale_of(unit) == "counts":
        return sparse.csr_matrix(counts, dtype=np.float32)
    if unit == LOG1P:
        return sparse.csr_matrix(counts, dtype=np.float32).log1p()
    scaled = to_depth(counts, total, 1e4 if unit == LOG10_CP10K else median)
    return (scaled.log1p() / (np.log(10) if unit == LOG10_CP10K else 1)).astype(np.float32)


def to_common(values: np.ndarray, unit: str, median: float | np.ndarray | None = None) -> np.ndarray:
    """Bring predictions (n, g) of any unit to :data:`COMMON`, float32.

    Those that were not brought to a depth are brought to it by their sums over the genes that are given. ``median`` as
    in :func:`normalise`. What is below 0 counts as 0.
    """
    values = np.maximum(values, 0).astype(np.float64)
    if unit == LOG10_CP10K:
        return values.astype(np.float32)
    counts = values if scale_of(unit) == "counts" else np.expm1(values)
    total = np.broadcast_to(median, len(counts)) if unit == LOG1P_MEDIAN else counts.sum(axis=1)
    return np.log10(1 + counts * (1e4 / np.maximum(total, 1e-12))[:, None]).astype(np.float32)
