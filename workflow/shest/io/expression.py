"""Scales that expression is given on, by name: counts, or logarithms of counts that were brought to one depth.

``CP10K``: counts of a unit, over their sum, times 10,000. ``CPmedian``: times the median sum of the units that a system
was trained on. Sums are over the genes that are given.
"""

import numpy as np

LOG10_CP10K = "log10(1+CP10K)"
LOG1P_MEDIAN = "log1p CPmedian"
COMMON = LOG10_CP10K
"""The scale that predictions of any unit are brought to, to stand beside each other."""


def is_log(unit: str) -> bool:
    """Tell whether values are logarithms of counts at one depth; else they are counts."""
    return unit in (LOG10_CP10K, LOG1P_MEDIAN)


def depth_of(unit: str, median: float | np.ndarray | None) -> float | np.ndarray:
    """Return the sum that counts are brought to, on a scale of logarithms; ``median``: of the training units' sums."""
    return 1e4 if unit == LOG10_CP10K else np.asarray(median)


def normalise(counts: np.ndarray, total: np.ndarray, unit: str, median: float | np.ndarray | None = None) -> np.ndarray:
    """Bring counts (n, g) to a scale, float32 (n, g); counts stay what they are.

    Parameters
    ----------
    total
        (n,) sums of the units' counts over all genes; where it is 0, so is what is returned.
    unit
        One of the names above, or any other for counts.
    median
        Of the training units' sums; one number, or one a unit.
    """
    if not is_log(unit):
        return np.asarray(counts, np.float32)
    factor = np.broadcast_to(depth_of(unit, median), np.shape(total)) / np.maximum(total, 1e-12)
    scaled = np.asarray(counts, np.float64) * np.where(np.asarray(total) > 0, factor, 0)[:, None]
    return (np.log10(1 + scaled) if unit == LOG10_CP10K else np.log1p(scaled)).astype(np.float32)


def to_common(values: np.ndarray, unit: str, total: np.ndarray, median: float | np.ndarray | None = None) -> np.ndarray:
    """Bring predictions (n, g) of any unit to :data:`COMMON`, float32.

    ``total``: (n,) sums of the predictions over all genes, for those that are counts; ``median`` as in
    :func:`normalise`. What is below 0 counts as 0.
    """
    values = np.maximum(values, 0)
    if unit == LOG10_CP10K:
        return values.astype(np.float32)
    if unit == LOG1P_MEDIAN:
        scaled = np.expm1(values.astype(np.float64)) * (1e4 / np.broadcast_to(median, len(values)))[:, None]
        return np.log10(1 + scaled).astype(np.float32)
    return normalise(values, total, COMMON)
