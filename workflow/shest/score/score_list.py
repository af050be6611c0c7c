"""The scores by which systems are compared: the one list that the table, its picture and the report go by."""

from collections.abc import Callable
from dataclasses import dataclass

from shest.score.evaluation import Evaluation


@dataclass(frozen=True)
class Score:
    """A score by which systems are compared.

    Attributes
    ----------
    label : what it is called
    task : ``types``, ``expression`` in the unit that is predicted, or ``logs``: on the one scale of all systems
    read : returns it; None where the system does not predict what it is of
    sign : 1 where more is better, -1 where less is
    """

    label: str
    task: str
    read: Callable[[Evaluation], float | None]
    sign: int = 1


def _of_types(name: str) -> Callable[[Evaluation], float | None]:
    return lambda e: getattr(e.types, name) if e.types else None


def of(section: str, *keys: str) -> Callable[[Evaluation], float | None]:
    def read(e: Evaluation) -> float | None:
        value = getattr(e, section)
        for key in keys:
            value = (value or {}).get(key)
        return value

    return read


def _share_above(e: Evaluation) -> float | None:
    """Share of the scored genes with R of at least 0.30."""
    number = (e.pearson or {}).get("n_above_0.3")
    return None if number is None else number / e.genes["scored"]


SCORES = {
    "weighted": Score("F1, weighted", "types", _of_types("weighted")),
    "macro": Score("F1, macro", "types", _of_types("macro")),
    "balanced_accuracy": Score("balanced accuracy", "types", _of_types("balanced_accuracy")),
    "ece": Score("calibration error", "types", of("calibration", "ece_after"), -1),
    "pearson_common": Score("R of logs, median of genes", "logs", of("common", "pearson")),
    "pearson_median": Score("R, median of genes", "expression", of("pearson", "median")),
    "pearson_top": Score("R, best 100 genes", "expression", of("pearson", "top", "median")),
    "pearson_within_type": Score("R within type", "expression", of("pearson", "within_type")),
    "spearman_median": Score("Spearman's rho", "expression", of("spearman", "median")),
    "genes_above": Score("genes with R ≥ 0.30", "expression", _share_above),
    "unit_r": Score("R across genes", "expression", of("unitwise", "median")),
    "bivariate_moran": Score("bivariate Moran's I", "expression", of("moran", "bivariate")),
    "iou_high": Score("IoU of high places", "expression", of("iou", "high")),
    "auc_high": Score("AUC of high units", "expression", of("auc", "median")),
}
"""Scores by the names that they have in intervals, in the order of the table."""
