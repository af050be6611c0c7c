"""Which fold's model predicts a unit: that which has not seen it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from shest.labels.split import fold_of_cells
from shest.labels.training_set import read_split


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
