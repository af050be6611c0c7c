"""What a system costs beside what it scores: size, time and memory, as the run's own jobs were measured."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open


def size_of(weights: str | Path) -> dict[str, int]:
    """Return number of values and bytes of what a system learnt, read from the header of its weights."""
    with safe_open(weights, "numpy") as opened:
        parameters = sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    return {"parameters": parameters, "bytes": Path(weights).stat().st_size}


def measured(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Return seconds and peak memory (MB) of the jobs whose benchmark files are there, the last run of each."""
    rows = [pd.read_csv(path, sep="\t").iloc[-1] for path in paths if Path(path).is_file()]
    table = pd.DataFrame([{"seconds": row["s"], "mb": row.get("max_rss")} for row in rows], columns=["seconds", "mb"])
    return table.apply(pd.to_numeric, errors="coerce")


def cost(weights: str | Path, fits: Sequence[str | Path], predicts: Sequence[str | Path], units: int) -> dict[str, Any]:
    """Return what a system costs.

    Parameters
    ----------
    weights
        ``model.safetensors`` of one of its models.
    fits, predicts
        Benchmark files of its jobs; those that are not there are left out.
    units
        How many units the jobs of ``predicts`` predicted, all together.

    Returns
    -------
    dict
        parameters, bytes; fit_seconds, the mean of a fit; units_per_second of prediction, start of the job included;
        fit_mb, predict_mb, peak memory. None where nothing was measured. Encoding is no part of it.
    """
    fitted, predicted = measured(fits), measured(predicts)

    def number(value: float) -> float | None:
        return float(value) if math.isfinite(value) else None

    whole = len(predicted) == len(predicts) and predicted["seconds"].sum() > 0
    return size_of(weights) | {
        "fit_seconds": number(fitted["seconds"].mean()),
        "fit_mb": number(fitted["mb"].max()),
        "units_per_second": number(units / predicted["seconds"].sum()) if whole else None,
        "predict_mb": number(predicted["mb"].max()),
    }
