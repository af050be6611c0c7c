"""Counts of samples, and of several samples joined by gene name."""

from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

from shest.core.errors import InputError
from shest.io.store import TABLE

GENE_EXPRESSION = "Gene Expression"


def read_counts(store: str | Path) -> tuple[sparse.csr_matrix, list[str], np.ndarray]:
    """Read the counts of all cells of a sample's SpatialData store.

    Returns
    -------
    counts : (n, g) CSR float32, whole numbers; features of type Gene Expression only
    genes : g symbols
    cell_id : (n,) str

    Raises
    ------
    InputError
        A gene stands there twice: samples are joined by name.
    """
    table = ad.read_zarr(Path(store) / "tables" / TABLE)
    if "feature_types" in table.var:
        table = table[:, (table.var["feature_types"].astype(str) == GENE_EXPRESSION).to_numpy()]
    genes = table.var_names.astype(str)
    if not genes.is_unique:
        twice = ", ".join(sorted(set(genes[genes.duplicated()]))[:5])
        raise InputError(store, f"genes with the same name: {twice}", "Give each feature of the bundle its own name")
    return sparse.csr_matrix(table.X, dtype=np.float32), list(genes), table.obs["cell_id"].to_numpy(dtype=str)


def join(samples: Sequence[tuple[sparse.csr_matrix, list[str]]]) -> tuple[sparse.csr_matrix, list[str], np.ndarray]:
    """Put the counts of several samples below each other, genes matched by name.

    Parameters
    ----------
    samples : counts (n_i, g_i) and gene names of each

    Returns
    -------
    counts : (sum of n_i, g) CSR float32; a gene that a sample lacks has zeros there
    genes : union of the names, in the order of the first sample, then what the next ones add
    measured : (samples, g) bool
    """
    genes = list(dict.fromkeys(name for _, names in samples for name in names))
    column = {name: i for i, name in enumerate(genes)}
    measured = np.zeros((len(samples), len(genes)), dtype=bool)
    blocks = []
    for row, (counts, names) in enumerate(samples):
        to = np.array([column[name] for name in names], dtype=np.int64)
        measured[row, to] = True
        block = sparse.csr_matrix(counts, dtype=np.float32)
        moved = sparse.csr_matrix((block.data, to[block.indices], block.indptr), (block.shape[0], len(genes)))
        moved.sort_indices()
        blocks.append(moved)
    return sparse.csr_matrix(sparse.vstack(blocks)), genes, measured
