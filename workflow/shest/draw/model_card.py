"""The model card: what a model was made of, how good it is, what it is for and what not."""

from collections.abc import Mapping, Sequence
from typing import Any

from shest.score.evaluation import Evaluation

LIMITS = """\
- Not a medical device. For research on tissue like that of the training samples; never for a decision about a patient.
- Scores of the `paper` protocol are of cells that refinement chose by label and embedding; "unrefined" is the score of
  the same model on all test cells. `strict` scores are of held-out tissue of the same slides; those of validation
  samples are the ones to expect elsewhere.
- Correlations within type show what is predicted beyond the type; most of the overall ones is composition.
- The ceiling is the R that the true expected expression itself reaches on the measured counts: known of simulated
  tissue alone.
- Labels are the training samples' annotation: their errors are learnt too."""
LIMITS_OF_TYPES = """
- Types outside the list are never predicted: such a cell gets the nearest of the listed types."""
LIMITS_OF_EXPRESSION = """
- Expected counts are means that morphology can tell. What varies between cells that look alike is not in them, however
  smooth a map of them looks."""
LIMITS_OF_PROBABILITY = """
- The probability is calibrated on tissue composed like the validation part; elsewhere it can be too sure."""
HEADER = (
    "sample",
    "protocol",
    "role",
    "cells",
    "weighted F1",
    "95 %",
    "blocks",
    "± folds",
    "unrefined (cells)",
    "macro F1",
    "median R",
    "ceiling",
    "within type",
    "its ceiling",
    "ECE",
)


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def score_row(evaluation: Evaluation) -> list[str]:
    """One row of the score table; – for what the system does not predict."""
    types, pearson, calibration = evaluation.types, evaluation.pearson, evaluation.calibration
    low, high = evaluation.interval("weighted") or (None, None)
    unrefined = evaluation.unrefined
    return [
        evaluation.sample,
        evaluation.protocol,
        evaluation.role,
        f"{evaluation.n:,}" + (" spots" if evaluation.unit == "spots" else ""),
        _number(types.weighted if types else None),
        "–" if low is None else f"{low:.3f}–{high:.3f}",
        str(evaluation.intervals.get("n_blocks", "–")),
        _number(evaluation.spread.get("weighted")),
        "–" if unrefined is None else f"{unrefined[1].weighted:.3f} ({unrefined[0]:,})",
        _number(types.macro if types else None),
        _number(pearson["median"] if pearson else None),
        _number(pearson.get("ceiling") if pearson else None),
        _number(pearson.get("within_type") if pearson else None),
        _number(pearson.get("ceiling_within_type") if pearson else None),
        _number(calibration["ece_after"] if calibration else None),
    ]


def card(info: Mapping[str, Any], evaluations: Sequence[Evaluation] = ()) -> str:
    """Write a model card in Markdown.

    Parameters
    ----------
    info
        Content of ``model.json``.
    evaluations
        Of this system, in one or more protocols; none before any.
    """
    learnt = [f"types of cells ({len(info['classes'])})"] * bool(info["classes"])
    learnt += [f"expression of {len(info['genes']):,} genes ({info['expression_unit']})"] * bool(info["genes"])
    encoder = f"{info['encoder']}, fingerprint `{info['fingerprint'][:16]}`, {info['dim']} features"
    types = info["classes"] or list(info["cells"]["train"])
    cells = [[t, *(f"{info['cells'][part].get(t, 0):,}" for part in ("train", "val"))] for t in types]
    left_out = ", ".join(info["classes_left_out"]) or "none"
    settings = [[f"`{name}`", f"`{value}`"] for name, value in info["settings"].items()]
    return f"""# {info["system"]}, {info["protocol"]} protocol

A system of kind `{info["kind"]}`. Predicts: {"; ".join(learnt)}. Encoder: {encoder if info["encoder"] else "none"}.

## Data

Samples: {", ".join(info["samples"])}. Fold: {info["fold"]}. Split: {info["split"]["rule"]}; digest
`{info["split"]["digest"][:16]}`. Refinement: {"Algorithm 1, per sample" if info["refined"] else "none"}.

{_table(["type", *(f"{part} {info.get('unit', 'cells')}" for part in ("training", "validation"))], cells)}

Types left out for too few training cells: {left_out}.

## Settings

{_table(["setting", "value"], settings) if settings else "None."}
{_calibration(info)}
## Scores

{_table(HEADER, [score_row(e) for e in evaluations]) if evaluations else "Not scored yet: see `evaluation/`."}

## Intended use and limits

To map what it predicts over H&E sections, and to choose regions to measure.

{_limits(info)}
"""


def _calibration(info: Mapping[str, Any]) -> str:
    """Say how the probabilities of types were calibrated; nothing where none are predicted."""
    fit = info["calibration"]
    if info["temperature"] is None:
        return ""
    return f"""
## Calibration

Temperature {info["temperature"]:.3f}, fitted on {fit["cells"]:,} validation cells; expected calibration error on them
{_number(fit["ece_before"])} before and {_number(fit["ece_after"])} after.
"""


def _limits(info: Mapping[str, Any]) -> str:
    limits = {
        LIMITS_OF_TYPES: info["classes"],
        LIMITS_OF_EXPRESSION: info["genes"],
        LIMITS_OF_PROBABILITY: info["temperature"] is not None,
    }
    return LIMITS + "".join(text for text, applies in limits.items() if applies)
