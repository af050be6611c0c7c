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
GOOD_R, SEED = 0.3, 42


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
        mean of the unit's type; ``by_unit``, mean over units of R across genes; ``genes_above``, number of genes whose
        R is above 0.3, and ``genes_above_null``, of those when the units' predictions are shuffled.
    intervals : dict
        95 % intervals over blocks, by the jackknife: ``pearson_common``, and ``share_above_common``, of the share of
        genes above 0.3; None for a single block.
    without : ``pearson`` without each block
    """
    types, blocks, genes = pd.factorize(cell_type)[0], int(block.max()) + 1, counts.shape[1]
    by_type, by_block = np.zeros((6, types.max() + 1, genes)), np.zeros((6, blocks, genes))
    shuffled, across, rng = np.zeros((6, 1, genes)), [], np.random.default_rng(SEED)
    for start in range(0, len(total), ROWS):
        part = slice(start, start + ROWS)
        found = np.asarray(read(part), np.float64)
        depth = None if median is None else median[part]
        found = to_common(found, unit, depth).astype(np.float64)
        actual = normalise(counts[part], total[part], COMMON).toarray().astype(np.float64)
        add(by_type, types[part], actual, found)
        add(by_block, block[part], actual, found)
        add(shuffled, np.zeros(len(found), int), actual, found[rng.permutation(len(found))])
        across.append(row_correlation(actual, found))
    overall = metrics.pearson_from_sums(by_block.sum(axis=1))
    left = metrics.pearson_from_sums(np.stack([metrics.leave_one_out(s) for s in by_block]))
    without = np.median(left, axis=1)
    value = float(np.median(overall))
    scores = {
        "unit": COMMON,
        "pearson": value,
        "within_type": float(np.median(metrics.within_from_sums(np.swapaxes(by_type, 1, 2)))),
        "by_unit": float(np.mean(np.concatenate(across))),
        "genes_above": int((overall > GOOD_R).sum()),
        "genes_above_null": int((metrics.pearson_from_sums(shuffled.sum(axis=1)) > GOOD_R).sum()),
    }
    if blocks < 2:
        return scores, {"pearson_common": None, "share_above_common": None}, []
    share = float((overall > GOOD_R).mean()), (left > GOOD_R).mean(axis=1)
    intervals = {
        "pearson_common": metrics.jackknife_interval(value, without, "correlation"),
        "share_above_common": metrics.jackknife_interval(*share, "share"),
    }
    return scores, intervals, without.tolist()


def add(sums: np.ndarray, group: np.ndarray, actual: np.ndarray, found: np.ndarray) -> None:
    """Add what Pearson's R needs of some units (k, genes) to sums (6, groups, genes), by group (k,)."""
    places = group, np.arange(len(group))
    which = sparse.csr_matrix((np.ones(len(group)), places), (sums.shape[1], len(group)))
    for k, values in enumerate((np.ones_like(found), actual, found, actual**2, found**2, actual * found)):
        sums[k] += which @ values


def row_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's R of the rows of two matrices, (n,); 0 where a row is constant."""
    one, other = (values - values.mean(axis=1, keepdims=True) for values in (one, other))
    spread = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.where(spread > 1e-12, (one * other).sum(axis=1) / np.maximum(spread, 1e-12), 0.0)
