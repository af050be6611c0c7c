"""Predictions of a sample: an h5ad file whose expression matrix is written block by block."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd

ROWS = 4096
CHUNK = (1024, 64)  # both a block of cells and a few genes of all cells are read quickly
UNIT = "expected counts per cell, (1 - pi) mu of the zero-inflated negative binomial, mean over members"


class RunningMeans:
    """Means over cells, gene by gene, of values that come in blocks."""

    def __init__(self) -> None:
        self.total: dict[str, np.ndarray] = {}
        self.cells = 0

    def add(self, **values: np.ndarray) -> None:
        """Add one block, each (cells, genes)."""
        for name, block in values.items():
            self.total[name] = self.total.get(name, 0) + block.sum(axis=0, dtype=np.float64)
        self.cells += len(block)

    def means(self) -> dict[str, np.ndarray]:
        """Return the means, (genes,) float32."""
        return {name: (total / max(self.cells, 1)).astype(np.float32) for name, total in self.total.items()}


def write(path: Path, blocks: Iterator[dict[str, np.ndarray]], cells: pd.DataFrame, model: Any, uns: dict) -> None:
    """Write the predictions of all cells.

    Parameters
    ----------
    path
        The file; give a path aside and rename it.
    blocks
        For consecutive cells: ``probability`` (k, classes), ``entropy``, ``disagreement`` (k,), ``expected``,
        ``aleatoric`` and ``epistemic`` (k, genes).
    cells
        One row a cell in the same order: cell_id, x, y (px), x_um, y_um, part.
    model
        Has ``genes`` and ``classes``.
    uns
        Provenance.
    """
    n, genes = len(cells), list(model.genes)
    per_cell: list[dict[str, np.ndarray]] = []
    over_cells = RunningMeans()
    with h5py.File(path, "w") as file:
        chunks = min(CHUNK[0], max(n, 1)), min(CHUNK[1], max(len(genes), 1))
        matrix = file.create_dataset("X", (n, len(genes)), np.float32, chunks=chunks)
        matrix.attrs["encoding-type"], matrix.attrs["encoding-version"] = "array", "0.2.0"
        start = 0
        for block in blocks:
            stop = start + len(block["probability"])
            matrix[start:stop] = block["expected"]
            over_cells.add(aleatoric=block["aleatoric"], epistemic=block["epistemic"])
            per_cell.append(
                {k: block[k] for k in ("probability", "entropy", "disagreement")}
                | {k: block[k].mean(axis=1) for k in ("aleatoric", "epistemic")}
            )
            start = stop
    gathered = {k: np.concatenate([part[k] for part in per_cell]) for k in per_cell[0]} if per_cell else {}
    probability = gathered.pop("probability", np.empty((0, len(model.classes)), np.float32))
    obs = pd.DataFrame({"cell_type": pd.Categorical.from_codes(probability.argmax(axis=1) if n else [], model.classes)})
    obs["probability"] = probability.max(axis=1) if n else np.empty(0, np.float32)
    for name, values in gathered.items():
        obs[name] = values.astype(np.float32)
    obs["part"] = pd.Categorical(cells["part"])
    obs.index = pd.Index(cells["cell_id"].to_numpy(dtype=str), name="cell_id")
    var = pd.DataFrame(over_cells.means(), index=pd.Index(genes, name="gene"))
    rest = ad.AnnData(
        obs=obs,
        var=var,
        obsm={
            "spatial": cells[["x_um", "y_um"]].to_numpy(np.float64),
            "pixel": cells[["x", "y"]].to_numpy(np.float64),
            "probabilities": probability.astype(np.float32),
        },
        uns=uns | {"unit": UNIT, "classes": list(model.classes)},
    )
    with h5py.File(path, "a") as file:
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
        for name in ("obs", "var", "obsm", "uns"):
            ad.io.write_elem(file, name, dict(getattr(rest, name)) if name in ("obsm", "uns") else getattr(rest, name))
        for name in ("layers", "obsp", "varm", "varp"):
            ad.io.write_elem(file, name, {})
