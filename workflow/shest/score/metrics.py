"""Scores: of types, of expression, of space. Pure functions on arrays, each equal to its textbook formula."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse, stats
from scipy.spatial import cKDTree
from sklearn.neighbors import kneighbors_graph

from shest.score import kernels


def confusion_matrix(actual: np.ndarray, predicted: np.ndarray, types: list[str]) -> np.ndarray:
    """Count cells by actual (rows) and predicted type (columns), (T, T) int64."""
    a, p = pd.Categorical(actual, types).codes, pd.Categorical(predicted, types).codes
    if (a < 0).any() or (p < 0).any():
        raise ValueError("a type that is not in the list of types")
    return np.bincount(a.astype(np.int64) * len(types) + p, minlength=len(types) ** 2).reshape(len(types), -1)


def type_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Score confusion matrices.

    Parameters
    ----------
    confusion : (..., T, T), rows actual, columns predicted

    Returns
    -------
    dict
        ``per_class`` (..., T): F1, NaN for types without an actual cell; ``weighted`` and ``macro`` (...): means of
        it over the types with at least one actual cell, weighted by their number or not; ``balanced_accuracy``
        (...): mean recall over the same types.
    """
    confusion = np.asarray(confusion, dtype=float)
    support, called = confusion.sum(axis=-1), confusion.sum(axis=-2)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    there = support > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(there, 2 * hits / (support + called), np.nan)
        recall = np.where(there, hits / support, np.nan)
        weighted = np.nansum(f1 * support, axis=-1) / support.sum(axis=-1)
        macro = np.nansum(f1, axis=-1) / there.sum(axis=-1)
        balanced = np.nansum(recall, axis=-1) / there.sum(axis=-1)
    return {"per_class": f1, "weighted": weighted, "macro": macro, "balanced_accuracy": balanced}


def gene_slices(genes: int, at_once: int) -> list[slice]:
    """Cut ``genes`` genes into slices of at most ``at_once``."""
    return [slice(start, min(start + at_once, genes)) for start in range(0, genes, at_once)]


def dense(counts: sparse.csc_matrix, part: slice) -> np.ndarray:
    """Return some genes of sparse counts as dense float32 (cells, genes)."""
    return np.ascontiguousarray(counts[:, part].toarray(), np.float32)


def centre(values: np.ndarray) -> np.ndarray:
    """Mean by gene in float64, (cells, genes) -> (genes,)."""
    return values.mean(axis=0, dtype=np.float64)


def group_sums(actual: np.ndarray, predicted: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Sum what Pearson's R needs, by group of cells: spatial blocks, types, or both.

    Values are centred first, so that the sums keep their digits.

    Parameters
    ----------
    actual, predicted : (cells, genes) float32
    group : (cells,) int, 0 to ``groups`` - 1

    Returns
    -------
    (6, groups, genes): n, sum x, sum y, sum xx, sum yy, sum xy
    """
    return np.moveaxis(kernels.group_sums(actual, predicted, centre(actual), centre(predicted), group, groups), 1, 0)


def pearson_from_sums(sums: np.ndarray) -> np.ndarray:
    """Pearson's R out of sums (6, ...) -> (...); 0 where a side is constant: nothing can be shown there."""
    return within_from_sums(np.asarray(sums)[..., None])


def within_from_sums(sums: np.ndarray) -> np.ndarray:
    """Pearson's R of values centred by the mean of their group, out of sums (6, ..., groups) -> (...).

    0 where a side is constant in every group.
    """
    n, x, y, _, _, xy = sums
    both = (xy - x * y / np.maximum(n, 1)).sum(axis=-1)
    spread_x, spread_y = spreads(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = both / np.sqrt(spread_x * spread_y)
    return np.where((spread_x > 0) & (spread_y > 0), r, 0.0)


def spreads(sums: np.ndarray) -> np.ndarray:
    """Sums of squares about the means of groups, of both sides, out of sums (6, ..., groups) -> (2, ...).

    0 where a side is constant in every group.
    """
    n, x, y, xx, yy, _ = sums
    n = np.maximum(n, 1)
    found = [((square - v * v / n).sum(axis=-1), square.sum(axis=-1)) for v, square in ((x, xx), (y, yy))]
    return np.stack([np.where(spread > 1e-12 * square, spread, 0.0) for spread, square in found])


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank by gene, ties by their mean, (cells, genes) float32 -> (cells, genes) float32."""
    return kernels.ranks(np.ascontiguousarray(values, np.float32))


def high_pairs(actual: np.ndarray, of_ranks: np.ndarray, block: np.ndarray, blocks: int) -> np.ndarray:
    """Count the pairs that the AUC is made of, (5, blocks, genes); see :func:`shest.score.kernels.high_pairs`.

    A cell is high where its value is above the gene's mean over the cells: z > 0 within the sample.

    ``actual``: (cells, genes) float32; ``of_ranks``: of the predictions, of :func:`ranks`.
    """
    return kernels.high_pairs(actual > centre(actual), of_ranks, block.astype(np.int64), blocks)


def auc_from_pairs(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the AUC of telling high cells from low ones, (genes,), and the same without each block, (blocks, genes).

    The share of pairs of a high and a low cell in which the high one is predicted higher; 0.5 by chance, and where the
    prediction is constant. NaN where no cell is high, or none low.
    """
    high, low, above, of_low, within = pairs
    total = above.sum(axis=0)
    rest = total - above - of_low + within
    with np.errstate(invalid="ignore", divide="ignore"):
        found = total / (high.sum(axis=0) * low.sum(axis=0)), rest / (leave_one_out(high) * leave_one_out(low))
    return tuple(np.where(np.isfinite(values), values, np.nan) for values in found)


def nearest_distances(xy: np.ndarray, kind: np.ndarray, types: list[str]) -> dict[tuple[str, str], np.ndarray]:
    """Distance (unit of xy) from each cell of a type to the nearest other cell of a type, for all ordered pairs."""
    members = {t: np.flatnonzero(kind == t) for t in types}
    trees = {t: cKDTree(xy[rows]) for t, rows in members.items() if len(rows)}
    found = {}
    for a in types:
        for b in types:
            if len(members[a]) == 0 or b not in trees or (a == b and len(members[a]) < 2):
                continue
            k = 2 if a == b else 1
            found[a, b] = trees[b].query(xy[members[a]], k=[k])[0][:, 0]
    return found


def leave_one_out(parts: np.ndarray) -> np.ndarray:
    """Sum over all blocks but one, (blocks, ...) -> (blocks, ...)."""
    return parts.sum(axis=0) - parts


LINKS = {
    "share": (lambda x: np.log(x / (1 - x)), lambda x: 1 / (1 + np.exp(-x))),
    "correlation": (np.arctanh, np.tanh),
    "difference": (lambda x: x, lambda x: x),
}
"""Scale on which the error of a score is taken for symmetric: logit, Fisher's z, the score itself."""


def jackknife_interval(
    estimate: float, without: np.ndarray, scale: str, level: float = 0.95
) -> tuple[float, float] | None:
    """Confidence interval by the jackknife over blocks: cells of a block are alike, blocks are what was drawn.

    Student's t with one degree of freedom fewer than blocks on the scale of :data:`LINKS` (Efron and Stein 1981; the
    cluster-robust CR3). In a beta-binomial simulation it holds 92 to 97 % from 5 blocks on, where percentiles of a
    bootstrap hold 81 % of 5 blocks and 91 to 94 % of 50.

    Parameters
    ----------
    estimate
        Score over all blocks.
    without
        (blocks,) score without each block.
    scale
        Key of :data:`LINKS`.
    level
        Of confidence.

    Returns
    -------
    Lower and upper bound; None for fewer than two blocks, or where nothing varies.
    """
    to, back = LINKS[scale]
    without = np.asarray(without, float)
    without = without[np.isfinite(without)]
    edge = 1e-6 if scale != "difference" else -np.inf
    low, high = (edge, 1 - edge) if scale == "share" else (-1 + edge, 1 - edge)
    values, centre = (
        to(np.clip(v, low, high) if scale != "difference" else v) for v in (without, np.asarray(estimate))
    )
    n = len(values)
    spread = jackknife_error(values)
    if not spread > 0 or not np.isfinite(centre):
        return None
    half = stats.t.ppf(0.5 + level / 2, n - 1) * spread
    return float(back(centre - half)), float(back(centre + half))


def jackknife_error(without: np.ndarray) -> float:
    """Standard error of a score by its values (blocks,) without each block; 0 for fewer than two."""
    n = len(without)
    return float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())) if n > 1 else 0.0


def jackknife_p(gap: float, without: np.ndarray) -> float | None:
    """Two-sided p of no difference by the jackknife over blocks: Student's t, one degree fewer than blocks.

    Parameters
    ----------
    gap, without
        The difference, and the difference without each block (blocks,).

    Returns
    -------
    None for fewer than two blocks, or where nothing varies.
    """
    without = np.asarray(without, float)
    error = jackknife_error(without)
    return float(2 * stats.t.sf(abs(gap) / error, len(without) - 1)) if error > 0 else None


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Correct a family of p for their number (Holm 1979); None stays None and is not counted."""
    known = sorted((value, k) for k, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, k) in enumerate(known):
        highest = max(highest, min(1.0, value * (len(known) - rank)))
        corrected[k] = highest
    return corrected


def neighbours(xy: np.ndarray, number: int) -> np.ndarray | None:
    """Nearest other cells of each cell, (n, 2) -> (n, number) int32; None where there are too few cells."""
    if len(xy) <= number:
        return None
    return kneighbors_graph(xy, number).indices.reshape(len(xy), number).astype(np.int32)


def morans_i(values: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Moran's I by gene, (cells, genes) -> (genes,); NaN where a gene is constant.

    ``nearest`` (cells, k): each neighbour has the weight 1 / k, rows sum to 1, and I is z'Wz / z'z (Moran 1950).
    """
    values = np.ascontiguousarray(values, np.float32)
    return kernels.moran(values, centre(values), nearest)


def grid_blocks(xy_um: np.ndarray, side_um: float) -> np.ndarray:
    """Number the occupied squares of a grid, (n, 2) µm -> (n,) int from 0."""
    if len(xy_um) == 0:
        return np.empty(0, int)
    return np.unique(np.floor(xy_um / side_um).astype(int), axis=0, return_inverse=True)[1].ravel()
