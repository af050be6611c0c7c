"""What a system learns from: labels, split and refinement brought together with counts and what it reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from shest.core.errors import InputError


def labelled_cells(sample: str, cells: str | Path, annotation: str | Path) -> pd.DataFrame:
    """Read the kept, labelled cells of a sample -> sample, id, x, y (H&E px), cell_type; sorted by id."""
    table = pd.read_parquet(cells, columns=["cell_id", "x", "y", "kept"])
    label = pd.read_parquet(annotation, columns=["cell_id", "cell_type"]).set_index("cell_id")["cell_type"]
    table["cell_type"] = label.reindex(table["cell_id"]).to_numpy()
    table = table[table["kept"] & table["cell_type"].notna()].sort_values("cell_id", ignore_index=True)
    table.insert(0, "sample", sample)
    return table.drop(columns="kept").rename(columns={"cell_id": "id"}).astype({"cell_type": str})


def kept_spots(sample: str, spots: str | Path) -> pd.DataFrame:
    """Read the kept spots of a sample -> sample, id, x, y (H&E px), cell_type (none); sorted by id."""
    table = pd.read_parquet(spots, columns=["spot_id", "x", "y", "kept"])
    table = table[table["kept"]].drop(columns="kept").sort_values("spot_id", ignore_index=True)
    table.insert(0, "sample", sample)
    return table.rename(columns={"spot_id": "id"}).assign(cell_type=None)


def read_split(path: str | Path, unit: str = "cells") -> pd.DataFrame:
    """Read what a split says of the units of one kind: sample, id, part, block, group, cell_type."""
    table = pd.read_parquet(path)
    return table[table["unit"] == unit].drop(columns="unit").reset_index(drop=True)


def window_reach(gap_um: float, mpp: tuple[float, float]) -> tuple[float, float]:
    """Return how far apart, µm along x and y, centres must be so that windows of different parts do not meet.

    Windows of centres so far apart in one axis do not meet, however their places were rounded to pixels.
    """
    return gap_um + 2 * mpp[0], gap_um + 2 * mpp[1]


def spot_training_table(split: pd.DataFrame, protocol: str, min_spots: int) -> pd.DataFrame:
    """Choose the spots to learn from: all of the parts train and val; no type, label 0.

    Parameters and errors as of :func:`training_table`.
    """
    table = split[split["part"].isin(["train", "val"])].reset_index(drop=True)
    number = int((table["part"] == "train").sum())
    if number < min_spots:
        raise InputError(
            f"training spots ({protocol})",
            f"{number} spots are too few to learn from (train.min_cells: {min_spots})",
            "Give more samples, or lower split.folds, spots.patch_um or train.min_cells",
        )
    return table.assign(cell_type="spot", label=np.int64(0))


def training_table(
    split: pd.DataFrame, refined: dict[str, pd.DataFrame] | None, protocol: str, min_cells: int
) -> tuple[pd.DataFrame, list[str]]:
    """Choose the units to learn from, and the classes.

    Training units are those of part ``train`` that the refinement kept; validation units are all of part ``val``,
    refined or not: what they choose and calibrate shall hold for tissue that nobody refines. Classes with fewer than
    ``min_cells`` training units are left out, with their validation units.

    Parameters
    ----------
    split
        sample, id, part, cell_type.
    refined
        For each training sample: cell_id, kept. None: nothing is refined.
    protocol
        For the message.
    min_cells
        Fewest training units of a class.

    Returns
    -------
    table
        sample, id, cell_type, part (train, val), label (int), in the order of ``split``.
    classes
        Names, sorted; ``label`` is the place in it.

    Raises
    ------
    InputError
        Fewer than two classes have enough training units.
    """
    table = split[split["part"].isin(["train", "val"])]
    if refined is not None:
        removed = pd.concat([t.loc[~t["kept"], ["cell_id"]].assign(sample=name) for name, t in refined.items()])
        units, out = (pd.MultiIndex.from_frame(t) for t in (table[["sample", "id"]], removed[["sample", "cell_id"]]))
        table = table[(table["part"] == "val") | ~units.isin(out)]
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
    held_out
        Sample and id of the units that will be scored: who reads more of the slide than its units keeps off them. None
        where units are held out at random (protocol ``paper``), among those that are learnt from.
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
    held_out: list[tuple[str, str]] | None = None


def shuffled(data: TrainingSet, seed: int) -> TrainingSet:
    """Return the set with the counts of its units exchanged: a control, in which what a unit looks like tells nothing.

    Counts go to another unit of the same sample and part, so that every part keeps the counts that it had.
    """
    rng, order = np.random.default_rng(seed), np.arange(len(data.sample))
    for part in (data.train, data.val):
        for sample in np.unique(data.sample[part]):
            rows = part[data.sample[part] == sample]
            order[rows] = rng.permutation(rows)
    return replace(data, counts=data.counts[order])


def without_zeros(data: TrainingSet, most: float) -> TrainingSet:
    """Return the set with the genes, and of these the units, whose share of zeros is below ``most``.

    Genes are judged by the training units of samples that measured them, validation units by themselves.

    Raises
    ------
    InputError
        No gene, or no training unit, is left.
    """
    counts, measured = data.counts[data.train], data.measured[data.sample[data.train]]
    seen = np.asarray((counts > 0).multiply(measured).sum(axis=0)).ravel()
    genes = 1 - seen / np.maximum(measured.sum(axis=0), 1) < most
    kept = data.counts[:, genes]
    zeros = 1 - np.diff(kept.tocsr().indptr) / np.maximum(data.measured[data.sample][:, genes].sum(axis=1), 1)
    train, val = (rows[zeros[rows] < most] for rows in (data.train, data.val))
    if not genes.any() or not len(train):
        nothing = "training unit" if genes.any() else "gene"
        remedy = "Raise the system's setting max_zeros, or train on spots: cells have few counts"
        raise InputError("max_zeros", f"no {nothing} has a share of zeros below {most:g}", remedy)
    names = [name for name, there in zip(data.genes, genes, strict=True) if there]
    return replace(data, counts=kept, measured=data.measured[:, genes], train=train, val=val, genes=names)


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
        raise InputError(where, f"lacks {len(missing):,} of {len(rows):,} names ({missing[0]})", "Run its stage again")
    return rows


def read_fold(samples: Sequence[str], paths: Sequence[str], fold: str) -> dict[str, pd.DataFrame] | None:
    """Read what refinement says of the cells of one fold, by sample; None where nothing is refined."""
    if not paths:
        return None
    tables = {sample: pd.read_parquet(path) for sample, path in zip(samples, paths, strict=True)}
    return {sample: table[table["fold"] == fold] for sample, table in tables.items()}


def remove_at_random(table: pd.DataFrame, kept: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Remove as many training cells of each class as refinement did, drawn at random.

    Parameters
    ----------
    table, kept
        All cells and the refined ones: part, cell_type.
    seed
        Of the draw.
    """
    rng, train = np.random.default_rng(seed), table[table["part"] == "train"]
    wanted = kept.loc[kept["part"] == "train", "cell_type"].value_counts()
    drawn = [
        rng.choice(members.index, wanted.get(name, 0), replace=False) for name, members in train.groupby("cell_type")
    ]
    return table[(table["part"] != "train") | table.index.isin(np.concatenate(drawn))]
