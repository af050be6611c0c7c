"""Evaluation of a sample's predictions: of its types, its expression, and how both lie in space."""

import warnings
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
from shest.score import maps, metrics
from shest.score.evaluation import TypeScores
from shest.systems import uncertainty

NEIGHBOURS = 6
GOOD_R = 0.3
GRAPH = "{} nearest scored cells of each scored cell; expression as it is predicted, counts brought to its unit"
GENES_AT_ONCE = 64
VALUES_AT_ONCE = 8_000_000  # of a block of genes: 32 MB, of which some eight copies live at once in each thread
TOP = 100
TOP_CHOSEN = "by R in the cells of the other folds"
SMOOTHED = f"mean of a cell and its {NEIGHBOURS} nearest, high above the mean of all"
UNIT_SCALES = {False: "log(1 + counts)", True: "logarithms, as predicted"}
MEDIANS = {"pearson_median": "pearson", "spearman_median": "spearman", "pearson_within_type": "pearson_within_type"}
MAP_MEDIANS = {"bivariate_moran": "moran_bivariate", "iou_high": "iou_high"}
"""Scores over genes that have an interval, and the column that each is the median of; the second are of maps."""
HIGH = "above the gene's mean over the scored units of the sample"
MAPS = ("moran_actual", "moran_predicted", "moran_bivariate", "iou_high", "iou_chance", "iou_low")
SCALES = dict.fromkeys((*MEDIANS, "bivariate_moran", "unit_r", "pearson_top"), "correlation") | dict.fromkeys(
    ("iou_high", "genes_above", "auc_high"), "share"
)
"""Every score of expression that has an interval, and the scale of its error."""


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
    fold : (n,) fold whose model predicted the cell; None where one model predicted all
    in_logs : whether ``counts`` are logarithms
    """

    cell_type: np.ndarray
    xy: np.ndarray
    block: np.ndarray
    counts: sparse.csc_matrix
    genes: list[str]
    fold: np.ndarray | None = None
    in_logs: bool = False


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


def calibration_intervals(
    confidence: np.ndarray, right: np.ndarray, block: np.ndarray
) -> tuple[tuple[float, float] | None, list[float]]:
    """Interval of the calibration error over spatial blocks, and the error without each block.

    ``confidence``: (n,) probability of the predicted type; ``right``: (n,) bool; ``block``: (n,) int from 0.
    """
    blocks = int(block.max()) + 1
    if blocks < 2:
        return None, []
    error = uncertainty.confidence_error(confidence, right)
    without = [uncertainty.confidence_error(confidence[block != b], right[block != b]) for b in range(blocks)]
    return metrics.jackknife_interval(error, np.array(without), "share"), without


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


@dataclass
class GeneScores:
    """Scores of some genes, and what goes into scores over all genes.

    Attributes
    ----------
    table : one row a gene
    without : by column of the table, (blocks, genes): the score without each block
    sums : (6, blocks, genes), of :func:`shest.score.metrics.group_sums`
    null : (shifts, genes), Pearson's R with moved predictions
    units : (5, n), of :func:`shest.score.kernels.unit_sums`
    """

    table: pd.DataFrame
    without: dict[str, np.ndarray]
    sums: np.ndarray
    null: np.ndarray
    units: np.ndarray


@dataclass
class GenePass:
    """The pass over the genes: what is the same for all of them, and the scores of some.

    Attributes
    ----------
    scored : the cells
    codes, types : (n,) type of each cell as a number, and how many there are
    nearest : (n, k) neighbours; None where there are too few cells
    order, moved : order of the cells in space, and shifts along it
    """

    scored: Scored

    def __post_init__(self) -> None:
        self.codes, names = pd.factorize(self.scored.cell_type)
        self.types, self.blocks = len(names), int(self.scored.block.max()) + 1
        self.cell = self.scored.block.astype(np.int64) * self.types + self.codes
        self.nearest = metrics.neighbours(self.scored.xy, NEIGHBOURS)
        self.order, self.moved = maps.along(self.scored.xy), maps.shifts(len(self.cell))

    def by_type(self, actual: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Sums (6, blocks, genes, types)."""
        sums = metrics.group_sums(actual, other, self.cell, self.blocks * self.types)
        return np.swapaxes(sums.reshape(6, self.blocks, self.types, -1), 2, 3)

    def score(self, genes: list[str], actual: np.ndarray, predicted: np.ndarray) -> GeneScores:
        """Score some genes, (n, genes) float32 each."""
        sums = self.by_type(actual, predicted)
        ranks = metrics.ranks(actual), metrics.ranks(predicted)
        of_ranks = metrics.group_sums(*ranks, self.scored.block, self.blocks)
        overall = sums.sum(axis=3)
        rest = [np.stack([metrics.leave_one_out(s) for s in found]) for found in (overall, of_ranks, sums)]
        columns = {
            "pearson": metrics.pearson_from_sums(overall.sum(axis=1)),
            "pearson_within_type": metrics.within_from_sums(sums.sum(axis=1)),
            "spearman": metrics.pearson_from_sums(of_ranks.sum(axis=1)),
        }
        without = {
            "pearson": metrics.pearson_from_sums(rest[0]),
            "pearson_within_type": metrics.within_from_sums(rest[2]),
            "spearman": metrics.pearson_from_sums(rest[1]),
        }
        pairs = metrics.high_pairs(actual, ranks[1], self.scored.block, self.blocks)
        columns["auc_high"], without["auc_high"] = metrics.auc_from_pairs(pairs)
        of_maps, without_maps = self.score_maps(actual, predicted)
        spread = metrics.spreads(overall.sum(axis=1)[..., None]).prod(axis=0) ** 0.5
        table = {"gene": genes, "mean_actual": metrics.centre(actual), "mean_predicted": metrics.centre(predicted)}
        return GeneScores(
            pd.DataFrame(table | columns | of_maps),
            without | without_maps,
            overall,
            maps.null_correlations(actual, predicted, self.order, self.moved, spread),
            maps.unit_sums(actual, predicted, self.scored.in_logs),
        )

    def score_maps(self, actual: np.ndarray, predicted: np.ndarray) -> tuple[dict, dict]:
        """Score how the maps of some genes agree; NaN where there are too few cells for a map."""
        if self.nearest is None:
            nothing = np.full(actual.shape[1], np.nan)
            return dict.fromkeys(MAPS, nothing), dict.fromkeys(MAP_MEDIANS.values(), np.tile(nothing, (self.blocks, 1)))
        found = maps.map_sums(actual, predicted, self.nearest, self.scored.block)
        total, rest = found.total(), found.without()
        columns = {
            "moran_actual": maps.morans_i(total[0], 0),
            "moran_predicted": maps.morans_i(total[0], 1),
            "moran_bivariate": maps.bivariate_moran(*total, found.floor),
        }
        without = {
            "moran_bivariate": maps.bivariate_moran(*rest, found.floor),
            "iou_high": maps.overlap(*rest)["iou_high"],
        }
        return columns | maps.overlap(*total), without


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
        true type: what a type alone does not tell), spearman, auc_high (of telling units that are :data:`HIGH`),
        moran_actual, moran_predicted, moran_bivariate, iou_high,
        iou_chance, iou_low (:mod:`shest.score.maps`); moran_drawn with ``drawn``; ceiling and ceiling_within_type, the
        R that the truth itself reaches, with ``truth``.
    summary : dict
        ``pearson`` (median, share_above_0.3, n_above_0.3 and its ``null``, within_type, ``top``, and medians of the
        ceilings), ``spearman``, ``moran``, ``iou``, ``auc``, ``unitwise``; ``intervals`` of :data:`SCALES`, and those
        scores ``without`` each block. Without a block, rho is that of the cells' ranks among all: ranked anew, it would
        cost a sorting of every gene a block.
    """
    work = GenePass(scored)

    def compare(part: slice) -> GeneScores:
        actual, predicted = metrics.dense(scored.counts, part), np.ascontiguousarray(read(part), np.float32)
        found = work.score(scored.genes[part], actual, predicted)
        if drawn is not None:
            values = metrics.dense(drawn, part)
            none = np.full(values.shape[1], np.nan)
            found.table["moran_drawn"] = none if work.nearest is None else metrics.morans_i(values, work.nearest)
        if truth:
            true = np.ascontiguousarray(truth(part), np.float32)
            known, of_truth = np.isfinite(true).all(axis=0), work.by_type(actual, true).sum(axis=1)
            found.table["ceiling"] = np.where(known, metrics.pearson_from_sums(of_truth.sum(axis=2)), np.nan)
            found.table["ceiling_within_type"] = np.where(known, metrics.within_from_sums(of_truth), np.nan)
        return found

    at_once = int(np.clip(VALUES_AT_ONCE // max(len(scored.block), 1), CHUNK[1], GENES_AT_ONCE))
    parts, units = [], 0.0
    with ThreadPoolExecutor(threads) as pool:
        for found in pool.map(compare, metrics.gene_slices(len(scored.genes), at_once)):
            units, found.units = units + found.units, np.empty(0)  # added up in the order of the genes, then let go
            parts.append(found)
    genes = pd.concat([part.table for part in parts], ignore_index=True)
    return genes, _summary(scored, genes, parts, maps.unit_correlations(units, len(genes)))


def _summary(scored: Scored, genes: pd.DataFrame, parts: list[GeneScores], unit_r: np.ndarray) -> dict[str, Any]:
    """Scores over all genes, their intervals, and what they are without each block."""
    blocks = int(scored.block.max()) + 1
    without = {name: np.concatenate([p.without[name] for p in parts], axis=1) for name in parts[0].without}
    good = without["pearson"] >= GOOD_R
    found = {
        name: (float(genes[column].median()), np.median(without[column], axis=1))
        for name, column in (MEDIANS | MAP_MEDIANS).items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no gene varies, or none without a block
        found["auc_high"] = float(genes["auc_high"].median()), np.nanmedian(without["auc_high"], axis=1)
    found["genes_above"] = float((genes["pearson"] >= GOOD_R).mean()), good.mean(axis=1)
    found["unit_r"] = float(np.median(unit_r)), _medians_without(unit_r, scored.block)
    top = _top_genes(scored, np.concatenate([p.sums for p in parts], axis=2))
    if top:
        found["pearson_top"] = top
    intervals = {name: metrics.jackknife_interval(*found[name], SCALES[name]) for name in found}
    number = int((genes["pearson"] >= GOOD_R).sum())
    null = (np.concatenate([p.null for p in parts], axis=1) >= GOOD_R).sum(axis=1)
    return {
        "pearson": {
            "median": found["pearson_median"][0],
            "share_above_0.3": float((genes["pearson"] > GOOD_R).mean()),
            "n_above_0.3": number,
            "null": {
                "shifts": len(null),
                "mean": float(null.mean()),
                "highest": int(null.max()),
                "p": float((1 + (null >= number).sum()) / (1 + len(null))),
            }
            if len(null)
            else None,
            "within_type": found["pearson_within_type"][0],
            "top": top and {"median": top[0], "genes": min(TOP, len(genes)), "chosen": TOP_CHOSEN},
        }
        | {name: _number(genes[name].median()) for name in ("ceiling", "ceiling_within_type") if name in genes},
        "spearman": {"median": found["spearman_median"][0]},
        "moran": _moran_summary(genes),
        "iou": {name: _number(genes[f"iou_{name}"].median()) for name in ("high", "chance", "low")} | {"map": SMOOTHED},
        "auc": {"median": _number(found["auc_high"][0]), "high": HIGH},
        "unitwise": {"median": found["unit_r"][0], "scale": UNIT_SCALES[scored.in_logs]},
        "intervals": intervals,
        "without": {
            name: [float(v) for v in rest] if blocks > 1 and np.isfinite(rest).all() else []
            for name, (_, rest) in found.items()
        },
    }


def _medians_without(values: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Medians of values (n,) without the units of each block, (blocks,); NaN where there is but one."""
    blocks = int(block.max()) + 1
    return np.array([np.median(values[block != b]) if blocks > 1 else np.nan for b in range(blocks)])


def _top_genes(scored: Scored, sums: np.ndarray) -> tuple[float, np.ndarray] | None:
    """Median R of the genes that do best in the other folds, over all folds; and the same without each block.

    Chosen on the cells that they are scored on, the best genes would look better than they are.

    Parameters
    ----------
    sums
        (6, blocks, genes).

    Returns
    -------
    None where cells are not held out in folds of whole blocks.
    """
    if scored.fold is None:
        return None
    pairs = pd.DataFrame({"block": scored.block, "fold": scored.fold}).drop_duplicates().sort_values("block")
    if pairs["fold"].nunique() < 2 or pairs["block"].duplicated().any():
        return None
    fold = pd.factorize(pairs["fold"])[0]
    by_fold = np.stack([sums[:, fold == k].sum(axis=1) for k in range(fold.max() + 1)])

    def median(parts: np.ndarray) -> float:
        values = []
        for own in parts:
            r, elsewhere = metrics.pearson_from_sums(own), metrics.pearson_from_sums(parts.sum(axis=0) - own)
            values.append(r[np.argsort(-elsewhere, kind="stable")[:TOP]])
        return float(np.median(np.concatenate(values)))

    def without(block: int) -> float:
        rest = by_fold.copy()
        rest[fold[block]] -= sums[:, block]
        return median(rest)

    return median(by_fold), np.array([without(block) for block in range(len(fold))])


def _moran_summary(genes: pd.DataFrame) -> dict[str, Any]:
    """Medians of Moran's I, and how those of predictions correlate with the actual over genes; on which graph.

    Drawn counts have theirs beside that of the expectations, which are smoother than any counts; None without.
    """
    drawn, bivariate = "moran_drawn" in genes, _number(genes["moran_bivariate"].median())
    genes = genes.reindex(columns=["moran_actual", "moran_predicted", "moran_drawn"]).astype(float)
    found: dict[str, Any] = {f"median_{n.removeprefix('moran_')}": _number(v) for n, v in genes.median().items()}
    for side, key in (("predicted", "correlation"), ("drawn", "correlation_drawn")):
        both = genes[["moran_actual", f"moran_{side}"]].dropna()
        enough = len(both) > 2 and (both.std() > 0).all()
        found[key] = float(np.corrcoef(both.T)[0, 1]) if enough else None
    number = int(genes[["moran_actual", "moran_predicted"]].notna().all(axis=1).sum())
    return found | {"bivariate": bivariate, "genes": number, "drawn": drawn, "graph": GRAPH.format(NEIGHBOURS)}


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


def scored_rows(
    table: pd.DataFrame, role: str, protocol: str, refined: pd.Series | None, unit: str = "cells"
) -> tuple[np.ndarray, str]:
    """Say which units are scored.

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
    unit
        For the words: cells with labels, or spots.

    Returns
    -------
    (n,) bool, and in words which cells these are.
    """
    labelled, which = table["label"].notna().to_numpy(), {"cells": "labelled cells", "spots": "kept spots"}[unit]
    if role != "train":
        return labelled, f"all {which} of a sample that nothing was fitted on"
    test = labelled & (table["part"] == "test").to_numpy()
    if protocol == "strict":
        return test, f"all {which}, each by a model of a fold that held it out with its surroundings"
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
