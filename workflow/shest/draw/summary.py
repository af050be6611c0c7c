"""What the report says of a run's scores: its first screen, its tables, and what to doubt."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from shest.io.registration import Registration
from shest.score.evaluation import Evaluation
from shest.tissue.register import SHARE_EXPECTED

BASELINES = ("linear", "mean")
"""Kinds of systems that any other should beat."""
LEFT_OUT = "too few training cells of {}; they are not predicted, and each of their cells counts as an error"
ANNOTATED_BY_EXPRESSION = (
    "{}: labels are TACCO's alone, no pathologist's table was given; a score against them tells how well a label of "
    "expression is met, not whether it is right."
)
PAPER = (
    "The paper protocol tests cells whose windows overlap training windows: its scores on training samples measure "
    "memory as well. The strict score is the one to expect on new tissue."
)


def fitted(models: Iterable[Mapping[str, Any]]) -> str:
    """Say what was fitted on what, in one sentence for all models that share it; ``models``: of ``model.json``."""
    sentences = []
    for m in models:
        cells = sum(m["cells"]["train"].values())
        learnt = [f"{len(m['classes'])} types"] * bool(m["classes"]) + [f"{len(m['genes']):,} genes"] * bool(m["genes"])
        name = f"{m['system']} on {m['encoder']}" if m["encoder"] else m["system"]
        facts = f"fitted on {cells:,} cells of {', '.join(m['samples'])}; {', '.join(learnt)}"
        sentences.append((name, m["protocol"], facts))
    return " ".join(_grouped(sentences))


def _grouped(sentences: Iterable[tuple[str, str, str]]) -> list[str]:
    """Say a fact once for all systems that share it; sentences: system, protocol, fact."""
    systems: dict[tuple[str, str], list[str]] = {}
    for system, protocol, fact in sentences:
        systems.setdefault((protocol, fact), []).append(system)
    return [f"{', '.join(names)} ({protocol}): {fact}." for (protocol, fact), names in systems.items()]


def headline(evaluations: Iterable[Evaluation], shown: str) -> list[dict[str, str]]:
    """Make the cards of the first screen, one an evaluation of the systems that are no baselines.

    The system that the figures show stands first, and strict scores before others; a note names the score of each
    system of kind linear.
    """
    every = list(evaluations)
    chosen = [e for e in every if e.system == shown or e.kind not in BASELINES]
    cards = []
    for e in sorted(chosen, key=lambda e: (e.system != shown, e.protocol != "strict")):
        score, read = ("weighted F1", weighted_f1) if e.types else ("median R", median_r)
        interval = e.interval("weighted" if e.types else "pearson_median")
        notes = [f"{'internal test' if e.role == 'train' else 'external'}, {e.n:,} {e.unit}"]
        notes[0] += f", 95 % {interval[0]:.2f}–{interval[1]:.2f}" if interval else ""
        notes += [f"{b.system} {_text(read(b))}" for b in beside(e, every) if b.kind == "linear" and b is not e]
        name = f"{e.sample}: {score}, {e.protocol} ({e.system})"
        cards.append({"name": name, "value": _text(read(e)), "note": "; ".join(notes)})
    return cards


def weighted_f1(evaluation: Evaluation) -> float | None:
    """Weighted F1 of types; None where none are predicted."""
    return evaluation.types.weighted if evaluation.types else None


def median_r(evaluation: Evaluation) -> float | None:
    """Median Pearson R over genes; None where no expression is predicted."""
    return evaluation.pearson["median"] if evaluation.pearson else None


def beside(evaluation: Evaluation, evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Return the baselines' evaluations of the same sample, protocol and unit."""
    same = evaluation.sample, evaluation.protocol, evaluation.unit
    return [e for e in evaluations if e.kind in BASELINES and (e.sample, e.protocol, e.unit) == same]


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def score_table(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """One row an evaluation; nothing where its system predicts nothing, no column where no evaluation has anything.

    Beside the weighted F1: its interval over spatial blocks, its standard deviation over folds, the one over all cells
    where refinement decided which are scored, and the one against the pathologist's table alone.
    """
    rows = []
    for e in evaluations:
        interval = e.interval("weighted")
        rows.append(
            {
                "sample": e.sample,
                "role": e.role,
                "system": e.system,
                "protocol": e.protocol,
                e.unit: e.n,
                "F1 weighted": weighted_f1(e),
                "95 % interval": f"{interval[0]:.3f}–{interval[1]:.3f}" if interval else None,
                "± over folds": e.spread.get("weighted"),
                "unrefined": e.unrefined[1].weighted if e.unrefined else None,
                "by table alone": e.table[1].weighted if e.table else None,
                "F1 macro": e.types.macro if e.types else None,
                "median R": median_r(e),
                "genes R > 0.3": e.pearson["share_above_0.3"] if e.pearson else None,
                "Moran's I, correlation": e.moran["correlation"] if e.moran else None,
                "calibration error": e.calibration["ece_after"] if e.calibration else None,
            }
        )
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def comparator_table(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """One row a comparator and evaluation: its scores on the cells that it found, and the system's on the same."""
    return pd.DataFrame(
        {
            "sample": e.sample,
            "protocol": e.protocol,
            "program": name,
            "scored cells found": matched.n_matched,
            "share": matched.share_matched,
            "F1 weighted": matched.scores.weighted,
            "F1 macro": matched.scores.macro,
            "system": e.system,
            "its F1 weighted": matched.system.weighted,
            "its F1 macro": matched.system.macro,
        }
        for e in evaluations
        for name, matched in e.comparators.items()
        if matched.scores and e.kind not in BASELINES
    )


def doubts(
    evaluations: Sequence[Evaluation],
    registrations: Mapping[str, Registration],
    tables_given: Mapping[str, bool],
    models: Iterable[Mapping[str, Any]],
) -> list[str]:
    """List what a careful reader should doubt in these results, in plain sentences.

    Parameters
    ----------
    evaluations
        Of all systems.
    registrations, tables_given
        By sample; whether a pathologist's table was given, of the samples with labels.
    models
        Contents of ``model.json``.
    """
    left_out = [(m["system"], m["protocol"], ", ".join(m["classes_left_out"])) for m in models if m["classes_left_out"]]
    sentences = _grouped((system, protocol, LEFT_OUT.format(types)) for system, protocol, types in left_out)
    for e in evaluations:
        sentences += _not_better(e, evaluations)
        unseen = [t for t, f1 in e.types.per_class.items() if f1 is None] if e.types else []
        if unseen:
            sentences.append(
                f"{e.sample} ({e.protocol}): no scored cell of {', '.join(unseen)}; nothing is said of them."
            )
    for sample, registration in registrations.items():
        share = registration.share_on_tissue
        if share is not None and share < SHARE_EXPECTED:
            sentences.append(f"{sample}: only {share:.0%} of the nuclei lie on tissue; check the registration.")
    without_table = [sample for sample, given in tables_given.items() if not given]
    sentences += [ANNOTATED_BY_EXPRESSION.format(", ".join(without_table))] * bool(without_table)
    sentences += [PAPER] * any(e.protocol == "paper" for e in evaluations)
    return list(dict.fromkeys(sentences)) or ["Nothing stands out. That is no proof."]


def _not_better(evaluation: Evaluation, evaluations: Iterable[Evaluation]) -> list[str]:
    """Name the baselines that a system does not beat, at types and at expression."""
    if evaluation.kind in BASELINES:
        return []
    sentences, baselines = [], beside(evaluation, evaluations)
    for task, score, read in (("types", "weighted F1", weighted_f1), ("expression", "median R", median_r)):
        own = read(evaluation)
        better = {
            b.system: value for b in baselines if (value := read(b)) is not None and own is not None and own <= value
        }
        if better:
            values = ", ".join(map(_text, better.values()))
            sentences.append(
                f"{evaluation.sample} ({evaluation.protocol}): {evaluation.system} does not beat {', '.join(better)} "
                f"at {task} ({score} {_text(own)} against {values})."
            )
    return sentences
