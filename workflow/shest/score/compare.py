"""Systems beside each other on the same units: their scores, and paired differences over the same blocks."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from shest.io.expression import scale_of
from shest.score import metrics
from shest.score.evaluation import Evaluation
from shest.score.score_list import SCORES, of

LEVEL = 0.05  # of the corrected p below which a difference is called real


def rows(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """One row a system, sample and unit: scores with their intervals and the number of blocks.

    Beside them: the number of genes with R of at least 0.30 and how many there are by chance, and the chance level of
    the overlap of high places.
    """
    table = []
    for e in evaluations:
        row: dict[str, Any] = {
            "system": e.system,
            "kind": e.kind,
            "encoder": e.encoder,
            "sample": e.sample,
            "unit": e.unit,
            "role": e.role,
            "ground": e.ground,
            "n": e.n,
            "n_genes": e.genes["scored"] if e.genes else None,
            "n_blocks": e.intervals.get("n_blocks"),
        }
        for name, score in SCORES.items():
            low, high = e.interval(name) or (None, None)
            row |= {name: score.read(e), f"{name}_low": low, f"{name}_high": high}
        row["n_genes_above"] = of("pearson", "n_above_0.3")(e)
        row["n_genes_above_by_chance"] = of("pearson", "null", "mean")(e)
        row["iou_chance"], row["iou_low_class"] = (of("iou", key)(e) for key in ("chance", "low"))
        for name in ("within_type", "by_unit", "genes_above", "genes_above_null"):
            row[f"pearson_common_{name}"] = of("common", name)(e)
        row["expression_unit"] = e.expression_unit
        table.append(row)
    return pd.DataFrame(table)


def comparable(one: Evaluation, other: Evaluation, task: str) -> bool:
    """Tell whether two evaluations are of the same units; for expression of the same genes, and on the same scale."""
    same = one.units_digest == other.units_digest
    if task != "types":
        same &= one.genes_digest == other.genes_digest
    return same and (task != "expression" or scale_of(one.expression_unit) == scale_of(other.expression_unit))


def difference(one: Evaluation, other: Evaluation, name: str) -> dict[str, Any] | None:
    """Return how far one system's score is above another's, with an interval over the blocks that both share.

    Both are scored on the same units; the difference without each block is the difference of the scores without it,
    so that what a block makes hard for both does not widen the interval.

    Returns
    -------
    dict
        difference, low, high, and p of no difference (None where there is no interval); None where either has no such
        score, or they are not :func:`comparable`.
    """
    values = SCORES[name].read(one), SCORES[name].read(other)
    if None in values or not comparable(one, other, SCORES[name].task):
        return None
    without = [np.array(e.intervals["without"].get(name, [])) for e in (one, other)]
    gap, interval, p = values[0] - values[1], None, None
    if len(without[0]) == len(without[1]) > 1:
        rest = without[0] - without[1]
        interval, p = metrics.jackknife_interval(gap, rest, "difference"), metrics.jackknife_p(gap, rest)
    return {"difference": gap, "low": interval and interval[0], "high": interval and interval[1], "p": p}


def _grounds(evaluations: Iterable[Evaluation]) -> list[list[Evaluation]]:
    """Return the evaluations that stand beside each other: of one sample and unit, on the same ground."""

    def ground(e: Evaluation) -> tuple[str, str, str]:
        return e.ground, e.sample, e.unit

    return [list(group) for _, group in groupby(sorted(evaluations, key=ground), ground)]


def best(evaluations: Iterable[Evaluation], name: str, reference: str = "linear") -> Evaluation | None:
    """Return the evaluation with the best value of a score, the first of equals; None where none has it.

    It is looked for among those that are :func:`comparable` with a system of kind ``reference``, else with the first.
    """
    score = SCORES[name]
    having = [e for e in evaluations if score.read(e) is not None]
    base = next((e for e in having if e.kind == reference), having[0] if having else None)
    return max(
        (e for e in having if comparable(e, base, score.task)), key=lambda e: score.sign * score.read(e), default=None
    )


def differences(evaluations: Sequence[Evaluation], reference: str = "linear") -> list[dict[str, Any]]:
    """Compare every system with each system of a kind, and with the best, on the same sample, unit and ground.

    The p of all pairs of one score there are corrected together (Holm 1979).

    Returns
    -------
    list of dict
        sample, unit, ground, score, system, reference, best (whether the reference is the best), n_blocks, difference,
        low, high, p, p_holm.
    """
    found = []
    for group in _grounds(e for e in evaluations if not e.apart):
        for name in SCORES:
            found += _differences_of(group, name, reference)
    return found


def _differences_of(group: Sequence[Evaluation], name: str, reference: str) -> list[dict[str, Any]]:
    """Differences of one score, on one ground."""
    leader, pairs = best(group, name, reference), {}
    bases = [e for e in group if e.kind == reference]
    for base in [*bases, *([leader] if leader and leader not in bases else [])]:
        for e in group:
            pair = frozenset((e.system, base.system))
            if len(pair) == 2 and pair not in pairs and (gap := difference(e, base, name)) is not None:
                where = {"sample": e.sample, "unit": e.unit, "ground": e.ground, "score": name}
                who = {"system": e.system, "reference": base.system, "best": base is leader}
                pairs[pair] = where | who | {"n_blocks": e.intervals["n_blocks"]} | gap
    rows = list(pairs.values())
    for row, p in zip(rows, metrics.holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def verdicts(evaluations: Sequence[Evaluation], found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say of each score which system is best, which are behind it by more than chance, and which cannot be told apart.

    ``found``: of :func:`differences`.

    Returns
    -------
    list of dict
        sample, unit, ground, score, best, value, level (systems), behind (system, by, p_holm).
    """
    table = []
    for group in _grounds(e for e in evaluations if not e.apart):
        for name, score in SCORES.items():
            leader = best(group, name)
            if leader is None:
                continue
            where = {"sample": leader.sample, "unit": leader.unit, "ground": leader.ground, "score": name}
            level, behind = [], []
            for row in found:
                pair = row["system"], row["reference"]
                if leader.system not in pair or any(row[key] != value for key, value in where.items()):
                    continue
                other = pair[0] if pair[1] == leader.system else pair[1]
                real = row["p_holm"] is not None and row["p_holm"] < LEVEL
                if real:
                    behind.append({"system": other, "by": abs(row["difference"]), "p_holm": row["p_holm"]})
                else:
                    level.append(other)
            table.append(where | {"best": leader.system, "value": score.read(leader), "level": level, "behind": behind})
    return table


def set_apart(evaluations: Sequence[Evaluation]) -> list[dict[str, str]]:
    """Return what is not compared, and why: other programs that cannot be, and systems scored on something else.

    Where systems are scored on what they share, it is told of that ground alone.
    """
    found = [{"system": e.system, "sample": e.sample, "why": e.apart} for e in evaluations if e.apart]
    shared = {e.sample for e in evaluations if e.ground == "shared"}
    for group in _grounds(e for e in evaluations if not e.apart):
        first = group[0]
        if first.ground == "all" and first.sample in shared:
            continue
        for e in group[1:]:
            if not comparable(e, first, "types"):
                why = f"is scored on {e.n:,} {e.unit}, {first.system} on {first.n:,} others"
            elif not (e.pearson and first.pearson) or comparable(e, first, "expression"):
                continue
            elif comparable(e, first, "logs"):
                why = (
                    f"predicts {e.expression_unit}, {first.system} {first.expression_unit}; R of logs is compared alone"
                )
            else:
                why = f"predicts other genes than {first.system}"
            found.append({"system": e.system, "sample": e.sample, "why": why})
    return found
