"""Marker genes: which genes mark which type, and how strongly each type shows them."""

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

NORMALISED = 10_000  # counts of a cell before the logarithm


def scores(counts: sparse.spmatrix, cell_type: np.ndarray, genes: list[str]) -> pd.DataFrame:
    """Score each gene as a marker of each type: Welch's t of the type's cells against all others (scanpy).

    Parameters
    ----------
    counts
        (n, g), of cells.
    cell_type
        (n,) str.
    genes
        g names.

    Returns
    -------
    DataFrame
        gene, and a column of scores for each type with at least two cells, where there are two such types and a gene.
    """
    import scanpy as sc  # seconds, which those who only read scores need not wait

    names, sizes = np.unique(cell_type, return_counts=True)
    names = [str(n) for n in names[sizes > 1]]
    table = pd.DataFrame({"gene": genes})
    if len(names) < 2 or not genes:
        return table
    rows = np.isin(cell_type, names)
    cells = ad.AnnData(
        sparse.csr_matrix(counts[rows], dtype=np.float32),
        obs=pd.DataFrame({"type": pd.Categorical(cell_type[rows], names)}, index=np.arange(rows.sum()).astype(str)),
        var=pd.DataFrame(index=genes),
    )
    sc.pp.normalize_total(cells, target_sum=NORMALISED)
    sc.pp.log1p(cells)
    sc.tl.rank_genes_groups(cells, "type", method="t-test", n_genes=len(genes))
    ranked = cells.uns["rank_genes_groups"]
    for name in names:
        by_gene = pd.Series(ranked["scores"][name], index=ranked["names"][name].astype(str))
        table[name] = by_gene.reindex(genes).fillna(0).to_numpy(float)
    return table


def top(table: pd.DataFrame, types: list[str], number: int) -> dict[str, list[str]]:
    """Choose the best markers of each type, best first; a gene marks the type that it scores highest for.

    Parameters
    ----------
    table
        Of :func:`scores`.
    types
        In the order wanted; those without scores have no markers.
    number
        Of genes a type, at most.
    """
    scored = [t for t in types if t in table.columns]
    if not scored or table.empty:
        return {}
    values = table.set_index("gene")[scored]
    best = values.idxmax(axis=1)
    own = {t: values.loc[(best == t) & (values[t] > 0), t] for t in scored}
    ranked = {t: column.sort_values(ascending=False, kind="stable").index[:number] for t, column in own.items()}
    return {t: list(genes) for t, genes in ranked.items() if len(genes)}


def marked(groups: dict[str, list[str]]) -> dict[str, str]:
    """Turn the markers of each type around: the type that each gene marks."""
    return {gene: name for name, members in groups.items() for gene in members}


def by_type(
    values: np.ndarray, seen: np.ndarray | None, cell_type: np.ndarray, genes: list[str], types: list[str]
) -> pd.DataFrame:
    """Summarise expression by type.

    Parameters
    ----------
    values
        (n, g) counts, or expected counts.
    seen
        (n, g) bool, a count of at least one: measured, or drawn from the predicted distribution. An expectation does
        not tell it; None where there is no distribution.
    cell_type
        (n,) str.
    genes, types
        Names of the columns; types in the order of the rows.

    Returns
    -------
    DataFrame
        cell_type, gene, mean (of log(1 + values)), share (of cells that are ``seen``; NaN where nobody knows).
    """
    parts = []
    for name in types:
        own = cell_type == name
        if own.any():
            mean = np.log1p(values[own]).mean(axis=0)
            share = np.full(len(genes), np.nan) if seen is None else seen[own].mean(axis=0)
            parts.append(pd.DataFrame({"cell_type": name, "gene": genes, "mean": mean, "share": share}))
    columns = ["cell_type", "gene", "mean", "share"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
