"""The units that are predicted, and which fold's model predicts each: that which has not seen it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shest.io.registration import Registration
from shest.labels.split import fold_of_cells
from shest.labels.training_set import read_split


def kept_units(path: str | Path, registration: str | Path) -> pd.DataFrame:
    """Read the kept units of ``cells.parquet`` or ``spots.parquet``: cell_id (of whatever unit), and x_um, y_um too."""
    units = pd.read_parquet(path).rename(columns={"spot_id": "cell_id"})
    units = units[units["kept"]].reset_index(drop=True)
    um = Registration.read(registration).to_um(units[["x", "y"]].to_numpy())
    return units.assign(x_um=um[:, 0], y_um=um[:, 1])


def parts_and_folds(
    units: pd.DataFrame, splits: Sequence[str], params: Any, wildcards: Any
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return part and fold of each unit: of training samples by the splits, the sample's role and one fold else.

    Parameters
    ----------
    units
        cell_id (of whatever unit), x, y of all kept units.
    splits
        Paths of the splits, in the order of the folds; none of a sample that was not split.
    params
        ``role`` of the sample; ``folds``, one or several.
    wildcards
        ``sample``, ``protocol``, ``unit``.

    Returns
    -------
    part, fold
        (n,) str.
    folds
        In their order.
    """
    folds = [params.folds] if isinstance(params.folds, str) else list(params.folds)
    if not splits:
        return np.full(len(units), params.role), np.full(len(units), folds[0]), folds
    tables = [read_split(path, getattr(wildcards, "unit", "spots")) for path in splits]
    own = {fold: table[table["sample"] == wildcards.sample] for fold, table in zip(folds, tables, strict=True)}
    if wildcards.protocol == "paper":
        part = own[folds[0]].set_index("id")["part"].reindex(units["cell_id"]).fillna("unlabelled")
        return part.to_numpy(str), np.full(len(units), folds[0]), folds
    fold = fold_of_cells(units, own)
    labelled = np.isin(units["cell_id"], own[folds[0]]["id"])
    return np.where(labelled, "test", "unlabelled"), fold, folds
