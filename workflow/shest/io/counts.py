"""Counts of samples, and of several samples joined by gene."""

from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

from shest.core.errors import InputError
from shest.io import genes as panels
from shest.io.store import TABLE

GENE_EXPRESSION = "Gene Expression"


def read_counts(
    store: str | Path, known: panels.Genes | None = None
) -> tuple[sparse.csr_matrix, panels.Genes, np.ndarray]:
    """Read the counts of all cells of a sample's SpatialData store.

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
    if "feature_types" in table.var:
        table = table[:, (table.var["feature_types"].astype(str) == GENE_EXPRESSION).to_numpy()]
    names = table.var_names.astype(str)
    if not names.is_unique:
        twice = ", ".join(sorted(set(names[names.duplicated()]))[:5])
        raise InputError(store, f"genes with the same name: {twice}", "Give each feature of the bundle its own name")
    genes = panels.of_var(table.var, names)
    if known is not None:
        genes = panels.Genes(panels.named_as(genes, known), genes.ids)
    return sparse.csr_matrix(table.X, dtype=np.float32), genes, table.obs["cell_id"].to_numpy(dtype=str)


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
