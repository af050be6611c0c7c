"""Predictions of a sample: an h5ad file whose matrices are compressed and written block by block."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from shest.core.errors import InputError

ROWS = 4096
VARIANCES = ("aleatoric", "epistemic")
BY_GENE = ("expected", *VARIANCES)
"""Columns of ``var``: means over all units."""
CHUNK = (ROWS, 8)  # a block of units is written as whole chunks; few genes of all units are read quickly
SPARSE_CHUNK = 65_536
FILTERS = {"compression": "gzip", "compression_opts": 4, "shuffle": True}  # what every HDF5 library can read
DRAWN = "drawn"
"""Layer of counts that were drawn from the predicted distributions, CSR uint16."""


def mantissa_bits(units: int) -> int:
    """Bits of the mantissa that expectations keep: 10 of few units, 5 of 65,536 and more.

    Rounding adds noise that has nothing to do with what is measured: it moves a correlation over n units by about
    its size, relative to the spread of the expectations, over the root of n. So more units need fewer bits for the same
    score: none changes by more than 0.001.
    """
    return int(np.clip(np.ceil(13 - np.log2(max(units, 1)) / 2), 5, 10))


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Round float32 to the nearest that has ``bits`` bits of mantissa (relative error up to 2^-(bits + 1)).

    The other bits are 0, which is what makes the values compress; the range is that of float32. Infinity and NaN stay.
    """
    values = np.ascontiguousarray(values, np.float32)
    drop = np.uint32(23 - bits)
    pattern = values.view(np.uint32)
    nearest = ((pattern + (np.uint32(1) << drop - np.uint32(1))) >> drop) << drop
    return np.where(np.isfinite(values), nearest.view(np.float32), values)


def chosen(wanted: str | Sequence[str], genes: Sequence[str]) -> np.ndarray:
    """Return the places of the wanted genes (``all``, or names) among a model's, ascending; none where it has none.

    Raises
    ------
    InputError
        The model does not know one of them.
    """
    if wanted == "all" or not genes:
        return np.arange(len(genes))
    known = set(genes)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        near = [f"{name} ({close[0]}?)" if (close := get_close_matches(name, genes, 1)) else name for name in unknown]
        raise InputError(
            "predict.genes",
            f"not among the {len(genes):,} genes of the model: {', '.join(near)}",
            "Name genes that a training sample measured, or set genes to all",
        )
    return np.flatnonzero(np.isin(genes, list(wanted)))


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
    """Write the predictions of all units of a sample; expectations are :func:`rounded`.

    Parameters
    ----------
    path
        The file; give a path aside and rename it.
    blocks
        For consecutive units, where the system predicts them: ``probability`` (k, classes) and ``uncalibrated``, the
        same at temperature 1, ``entropy``, ``disagreement`` (k,); ``expected``, ``aleatoric``, ``epistemic``
        (k, genes); ``drawn`` (k, genes) uint16. What a system does not predict is missing: NaN in the file, no column
        of X, no layer.
    units
        One row a unit in the same order, indexed by its id: x, y (px), x_um, y_um, part, fold.
    classes, genes
        Names of the columns of ``probability`` and of ``expected``.
    uns
        Provenance, and the unit of X.
    """
    n = len(units)
    per_unit: list[dict[str, np.ndarray]] = []
    over_units, bits = RunningMeans(), mantissa_bits(n)
    with h5py.File(path, "w") as file:
        ad.io.write_elem(file, "layers", {})
        matrix, start = _matrix(file, (n, len(genes))), 0
        for block in blocks:
            stop = start + len(next(iter(block.values())))
            if genes:
                matrix[start:stop] = rounded(block["expected"], bits)
            if DRAWN in block:
                _append(file["layers"], DRAWN, sparse.csr_matrix(block[DRAWN]))
            variances = {name: block[name] for name in VARIANCES if name in block}
            by_gene = {name: block[name] for name in BY_GENE if name in block}
            if by_gene:
                over_units.add(**by_gene)
            means = {name: values.mean(axis=1) for name, values in variances.items()}
            per_unit.append({k: v for k, v in block.items() if k not in ("expected", DRAWN, *VARIANCES)} | means)
            start = stop
    gathered = {k: np.concatenate([part[k] for part in per_unit]) for k in per_unit[0]} if per_unit else {}
    probability = gathered.get("probability", np.empty((n, 0), np.float32))
    obs = pd.DataFrame(index=pd.Index(units.index.to_numpy(dtype=str), name=units.index.name or "cell_id"))
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
    for name in BY_GENE:
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
        for name in ("obsp", "varm", "varp"):
            ad.io.write_elem(file, name, {})


def _matrix(file: h5py.File, shape: tuple[int, int]) -> h5py.Dataset:
    """Make a compressed X as anndata lays it out."""
    chunks = tuple(min(chunk, side) for chunk, side in zip(CHUNK, shape, strict=True))
    matrix = file.create_dataset("X", shape, np.float32, **({"chunks": chunks} | FILTERS if all(shape) else {}))
    matrix.attrs["encoding-type"], matrix.attrs["encoding-version"] = "array", "0.2.0"
    return matrix


def _append(group: h5py.Group, name: str, rows: sparse.csr_matrix) -> None:
    """Add rows to a sparse matrix, or begin it with them."""
    if name in group:
        ad.io.sparse_dataset(group[name]).append(rows)
        return
    rows.indptr = rows.indptr.astype(np.int64)  # of all blocks together there may be more than 2^31 counts
    ad.io.write_elem(group, name, rows, dataset_kwargs={"chunks": (SPARSE_CHUNK,)} | FILTERS)
