"""Another program's predictions of a sample's cells: an h5ad that says what it is."""

from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from shest.core.errors import InputError, did_you_mean, one_line
from shest.io import genes
from shest.io.genes import Genes
from shest.io.geojson import CORNER

REMEDY = "Write one row a cell with anndata: obs with cell_id, or x and y; genes in var; docs/compare.md has an example"
UNITS = {"counts": "counts", "counts per cell": "counts", "log1p": "log1p", "log1p counts": "log1p"}
"""Units that can be brought to counts, by the words that say so; behind a comma may stand how they come about."""


@dataclass
class Program:
    """What a file of predictions holds.

    Attributes
    ----------
    path
        The file.
    data
        Opened, its matrix on disk.
    cell_id
        (n,) str; None where cells are placed by x and y alone.
    xy
        (n, 2) H&E px, pixel centres at integers; None where there are ids.
    genes
        Of the columns.
    unit
        As the file says it; None where it does not.
    trained_on
        Names of what it was trained on; None where it does not say.
    """

    path: str
    data: ad.AnnData
    cell_id: np.ndarray | None
    xy: np.ndarray | None
    genes: Genes
    unit: str | None
    trained_on: list[str] | None

    def text(self, column: str) -> np.ndarray | None:
        """Return a column of obs as text (n,); None where there is none."""
        return self.data.obs[column].to_numpy(str) if column in self.data.obs else None

    def expected(self, rows: np.ndarray, columns: np.ndarray, scale: str) -> np.ndarray:
        """Return some cells' expected counts, (k, genes) float32; ``scale``: of the file, a value of ``UNITS``."""
        order, back = np.unique(rows, return_inverse=True)
        values = self.data.X[order]
        values = np.asarray(values.toarray() if hasattr(values, "toarray") else values, np.float32)[back][:, columns]
        return np.maximum(np.expm1(values) if scale == "log1p" else values, 0)


def read(path: str | Path, scale: float = 1.0) -> Program:
    """Open a file of predictions.

    Parameters
    ----------
    path
        h5ad: X (cells, genes); obs with ``cell_id``, or ``x`` and ``y`` (px), and ``cell_type`` and ``fold`` where it
        has them; ``uns`` with ``unit`` and ``trained_on``.
    scale
        H&E px per px of the file.

    Raises
    ------
    InputError
        The file is not there, is no h5ad, does not say which cells it is of, names a cell or gene twice, or has values
        that are no numbers.
    """
    try:
        data = ad.read_h5ad(path, backed="r")
    except FileNotFoundError:
        raise InputError(path, "not there", REMEDY) from None
    except Exception as error:
        raise InputError(path, f"no h5ad ({one_line(error)})", REMEDY) from None
    if not data.n_obs:
        raise InputError(path, "no cells in it", REMEDY)
    if not data.var_names.is_unique:
        twice = data.var_names[data.var_names.duplicated()][0]
        raise InputError(path, f"names the gene {twice} twice", REMEDY)
    cell_id, xy = _cells(path, data.obs, scale)
    trained_on = data.uns.get("trained_on")
    if isinstance(trained_on, str):
        trained_on = [trained_on]
    named = None if trained_on is None or not len(trained_on) else [str(name) for name in trained_on]
    unit = data.uns.get("unit")
    return Program(str(path), data, cell_id, xy, genes.of_var(data.var), None if unit is None else str(unit), named)


def _cells(path: str | Path, obs: pd.DataFrame, scale: float) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return ids, or places, of the cells."""
    if "cell_id" in obs:
        names = obs["cell_id"].astype(str)
        if names.duplicated().any():
            raise InputError(path, f"names the cell {names[names.duplicated()].iloc[0]} twice", REMEDY)
        return names.to_numpy(str), None
    if not {"x", "y"} <= set(obs):
        near = did_you_mean("cell_id", obs.columns)
        raise InputError(path, "obs has neither cell_id nor x and y", f"{near} {REMEDY}")
    xy = obs[["x", "y"]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    if not np.isfinite(xy).all():
        raise InputError(path, f"{int((~np.isfinite(xy).all(axis=1)).sum()):,} cells without a place", REMEDY)
    return None, (xy + CORNER) * scale - CORNER


def unit_of(said: str | None) -> str | None:
    """Return ``counts`` or ``log1p`` for how a file says its unit; None where it is neither, or nothing is said."""
    return UNITS.get((said or "").partition(",")[0].strip().removeprefix("expected ").lower())
