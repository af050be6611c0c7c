"""Ways to label the same cells, beside each other and beside the pathologist's table."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

NONE = "no type"
RESOLUTIONS = (1.0, 2.0, 4.0)
NEOPLASTIC_RULES = ("none", "ratio", "enrichment")


def variants(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings of ``annotate.markers`` that are tried: resolutions 1, 2, 4 and the own, each rule at all."""
    resolutions = sorted({*RESOLUTIONS, float(settings["resolution"])})
    return [dict(settings) | {"resolution": r, "neoplastic": rule} for r in resolutions for rule in NEOPLASTIC_RULES]


def name_of(settings: Mapping[str, Any]) -> str:
    """Say which variant of the marker labels some settings are."""
    return f"resolution {settings['resolution']:g}, neoplastic {settings['neoplastic']}"


def compare(
    calls: Mapping[tuple[str, str], pd.Series], used: tuple[str, str], groups: pd.Series | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score ways to label, and count what each says of the pathologist's types.

    Parameters
    ----------
    calls : type by cell_id (missing: none), by way and variant; the same cells in each
    used : the one whose types are the run's labels
    groups : the pathologist's type by cell_id, or None

    Returns
    -------
    DataFrame
        A row a way and variant: way, variant, used, cells, typed (share that has a type), as_labels (share that has
        the same as the labels), table_cells (cells that the table names and that were called), accuracy, f1_macro and
        f1_weighted over the table's types (a cell without a type is an error), accuracy_typed (of the cells with one).
    DataFrame
        A row a way, variant, type of the table and type: way, variant, table_type, type, cells.
    """
    labels, rows, confusions = calls[used].fillna(NONE), [], []
    for (way, variant), called in calls.items():
        called = called.fillna(NONE)
        row = {"way": way, "variant": variant, "used": (way, variant) == used, "cells": len(called)}
        row |= {"typed": float((called != NONE).mean()), "as_labels": float((called == labels).mean())}
        if groups is not None:
            known = groups.dropna()
            known = known[known.index.isin(called.index)]
            row |= scores(known, called.reindex(known.index))
            counts = pd.crosstab(known.to_numpy(object), called.reindex(known.index).to_numpy(object)).stack()
            confusions += [(way, variant, *pair, int(n)) for pair, n in counts.items() if n]
        rows.append(row)
    columns = ["way", "variant", "table_type", "type", "cells"]
    return pd.DataFrame(rows), pd.DataFrame(confusions, columns=columns)


def scores(known: pd.Series, called: pd.Series) -> dict[str, Any]:
    """Score types against a pathologist's of the same cells; ``NONE`` is an error, and no type of its own."""
    if known.empty:
        return {"table_cells": 0}
    types, typed = sorted(known.unique()), called != NONE
    same = known.to_numpy(object) == called.to_numpy(object)
    arguments = known.to_numpy(str), called.to_numpy(str)
    return {
        "table_cells": len(known),
        "accuracy": float(same.mean()),
        "f1_macro": float(f1_score(*arguments, labels=types, average="macro", zero_division=0)),
        "f1_weighted": float(f1_score(*arguments, labels=types, average="weighted", zero_division=0)),
        "accuracy_typed": float(same[typed].mean()) if typed.any() else np.nan,
    }
