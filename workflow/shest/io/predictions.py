"""Predictions of a sample: an h5ad file whose expression matrix is written block by block."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd

ROWS = 4096
VARIANCES = ("aleatoric", "epistemic")
CHUNK = (1024, 64)  # both a block of cells and a few genes of all cells are read quickly


class RunningMeans:
    """Means over units, gene by gene, of values that come in blocks."""

    def __init__(self) -> None:
        self.total: dict[str, np.ndarray] = {}
        self.units = 0

    def add(self, **values: np.ndarray) -> None:
        """Add one block, each (units, genes)."""
        for name, block in values.items():
            self.total[name] = self.total.get(name, 0) + block.sum(axis=0, dtype=np.float64)
        self.units += len(block)

    def means(self) -> dict[str, np.ndarray]:
        """Return the means, (genes,) float32."""
        return {name: (total / max(self.units, 1)).astype(np.float32) for name, total in self.total.items()}


def write(
    path: Path,
    blocks: Iterator[dict[str, np.ndarray]],
    units: pd.DataFrame,
    classes: list[str],
    genes: list[str],
    uns: dict[str, Any],
) -> None:
    """Write the predictions of all units of a sample.

    Parameters
    ----------
    path
        The file; give a path aside and rename it.
    blocks
        For consecutive units, where the system predicts them: ``probability`` (k, classes) and ``uncalibrated``, the
        same at temperature 1, ``entropy``, ``disagreement`` (k,); ``expected``, ``aleatoric``, ``epistemic``
        (k, genes). What a system does not predict is missing: NaN in the file, no column of X.
    units
        One row a unit in the same order, indexed by its id: x, y (px), x_um, y_um, part, fold.
    classes, genes
        Names of the columns of ``probability`` and of ``expected``.
    uns
        Provenance, and the unit of X.
    """
    n = len(units)
    per_unit: list[dict[str, np.ndarray]] = []
    over_units = RunningMeans()
    with h5py.File(path, "w") as file:
        chunks = min(CHUNK[0], max(n, 1)), min(CHUNK[1], max(len(genes), 1))
        matrix = file.create_dataset("X", (n, len(genes)), np.float32, chunks=chunks)
        matrix.attrs["encoding-type"], matrix.attrs["encoding-version"] = "array", "0.2.0"
        start = 0
        for block in blocks:
            stop = start + len(next(iter(block.values())))
            if genes:
                matrix[start:stop] = block["expected"]
            variances = {name: block[name] for name in VARIANCES if name in block}
            if variances:
                over_units.add(**variances)
            means = {name: values.mean(axis=1) for name, values in variances.items()}
            per_unit.append({k: v for k, v in block.items() if k not in ("expected", *VARIANCES)} | means)
            start = stop
    gathered = {k: np.concatenate([part[k] for part in per_unit]) for k in per_unit[0]} if per_unit else {}
    probability = gathered.get("probability", np.empty((n, 0), np.float32))
    obs = pd.DataFrame(index=pd.Index(units.index.to_numpy(dtype=str), name="cell_id"))
    best = probability.argmax(axis=1) if probability.size else np.full(n, -1)
    obs["cell_type"] = pd.Categorical.from_codes(best, classes)
    rows = np.arange(n)
    for name, values in (("probability", probability), ("uncalibrated", gathered.get("uncalibrated", probability))):
        obs[name] = values[rows, best].astype(np.float32) if values.size else np.float32(np.nan)
    for name in ("entropy", "disagreement", *VARIANCES):
        obs[name] = gathered.get(name, np.full(n, np.nan)).astype(np.float32)
    obs["part"], obs["fold"] = pd.Categorical(units["part"]), pd.Categorical(units["fold"])
    var = pd.DataFrame(index=pd.Index(genes, name="gene"))
    means = over_units.means()
    for name in VARIANCES:
        var[name] = means.get(name, np.full(len(genes), np.nan, np.float32))
    obsm = {
        "spatial": units[["x_um", "y_um"]].to_numpy(np.float64),
        "pixel": units[["x", "y"]].to_numpy(np.float64),
        "probabilities": probability.astype(np.float32),
    }
    with h5py.File(path, "a") as file:
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
        for name, value in (("obs", obs), ("var", var), ("obsm", obsm), ("uns", uns | {"classes": list(classes)})):
            ad.io.write_elem(file, name, value)
        for name in ("layers", "obsp", "varm", "varp"):
            ad.io.write_elem(file, name, {})
