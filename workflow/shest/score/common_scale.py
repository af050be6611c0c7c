"""Predictions of any unit beside each other: brought to one scale, and correlated with the counts brought to the same.

A system that predicts counts and one that predicts logarithms have no correlation in common: one is ruled by the few
cells with many counts, the other is not. Here both are logarithms at one depth. Two correlations are looked at: of a
gene across units, and of a unit across genes. The second is high for whoever knows the mean of each gene, without an
image: it says something only beside that of a system of kind ``mean``.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from shest.io.expression import COMMON, normalise, to_common
from shest.score import metrics

ROWS = 4096


def score(
    read: Any,
    counts: sparse.csr_matrix,
    total: np.ndarray,
    unit: str,
    median: np.ndarray | None,
    cell_type: np.ndarray,
    block: np.ndarray,
) -> tuple[dict[str, Any], dict[str, Any], list[float]]:
    """Correlate predictions with counts on the common scale; memory grows with the genes, not with the units.

    Parameters
    ----------
    read
        ``read(slice)`` returns predictions of some units, (k, genes).
    counts
        (n, genes) actual counts.
    total
        (n,) their sums over all genes that the system knows.
    unit
        Of the predictions.
    median
        (n,) of the training units' sums, for a unit that names it.
    cell_type, block
        (n,) of each unit.

    Returns
    -------
    scores : dict
        ``unit``; ``pearson``, median over genes of R across units; ``within_type``, the same of values centred by the
        mean of the unit's type; ``by_unit``, mean over units of R across genes.
    interval : 95 % interval of ``pearson`` over blocks, by the jackknife; None for a single block
    without : ``pearson`` without each block
    """
    types, blocks, genes = pd.factorize(cell_type)[0], int(block.max()) + 1, counts.shape[1]
    by_type, by_block = np.zeros((6, types.max() + 1, genes)), np.zeros((6, blocks, genes))
    across = []
    for start in range(0, len(total), ROWS):
        part = slice(start, start + ROWS)
        found = np.asarray(read(part), np.float64)
        depth = None if median is None else median[part]
        found = to_common(found, unit, found.sum(axis=1), depth).astype(np.float64)
        actual = normalise(counts[part], total[part], COMMON).toarray().astype(np.float64)
        for group, sums in ((types[part], by_type), (block[part], by_block)):
            which = sparse.csr_matrix(
                (np.ones(len(group)), (group, np.arange(len(group)))), (sums.shape[1], len(group))
            )
            products = np.ones_like(found), actual, found, actual**2, found**2, actual * found
            for k, values in enumerate(products):
                sums[k] += which @ values
        across.append(row_correlation(actual, found))
    overall = metrics.pearson_from_sums(by_block.sum(axis=1))
    without = np.median(metrics.pearson_from_sums(np.stack([metrics.leave_one_out(s) for s in by_block])), axis=1)
    value = float(np.median(overall))
    scores = {
        "unit": COMMON,
        "pearson": value,
        "within_type": float(np.median(metrics.within_from_sums(np.swapaxes(by_type, 1, 2)))),
        "by_unit": float(np.mean(np.concatenate(across))),
    }
    if blocks < 2:
        return scores, None, []
    return scores, metrics.jackknife_interval(value, without, "correlation"), without.tolist()


def row_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's R of the rows of two matrices, (n,); 0 where a row is constant."""
    one, other = (values - values.mean(axis=1, keepdims=True) for values in (one, other))
    spread = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.where(spread > 1e-12, (one * other).sum(axis=1) / np.maximum(spread, 1e-12), 0.0)
