"""Evaluation of a sample's predictions: of its types, its expression, and how both lie in space."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import wasserstein_distance

from shest.io.predictions import CHUNK
from shest.score import metrics
from shest.score.evaluation import TypeScores
from shest.systems import uncertainty

NEIGHBOURS = 6
GOOD_R = 0.3
GRAPH = "{} nearest scored cells of each scored cell; expression as it is predicted, counts brought to its unit"
GENES_AT_ONCE = 64
VALUES_AT_ONCE = 8_000_000  # of a block of genes: 32 MB, of which some eight copies live at once in each thread
MEDIANS = {"pearson_median": "pearson", "spearman_median": "spearman", "pearson_within_type": "pearson_within_type"}
"""Scores over genes that have an interval, and the column that each is the median of."""


@dataclass
class Scored:
    """The cells that are scored, in one order everywhere.

    Attributes
    ----------
    cell_type : (n,) actual type
    xy : (n, 2) µm
    block : (n,) int, spatial block of the bootstrap
    counts : (n, genes) actual counts, in the unit that is predicted, CSC, of the genes that are measured and predicted
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


def type_intervals(
    label: np.ndarray, predicted: np.ndarray, types: list[str], block: np.ndarray
) -> tuple[dict[str, tuple[float, float] | None], dict[str, list[float]]]:
    """Intervals of the type scores over spatial blocks, and the scores without each block, for paired differences.

    ``block``: (n,) int from 0.
    """
    blocks = range(int(block.max()) + 1)
    matrices = np.stack([metrics.confusion_matrix(label[block == b], predicted[block == b], types) for b in blocks])
    scores, without = (metrics.type_scores(m) for m in (matrices.sum(axis=0), metrics.leave_one_out(matrices)))
    names = ("weighted", "macro", "balanced_accuracy")
    return (
        {name: metrics.jackknife_interval(scores[name], without[name], "share") for name in names},
        {name: [float(v) for v in without[name]] for name in names} if len(blocks) > 1 else {},
    )


Reader = Callable[[slice], np.ndarray]
"""Returns the (cells, genes) of a slice of genes."""


def score_expression(
    scored: Scored, read: Reader, threads: int = 1, drawn: sparse.csc_matrix | None = None, truth: Reader | None = None
) -> tuple[pd.DataFrame, dict]:
    """Compare predicted with actual expression, gene by gene over the scored cells.

    Each block of genes is read once and scored whole; memory does not grow with the number of genes.

    Parameters
    ----------
    scored
        Actual counts, types, places and blocks.
    read
        The expectations; compared in float32, as they are stored.
    threads
        Gene blocks worked on at once.
    drawn
        (n, genes) counts drawn from the predicted distributions, where there are any.
    truth
        The expectations that the actual counts were drawn from, where they are known; NaN for a gene that has none.

    Returns
    -------
    genes : DataFrame
        gene, mean_actual, mean_predicted, pearson, pearson_within_type (both sides centred by the mean of the cell's
        true type: what a type alone does not tell), spearman, moran_actual, moran_predicted; moran_drawn with
        ``drawn``; ceiling and ceiling_within_type, the R that the truth itself reaches, with ``truth``.
    summary : dict
        ``pearson`` (median, share_above_0.3, within_type, and medians of the ceilings), ``spearman``, ``moran``;
        ``intervals`` of the medians of R, R within type and rho, and those medians ``without`` each block. Without a
        block, rho is that of the cells' ranks among all: ranked anew, it would cost a sorting of every gene a block.
    """
    blocks = int(scored.block.max()) + 1
    codes, names = pd.factorize(scored.cell_type)
    nearest, cell = metrics.neighbours(scored.xy, NEIGHBOURS), scored.block.astype(np.int64) * len(names) + codes

    def by_type(actual: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Sums (6, blocks, genes, types)."""
        sums = metrics.group_sums(actual, other, cell, blocks * len(names))
        return np.swapaxes(sums.reshape(6, blocks, len(names), -1), 2, 3)

    def moran(values: np.ndarray) -> np.ndarray:
        return np.full(values.shape[1], np.nan) if nearest is None else metrics.morans_i(values, nearest)

    def compare(part: slice) -> tuple[pd.DataFrame, np.ndarray]:
        actual, predicted = metrics.dense(scored.counts, part), np.ascontiguousarray(read(part), np.float32)
        sums = by_type(actual, predicted)
        of_ranks = metrics.group_sums(metrics.ranks(actual), metrics.ranks(predicted), scored.block, blocks)
        overall = sums.sum(axis=3)
        table = pd.DataFrame(
            {
                "gene": scored.genes[part],
                "mean_actual": metrics.centre(actual),
                "mean_predicted": metrics.centre(predicted),
                "pearson": metrics.pearson_from_sums(overall.sum(axis=1)),
                "pearson_within_type": metrics.within_from_sums(sums.sum(axis=1)),
                "spearman": metrics.pearson_from_sums(of_ranks.sum(axis=1)),
                "moran_actual": moran(actual),
                "moran_predicted": moran(predicted),
            }
        )
        if drawn is not None:
            table["moran_drawn"] = moran(metrics.dense(drawn, part))
        if truth:
            true = np.ascontiguousarray(truth(part), np.float32)
            known, of_truth = np.isfinite(true).all(axis=0), by_type(actual, true).sum(axis=1)
            table["ceiling"] = np.where(known, metrics.pearson_from_sums(of_truth.sum(axis=2)), np.nan)
            table["ceiling_within_type"] = np.where(known, metrics.within_from_sums(of_truth), np.nan)
        rest = [np.stack([metrics.leave_one_out(s) for s in found]) for found in (overall, of_ranks, sums)]
        left = [
            metrics.pearson_from_sums(rest[0]),
            metrics.pearson_from_sums(rest[1]),
            metrics.within_from_sums(rest[2]),
        ]
        return table, np.stack(left)

    at_once = int(np.clip(VALUES_AT_ONCE // max(len(scored.block), 1), CHUNK[1], GENES_AT_ONCE))
    with ThreadPoolExecutor(threads) as pool:
        tables, without = zip(*pool.map(compare, metrics.gene_slices(len(scored.genes), at_once)), strict=True)
    genes = pd.concat(tables, ignore_index=True)
    medians = np.median(np.concatenate(without, axis=2), axis=2)
    found = {
        name: (float(genes[column].median()), rest)
        for (name, column), rest in zip(MEDIANS.items(), medians, strict=True)
    }
    return genes, {
        "pearson": {
            "median": found["pearson_median"][0],
            "share_above_0.3": float((genes["pearson"] > GOOD_R).mean()),
            "within_type": found["pearson_within_type"][0],
        }
        | {name: _number(genes[name].median()) for name in ("ceiling", "ceiling_within_type") if truth},
        "spearman": {"median": found["spearman_median"][0]},
        "moran": _moran_summary(genes),
        "intervals": {
            name: metrics.jackknife_interval(value, rest, "correlation") for name, (value, rest) in found.items()
        },
        "without": {name: [float(v) for v in rest] if blocks > 1 else [] for name, (_, rest) in found.items()},
    }


def _moran_summary(genes: pd.DataFrame) -> dict[str, Any]:
    """Medians of Moran's I, and how those of predictions correlate with the actual over genes; on which graph.

    Drawn counts have theirs beside that of the expectations, which are smoother than any counts; None without.
    """
    drawn = "moran_drawn" in genes
    genes = genes.reindex(columns=["moran_actual", "moran_predicted", "moran_drawn"]).astype(float)
    found: dict[str, Any] = {f"median_{n.removeprefix('moran_')}": _number(v) for n, v in genes.median().items()}
    for side, key in (("predicted", "correlation"), ("drawn", "correlation_drawn")):
        both = genes[["moran_actual", f"moran_{side}"]].dropna()
        enough = len(both) > 2 and (both.std() > 0).all()
        found[key] = float(np.corrcoef(both.T)[0, 1]) if enough else None
    number = int(genes[["moran_actual", "moran_predicted"]].notna().all(axis=1).sum())
    return found | {"genes": number, "drawn": drawn, "graph": GRAPH.format(NEIGHBOURS)}


def score_folds(table: pd.DataFrame, types: list[str]) -> list[dict]:
    """Score each fold's cells by themselves, and so show how far folds lie apart.

    Parameters
    ----------
    table
        Scored cells: label, predicted, fold.

    Returns
    -------
    list of dict
        fold, n, weighted, macro.
    """
    rows = []
    for fold, cells in table.groupby("fold", observed=True):
        scores = score_types(cells["label"].to_numpy(str), cells["predicted"].to_numpy(str), types)
        rows.append({"fold": str(fold), "n": len(cells), "weighted": scores.weighted, "macro": scores.macro})
    return rows


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


def scored_rows(table: pd.DataFrame, role: str, protocol: str, refined: pd.Series | None) -> tuple[np.ndarray, str]:
    """Say which cells are scored.

    Parameters
    ----------
    table
        Indexed by cell_id: label (missing where there is none) and part.
    role
        Of the sample: train or validation.
    protocol
        ``strict`` or ``paper``.
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
    if protocol == "strict":
        return test, "all labelled cells, each by a model of a fold that held it out with its surroundings"
    if refined is None:
        return test, "random test part"
    return test & refined.reindex(table.index).fillna(False).to_numpy(bool), "random test part, refined (as published)"


def gene_overlap(
    measured: Sequence[str], predicted: Sequence[str], known: Sequence[str]
) -> tuple[list[str], dict[str, Any]]:
    """Return the genes that can be scored, in the order of the predictions, and a record of those that cannot.

    ``predicted``: those that were written, some or all of those that the model has ``known``.
    """
    panel, chosen, of_model = set(measured), set(predicted), set(known)
    both = [g for g in predicted if g in panel]
    return both, {
        "scored": len(both),
        "unmeasured": [g for g in predicted if g not in panel],
        "not_in_model": [g for g in measured if g not in of_model],
        "not_chosen": sum(g not in chosen for g in known),
    }


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
        (n,) int, -1 for a type that the model lacks: such a cell is never right.

    Returns
    -------
    temperature, ece_before, ece_after (expected calibration error), reliability, coverage; None without labels.
    """
    if not len(label):
        return None
    predicted = probability.argmax(axis=1)
    return {
        "temperature": temperature,
        "ece_before": uncertainty.confidence_error(before, predicted == label),
        "ece_after": uncertainty.calibration_error(probability, label),
        "reliability": uncertainty.reliability(probability, label),
        "coverage": uncertainty.risk_coverage(uncertainty.entropy(probability), label, predicted),
    }
