"""Evaluation of a sample's predictions: of its types, its expression, and how both lie in space."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import squidpy as sq
from scipy import sparse
from scipy.stats import wasserstein_distance

from shest.score import metrics
from shest.score.evaluation import TypeScores
from shest.systems import uncertainty

NEIGHBOURS = 6
GOOD_R = 0.3
GENES_AT_ONCE = 64


@dataclass
class Scored:
    """The cells that are scored, in one order everywhere.

    Attributes
    ----------
    cell_type : (n,) actual type
    xy : (n, 2) µm
    block : (n,) int, spatial block of the bootstrap
    counts : (n, genes) actual counts, CSC, of the genes that are measured and predicted
    genes : names of these genes
    """

    cell_type: np.ndarray
    xy: np.ndarray
    block: np.ndarray
    counts: sparse.csc_matrix
    genes: list[str]


def score_types(label: np.ndarray, predicted: np.ndarray, types: list[str]) -> TypeScores:
    """Score one set of predicted types, (n,) each, against the labels; ``types``: of the confusion."""
    matrix = metrics.confusion_matrix(label, predicted, types)
    scores = metrics.type_scores(matrix)
    return TypeScores(
        weighted=float(scores["weighted"]),
        macro=float(scores["macro"]),
        per_class={t: _number(v) for t, v in zip(types, scores["per_class"], strict=True)},
        balanced_accuracy=float(scores["balanced_accuracy"]),
        types=types,
        counts=matrix.tolist(),
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def type_intervals(actual: np.ndarray, predicted: np.ndarray, types: list[str], block: np.ndarray, weights: np.ndarray):
    """Intervals of the type scores by a bootstrap over spatial blocks.

    Parameters
    ----------
    block : (n,) int
    weights : (draws, blocks) how often each block was drawn
    """
    matrices = np.stack(
        [metrics.confusion_matrix(actual[block == b], predicted[block == b], types) for b in range(weights.shape[1])]
    )
    drawn = metrics.type_scores(np.tensordot(weights, matrices, axes=1))
    return {name: metrics.interval(drawn[name]) for name in ("weighted", "macro", "balanced_accuracy")}


Reader = Callable[[slice], np.ndarray]
"""Returns the predicted (cells, genes) of a slice of genes."""


def score_expression(
    scored: Scored, read: Reader, weights: np.ndarray | None, threads: int = 1
) -> tuple[pd.DataFrame, dict]:
    """Correlate predicted with actual expression, gene by gene over the scored cells, some genes at a time.

    Parameters
    ----------
    scored
        Actual counts.
    read
        The prediction.
    weights
        (draws, blocks) for the interval of the median; None for none.
    threads
        Gene blocks worked on at once.

    Returns
    -------
    genes : DataFrame
        gene, mean_actual, mean_predicted, pearson, spearman.
    summary : dict
        ``pearson`` and ``spearman``: medians over all measured genes; the share of genes with R above 0.3;
        ``interval`` of the median of R.
    """
    blocks = int(scored.block.max()) + 1

    def correlate(part: slice) -> tuple[pd.DataFrame, np.ndarray | None]:
        actual, predicted = metrics.dense(scored.counts, part), np.asarray(read(part), np.float64)
        sums = metrics.block_sums(actual, predicted, scored.block, blocks)
        table = pd.DataFrame(
            {
                "gene": scored.genes[part],
                "mean_actual": actual.mean(axis=0),
                "mean_predicted": predicted.mean(axis=0),
                "pearson": metrics.pearson_from_sums(sums.sum(axis=1)),
                "spearman": metrics.spearman(actual, predicted),
            }
        )
        return table, None if weights is None else metrics.pearson_from_sums(np.einsum("db,sbg->sdg", weights, sums))

    with ThreadPoolExecutor(threads) as pool:
        tables, drawn = zip(*pool.map(correlate, metrics.gene_slices(len(scored.genes), GENES_AT_ONCE)), strict=True)
    genes = pd.concat(tables, ignore_index=True)
    share = float((genes["pearson"] > GOOD_R).mean())
    summary = {
        "pearson": {"median": float(genes["pearson"].median()), "share_above_0.3": share},
        "spearman": {"median": float(genes["spearman"].median())},
    }
    if weights is not None:
        summary["interval"] = metrics.interval(np.median(np.concatenate(drawn, axis=1), axis=1))
    return genes, summary


def neighbour_graph(xy: np.ndarray) -> sparse.csr_matrix | None:
    """Connect each cell to its nearest neighbours by squidpy; None where there are too few cells."""
    if len(xy) <= NEIGHBOURS:
        return None
    cells = ad.AnnData(np.zeros((len(xy), 1), np.float32), obsm={"spatial": xy})
    sq.gr.spatial_neighbors_knn(cells, n_neighs=NEIGHBOURS)
    return cells.obsp["spatial_connectivities"]


def moran(values: np.ndarray, genes: list[str], graph: sparse.csr_matrix) -> np.ndarray:
    """Moran's I of each gene by squidpy, (cells, genes) -> (genes,); NaN where a gene is constant."""
    out = np.full(len(genes), np.nan)
    varies = np.flatnonzero(values.std(axis=0) > 0)
    if len(varies):
        names = [genes[i] for i in varies]
        cells = ad.AnnData(values[:, varies], var=pd.DataFrame(index=names), obsp={"spatial_connectivities": graph})
        table = sq.gr.spatial_autocorr(cells, genes=names, mode="moran", n_perms=None, copy=True)
        out[varies] = table["I"].reindex(names).to_numpy()
    return out


def score_moran(scored: Scored, read: Reader) -> tuple[pd.DataFrame, dict]:
    """Moran's I of actual and predicted expression on one graph, and how they correlate over genes."""
    graph = neighbour_graph(scored.xy)
    frame = pd.DataFrame({"gene": scored.genes, "moran_actual": np.nan, "moran_predicted": np.nan})
    if graph is not None:
        for part in metrics.gene_slices(len(scored.genes), GENES_AT_ONCE):
            names, rows = scored.genes[part], frame.index[part]
            frame.loc[rows, "moran_actual"] = moran(metrics.dense(scored.counts, part), names, graph)
            frame.loc[rows, "moran_predicted"] = moran(np.asarray(read(part), np.float64), names, graph)
    both = frame.dropna()
    enough = len(both) > 2 and both["moran_actual"].std() > 0 and both["moran_predicted"].std() > 0
    r = float(np.corrcoef(both["moran_actual"], both["moran_predicted"])[0, 1]) if enough else None
    return frame, {
        "median_actual": _number(frame["moran_actual"].median()),
        "median_predicted": _number(frame["moran_predicted"].median()),
        "correlation": r,
        "genes": len(both),
    }


def score_distances(xy: np.ndarray, actual: np.ndarray, predicted: np.ndarray, types: list[str]) -> list[dict]:
    """Compare nearest-neighbour distances (µm) between types, annotated against predicted.

    Returns
    -------
    list of dict
        For each ordered pair: medians, numbers, and the Wasserstein distance between the two distributions.
    """
    a, p = (metrics.nearest_distances(xy, kind, types) for kind in (actual, predicted))
    return [
        {
            "from": pair[0],
            "to": pair[1],
            "median_annotated": float(np.median(a[pair])) if pair in a else None,
            "median_predicted": float(np.median(p[pair])) if pair in p else None,
            "n_annotated": len(a.get(pair, ())),
            "n_predicted": len(p.get(pair, ())),
            "wasserstein": float(wasserstein_distance(a[pair], p[pair])) if pair in a and pair in p else None,
        }
        for pair in sorted(set(a) | set(p))
    ]


def scored_rows(table: pd.DataFrame, role: str, refined: pd.Series | None) -> tuple[np.ndarray, str]:
    """Say which cells are scored.

    Parameters
    ----------
    table
        Indexed by cell_id: label (missing where there is no label) and part.
    role
        Of the sample: train or validation.
    refined
        By cell_id, whether refinement kept the cell; None where it decides nothing.

    Returns
    -------
    (n,) bool, and in words which cells these are.
    """
    labelled = table["label"].notna().to_numpy()
    if role != "train":
        return labelled, "all labelled cells of a sample that nothing was fitted on"
    test = labelled & (table["part"] == "test").to_numpy()
    if refined is None:
        return test, "held-out spatial blocks, a window apart from every training cell"
    return test & refined.reindex(table.index).fillna(False).to_numpy(bool), "random test part, refined (as published)"


def gene_overlap(measured: Sequence[str], predicted: Sequence[str]) -> tuple[list[str], dict]:
    """Return the genes that can be scored, in the model's order, and a record of those that cannot."""
    panel, known = set(measured), set(predicted)
    both = [g for g in predicted if g in panel]
    unmeasured, beyond = [g for g in predicted if g not in panel], [g for g in measured if g not in known]
    return both, {"scored": len(both), "unmeasured": unmeasured, "not_in_model": beyond}


def columns_of(matrix: h5py.Dataset, rows: np.ndarray, columns: np.ndarray) -> Reader:
    """Return a reader of gene slices out of a matrix on disk; ``columns``, ascending, are the genes' places in it."""

    def read(part: slice) -> np.ndarray:
        wanted = columns[part]
        low, high = wanted[0], wanted[-1] + 1
        return matrix[:, low:high][rows][:, wanted - low]

    return read


def calibration(
    before: np.ndarray, probability: np.ndarray, label: np.ndarray, temperature: float | None
) -> dict | None:
    """Compare calibration before and after temperature scaling.

    Parameters
    ----------
    before
        (n,) probability of the predicted type at temperature 1.
    probability
        (n, classes) at ``temperature``.
    label
        (n,) int, -1 for a type that the model lacks.

    Returns
    -------
    temperature, ece_before, ece_after (expected calibration error), reliability, coverage; None without labels.
    """
    known = label >= 0
    if not known.any():
        return None
    p, label = probability[known], label[known]
    predicted = p.argmax(axis=1)
    return {
        "temperature": temperature,
        "ece_before": uncertainty.confidence_error(before[known], predicted == label),
        "ece_after": uncertainty.calibration_error(p, label),
        "reliability": uncertainty.reliability(p, label),
        "coverage": uncertainty.risk_coverage(uncertainty.entropy(p), label, predicted),
    }
