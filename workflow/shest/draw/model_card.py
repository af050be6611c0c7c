"""The model card: what a model was made of, how good it is, what it is for and what not."""

from typing import Any

LIMITS = """\
- Not a medical device. For research on tissue like that of the training samples; never for a decision about a patient.
- Types outside the list are never called: such a cell gets the nearest of the listed types.
- Expected counts are means that morphology can tell. What varies between cells that look alike is not in them, however
  smooth a map of them looks.
- Scores of the `paper` protocol are of cells whose windows overlap training windows. The `strict` scores, and those of
  validation samples, are the ones to expect on unseen tissue.
- Labels are the training samples' annotation: their errors are learnt too.
- The probability is calibrated on tissue composed like the validation part; elsewhere it can be too sure."""


def _table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _number(value: Any, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if isinstance(value, float) else "–" if value is None else f"{value:,}"


def score_row(scores: dict[str, Any]) -> list[str]:
    """One row of the score table, of an evaluation's JSON."""
    logistic = scores.get("baselines", {}).get("logistic", {}).get("f1", {})
    calibration = scores.get("calibration") or {}
    values = [
        scores["n_cells"],
        scores["f1"]["weighted"],
        scores["f1"]["macro"],
        logistic.get("weighted"),
        scores.get("pearson", {}).get("median"),
        calibration.get("ece_after"),
    ]
    return [scores["sample"], scores["protocol"], scores["role"], *map(_number, values)]


def card(info: dict[str, Any], scores: list[dict[str, Any]] | None = None) -> str:
    """Write a model card in Markdown.

    Parameters
    ----------
    info
        Content of ``model.json``.
    scores
        Contents of ``evaluation/{encoder}/{protocol}/{sample}.json``, of one or both protocols; None before any.

    Returns
    -------
    str
    """
    config, calibration = info["config"], info["calibration"]
    types = [
        [name, *(f"{info['cells'][part].get(name, 0):,}" for part in ("train", "val"))] for name in info["classes"]
    ]
    left_out = ", ".join(info.get("classes_left_out", [])) or "none"
    header = ["sample", "protocol", "role", "cells", "weighted F1", "macro F1", "logistic F1", "median R", "ECE"]
    scored = _table(header, [score_row(s) for s in scores]) if scores else "Not scored yet: see `evaluation/`."
    encoder = f"{info['encoder']} (fingerprint `{info['fingerprint'][:16]}`, {info['dim']} features)"
    return f"""# Cell types and expression from {info["encoder"]}, {info["protocol"]} protocol

Two heads on frozen embeddings of quadruple tiles: a classifier of {len(info["classes"])} types and a zero-inflated
negative binomial for {len(info["genes"]):,} genes; {info["members"]} member(s) a head.

## Data

Samples: {", ".join(info["samples"])}. Encoder: {encoder}.

{_table(["type", "training cells", "validation cells"], types)}

Types left out for too few training cells: {left_out}. Split: {info["split"]["rule"]}; digest
`{info["split"]["digest"][:16]}`. Refinement: Algorithm 1, per sample.

## Training

AdamW, learning rate {config["learning_rate"]}, batch {config["batch"]:,}, at most {config["epochs"]} epochs, views
`{config["views"]}`, seed {config["seed"]}; the weights with the lowest validation loss are kept, for each head.

## Calibration

Temperature {calibration["temperature"]:.3f}, fitted on {calibration["cells"]:,} validation cells; expected calibration
error on them {_number(calibration["ece_before"])} before and {_number(calibration["ece_after"])} after.

## Scores

{scored}

## Intended use and limits

To map types and expected expression over H&E sections, and to choose regions to measure.

{LIMITS}
"""
