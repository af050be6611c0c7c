"""Systems beside each other on the same units: their scores, and paired differences over the same blocks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from shest.io.expression import scale_of
from shest.score import metrics
from shest.score.evaluation import Evaluation

SCORES = ("weighted", "macro", "pearson_median", "pearson_common")


def value(evaluation: Evaluation, score: str) -> float | None:
    """Return one of :data:`SCORES`; None where the system does not predict what it is of."""
    if score == "pearson_median":
        return evaluation.pearson["median"] if evaluation.pearson else None
    if score == "pearson_common":
        return evaluation.common["pearson"] if evaluation.common else None
    return getattr(evaluation.types, score) if evaluation.types else None


def rows(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """One row a system, sample and unit: scores with their intervals and the number of blocks."""
    table = []
    for e in evaluations:
        row: dict[str, Any] = {
            "system": e.system,
            "kind": e.kind,
            "encoder": e.encoder,
            "sample": e.sample,
            "unit": e.unit,
            "role": e.role,
            "n": e.n,
            "n_blocks": e.intervals["n_blocks"],
        }
        for score in SCORES:
            low, high = e.interval(score) or (None, None)
            row |= {score: value(e, score), f"{score}_low": low, f"{score}_high": high}
        row["pearson_within_type"] = e.pearson["within_type"] if e.pearson else None
        for name in ("within_type", "by_unit", "genes_above", "genes_above_null"):
            row[f"pearson_common_{name}"] = e.common[name] if e.common else None
        row["expression_unit"] = e.expression_unit
        row["ece"] = e.calibration["ece_after"] if e.calibration else None
        table.append(row)
    return pd.DataFrame(table)


def difference(one: Evaluation, other: Evaluation, score: str) -> dict[str, Any] | None:
    """Return how far one system's score is above another's, with an interval over the blocks that both share.

    Both are scored on the same units; the difference without each block is the difference of the scores without it,
    so that what a block makes hard for both does not widen the interval.

    Returns
    -------
    dict
        difference, low, high (None where there is no interval); None where either has no such score, or theirs are of
        expression on different scales.
    """
    values = value(one, score), value(other, score)
    apart = scale_of(one.expression_unit) != scale_of(other.expression_unit)
    if None in values or (score == "pearson_median" and apart):
        return None
    without = [np.array(e.intervals["without"].get(score, [])) for e in (one, other)]
    gap, interval = values[0] - values[1], None
    if len(without[0]) == len(without[1]) > 1:
        interval = metrics.jackknife_interval(gap, without[0] - without[1], "difference")
    return {"difference": gap, "low": interval and interval[0], "high": interval and interval[1]}


def differences(evaluations: Sequence[Evaluation], reference: str = "linear") -> list[dict[str, Any]]:
    """Compare every system with each system of a kind on the same sample and unit.

    Returns
    -------
    list of dict
        sample, unit, score, system, reference, n_blocks, difference, low, high.
    """
    found = []
    for base in [e for e in evaluations if e.kind == reference]:
        for e in evaluations:
            if e.system == base.system or (e.sample, e.unit) != (base.sample, base.unit):
                continue
            where = {"sample": e.sample, "unit": e.unit, "system": e.system, "reference": base.system}
            for score in SCORES:
                gap = difference(e, base, score)
                if gap is not None:
                    found.append(where | {"score": score, "n_blocks": e.intervals["n_blocks"]} | gap)
    return found
