"""Evaluations made by hand."""

from typing import Any

from shest.score.evaluation import Evaluation, TypeScores


def type_scores(weighted: float = 0.7, macro: float = 0.6, **per_class: float | None) -> TypeScores:
    """Scores of two types."""
    return TypeScores(weighted, macro, per_class or {"X": 0.7, "Y": 0.5}, 0.6, ["X", "Y"], [[50, 10], [5, 34]])


def evaluation(system: str, kind: str | None = None, **changes: Any) -> Evaluation:
    """The evaluation of a training sample ``s1``; ``changes``: other values of its attributes."""
    known = {
        "kind": kind or system,
        "encoder": "enc",
        "protocol": "strict",
        "sample": "s1",
        "unit": "cells",
        "role": "train",
        "scored_on": "held-out spatial blocks",
        "n": 99,
        "types": type_scores(),
        "pearson": {"median": 0.2, "share_above_0.3": 0.25, "csv": "s1.cells.genes.csv"},
        "moran": {"correlation": 0.9},
        "calibration": {"ece_after": 0.02},
        "intervals": {"weighted": [0.65, 0.75], "n_blocks": 9, "draws": 50},
    }
    return Evaluation(system, **(known | changes))
