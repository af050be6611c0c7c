"""What a system learns from: labels, split and refinement brought together with counts and what it reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from shest.core.errors import InputError
from shest.io.registration import Registration


def labelled_cells(sample: str, cells: str | Path, annotation: str | Path) -> pd.DataFrame:
    """Read the kept, labelled cells of a sample -> sample, cell_id, x, y (H&E px), cell_type; sorted by cell_id."""
    table = pd.read_parquet(cells, columns=["cell_id", "x", "y", "kept"])
    label = pd.read_parquet(annotation, columns=["cell_id", "cell_type"]).set_index("cell_id")["cell_type"]
    table["cell_type"] = label.reindex(table["cell_id"]).to_numpy()
    table = table[table["kept"] & table["cell_type"].notna()].sort_values("cell_id", ignore_index=True)
    table.insert(0, "sample", sample)
    return table.drop(columns="kept").astype({"cell_type": str})


def window_reach(window_um: float, registration: str | Path) -> tuple[tuple[float, float], tuple[float, float]]:
    """Size of a pixel and reach of a window of a sample.

    Returns
    -------
    mpp : µm per H&E px along x and y
    reach : µm along x and y; windows of centres at least so far apart in one axis do not meet, however their
        places were rounded to pixels
    """
    mpp = Registration.read(registration).mpp
    return mpp, (window_um + 2 * mpp[0], window_um + 2 * mpp[1])


def training_table(
    split: pd.DataFrame, refined: dict[str, pd.DataFrame], protocol: str, min_cells: int
) -> tuple[pd.DataFrame, list[str]]:
    """Choose the cells to learn from, and the classes.

    Training cells are those of part ``train`` that the refinement kept. Validation cells are the refined ones of
    part ``val`` in ``paper``; all of them in ``strict``, where the refinement sees training cells only. Classes
    with fewer than ``min_cells`` training cells are left out, with their validation cells.

    Parameters
    ----------
    split : sample, cell_id, part, cell_type
    refined : for each training sample: cell_id, kept
    protocol : ``strict`` or ``paper``
    min_cells : fewest training cells of a class

    Returns
    -------
    table : sample, cell_id, cell_type, part (train, val), label (int), in the order of ``split``
    classes : names, sorted; ``label`` is the place in it

    Raises
    ------
    InputError
        Fewer than two classes have enough training cells.
    """
    kept = pd.concat([frame[["cell_id", "kept"]].assign(sample=name) for name, frame in refined.items()])
    table = split.merge(kept, on=["sample", "cell_id"], how="left", validate="one_to_one")
    kept = table["kept"].eq(True)
    use = (table["part"] == "train") & kept | (table["part"] == "val") & (kept | (protocol == "strict"))
    table = table[use].drop(columns="kept")
    number = table.loc[table["part"] == "train", "cell_type"].value_counts()
    classes = sorted(number.index[number >= min_cells])
    if len(classes) < 2:
        counts = ", ".join(f"{name} {n}" for name, n in number.sort_index().items()) or "none"
        raise InputError(
            f"training cells ({protocol})",
            f"fewer than two types have {min_cells} cells to learn from (after split and refinement: {counts})",
            "Give more labelled cells, or lower train.min_cells",
        )
    table = table[table["cell_type"].isin(classes)].reset_index(drop=True)
    table["label"] = pd.Categorical(table["cell_type"], classes).codes.astype(np.int64)
    return table, classes


@dataclass(frozen=True)
class TrainingSet:
    """What a system is fitted on; ``n`` units, ``g`` genes, ``s`` samples.

    Attributes
    ----------
    source
        What the system reads of the units, by their position: :class:`shest.encode.cache.Embeddings`, for example.
    counts
        (n, g) CSR; genes of several samples joined by name.
    measured
        (s, g) bool, whether the sample's panel has the gene.
    sample, label
        (n,) int: sample and class of each unit.
    train, val
        (k,) int64, units to learn from, and to stop, to choose and to calibrate by.
    classes, genes
        Names, in the order of labels and of columns.
    """

    source: Any
    counts: sparse.csr_matrix
    measured: np.ndarray
    sample: np.ndarray
    label: np.ndarray
    train: np.ndarray
    val: np.ndarray
    classes: list[str]
    genes: list[str]


def moments(source: Any, units: np.ndarray, block: int = 16_384) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each feature over units, float32; 1 for constant features.

    ``block`` units are read at once.
    """
    shift = source.take(units[:1]).astype(np.float64)[0]
    total, squares = np.zeros(source.dim), np.zeros(source.dim)
    for start in range(0, len(units), block):
        part = source.take(units[start : start + block]).astype(np.float64) - shift
        total += part.sum(axis=0)
        squares += (part * part).sum(axis=0)
    mean = total / len(units)
    std = np.sqrt(np.maximum(squares / len(units) - mean * mean, 0))
    return (mean + shift).astype(np.float32), np.where(std > 1e-6, std, 1).astype(np.float32)


def rows_of(wanted: Any, names: Any, where: str | Path) -> np.ndarray:
    """Return the places of ``wanted`` among ``names``; raise :class:`InputError` where one is not there."""
    rows = pd.Index(names).get_indexer(pd.Index(wanted))
    if (rows < 0).any():
        missing = np.asarray(wanted)[rows < 0]
        raise InputError(
            where, f"lacks {len(missing):,} of {len(rows):,} names ({missing[0]})", "Run its stage again"
        )
    return rows
