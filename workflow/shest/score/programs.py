"""Another program's predictions brought to the cells, genes and scale of this run, or set apart by one sentence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from shest.io import detections, programs
from shest.io.genes import Genes, named_as
from shest.io.programs import Program
from shest.score.comparators import match


def partners(program: Program, cells: pd.DataFrame, mpp: tuple[float, float], radius_um: float) -> np.ndarray:
    """Return the program's row of each cell, (n,) int64, -1 where it has none: by id, or by place, one to one.

    ``cells``: kept cells, indexed by id, with x and y (H&E px).
    """
    if program.cell_id is not None:
        return pd.Index(program.cell_id).get_indexer(cells.index.astype(str)).astype(np.int64)
    found = np.full(len(cells), -1, np.int64)
    own, theirs = match(cells[["x", "y"]].to_numpy() * mpp, program.xy * mpp, radius_um)
    found[own] = theirs
    return found


def why_apart(
    program: Program,
    entry: dict[str, Any],
    sample: str,
    role: str,
    cells: pd.DataFrame,
    rows: np.ndarray,
    shared: Sequence[str],
) -> str | None:
    """Say why a program cannot be compared on a sample; None where it can.

    Parameters
    ----------
    program, entry
        The file, and its settings, which count where the file says nothing.
    sample, role
        What it is scored on: ``train`` or ``validation``.
    cells
        Kept cells with the fold whose model predicts each here.
    rows
        Of :func:`partners`.
    shared
        Genes that it shares with the systems.
    """
    unit, trained_on = program.unit or entry["unit"], program.trained_on or entry["trained_on"]
    if unit is None:
        return "does not say the unit of its expression: uns['unit'], or unit in the config (counts, log1p)"
    if programs.unit_of(unit) is None:
        return f"gives expression in {unit!r}, which cannot be brought to counts of a cell; counts and log1p can"
    if trained_on is None:
        return "does not say what it was trained on: uns['trained_on'], or trained_on in the config"
    if not (rows >= 0).any():
        return f"has none of the {len(rows):,} cells: neither their ids nor a cell near enough"
    if not len(shared):
        return "has no gene that the systems predict"
    if sample not in trained_on:
        return None
    fold = program.text("fold")
    if role == "train" and fold is not None:
        there = rows >= 0
        other = int((fold[rows[there]] != cells["fold"].to_numpy(str)[there]).sum())
        return f"held {other:,} of {int(there.sum()):,} cells out in other folds than this run" if other else None
    return f"was trained on {sample}, which it would be scored on"


def types_of(program: Program, entry: dict[str, Any], types: Sequence[str]) -> np.ndarray | None:
    """Return the type of each of its cells (n,), None in it for a class that is ignored; None where it has no types."""
    said = program.text("cell_type")
    if said is None:
        return None
    table = entry["types"] or {name: name for name in types}
    return detections.map_types(program.path, pd.Series(said), table, "evaluate.comparators.NAME.types")


def shared_names(program: Program, known: Genes) -> tuple[np.ndarray, list[str]]:
    """Return the columns of its genes that the systems ``known``, and their names there."""
    names, wanted = named_as(program.genes, known), set(known.symbols)
    columns = np.array([k for k, name in enumerate(names) if name in wanted], np.int64)
    return columns, [names[k] for k in columns]
