"""Counts of samples, and of several samples joined by gene."""

from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import zarr
from scipy import sparse

from shest.core.errors import InputError
from shest.io import genes as panels
from shest.io.store import TABLE

GENE_EXPRESSION = "Gene Expression"
ROWS = 65_536


def read_counts(
    store: str | Path, known: panels.Genes | None = None
) -> tuple[sparse.csr_matrix, panels.Genes, np.ndarray]:
    """Read the counts of all cells, or spots, of a SpatialData store.

    ``known``: a model's genes; those of the sample that are among them are named as there.

    Returns
    -------
    counts : (n, g) CSR float32, whole numbers; features of type Gene Expression only
    genes : g genes
    cell_id : (n,) str

    Raises
    ------
    InputError
        A symbol stands there twice: it names a column.
    """
    table = ad.read_zarr(Path(store) / "tables" / TABLE)
    columns, genes = _panel(store, table.var, known)
    table = table if len(columns) == table.n_vars else table[:, columns]
    return sparse.csr_matrix(table.X, dtype=np.float32), genes, _ids(table.obs)


def read_counts_of(
    store: str | Path, wanted: Sequence[str], known: panels.Genes | None = None
) -> tuple[sparse.csc_matrix, list[str], np.ndarray]:
    """Read the counts of some genes, cells in blocks: memory grows with what is wanted, not with the panel.

    ``wanted``: names, of which the panel may lack some; ``known`` as in :func:`read_counts`.

    Returns
    -------
    counts : (n, g) CSC float32
    genes : the g names among ``wanted`` that the panel has, in their order
    cell_id : (n,) str
    """
    group = zarr.open_group(Path(store) / "tables" / TABLE, mode="r")
    columns, genes = _panel(store, ad.io.read_elem(group["var"]), known)
    place = {name: column for name, column in zip(genes.symbols, columns, strict=True)}
    names = [name for name in wanted if name in place]
    chosen, matrix = [place[name] for name in names], ad.io.sparse_dataset(group["X"])
    cell_id = _ids(ad.io.read_elem(group["obs"]))
    starts = range(0, max(len(cell_id), 1), ROWS)
    blocks = [sparse.csr_matrix(matrix[row : row + ROWS], dtype=np.float32)[:, chosen] for row in starts]
    return sparse.csc_matrix(sparse.vstack(blocks)), names, cell_id


def _ids(obs: pd.DataFrame) -> np.ndarray:
    return obs["spot_id" if "spot_id" in obs else "cell_id"].to_numpy(dtype=str)


def _panel(store: str | Path, var: pd.DataFrame, known: panels.Genes | None) -> tuple[np.ndarray, panels.Genes]:
    """Return the columns that are genes, and the genes."""
    columns = np.arange(len(var))
    if "feature_types" in var:
        columns = np.flatnonzero(var["feature_types"].astype(str) == GENE_EXPRESSION)
    var = var.iloc[columns]
    names = var.index.astype(str)
    if not names.is_unique:
        twice = ", ".join(sorted(set(names[names.duplicated()]))[:5])
        raise InputError(store, f"genes with the same name: {twice}", "Give each feature of the bundle its own name")
    genes = panels.of_var(var, names)
    if known is not None:
        genes = panels.Genes(panels.named_as(genes, known), genes.ids)
    return columns, genes


def join(
    samples: Sequence[tuple[sparse.csr_matrix, panels.Genes]],
) -> tuple[sparse.csr_matrix, panels.Genes, np.ndarray]:
    """Put the counts of several samples below each other, genes joined as :mod:`shest.io.genes` says.

    Parameters
    ----------
    samples : counts (n_i, g_i) and genes of each

    Returns
    -------
    counts : (sum of n_i, g) CSR float32; a gene that a sample lacks has zeros there
    genes : of all samples, in the order of the first, then what the next ones add
    measured : (samples, g) bool
    """
    genes, named = panels.union([panel for _, panel in samples])
    column = {name: i for i, name in enumerate(genes.symbols)}
    measured = np.zeros((len(samples), len(genes)), dtype=bool)
    blocks = []
    for row, ((counts, _), names) in enumerate(zip(samples, named, strict=True)):
        to = np.array([column[name] for name in names], dtype=np.int64)
        measured[row, to] = True
        block = sparse.csr_matrix(counts, dtype=np.float32)
        moved = sparse.csr_matrix((block.data, to[block.indices], block.indptr), (block.shape[0], len(genes)))
        moved.sort_indices()
        blocks.append(moved)
    return sparse.csr_matrix(sparse.vstack(blocks)), genes, measured
