"""Types cell by cell from sets of marker genes: AUCell, UCell and a mean score, to compare other labels with."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import pandas as pd
from scipy import sparse, stats

from shest.labels.vote import UNKNOWN

BLOCK = 5_000  # cells at a time, their genes ranked
TOP_SHARE = 0.05
"""Share of the genes, best first, that AUCell looks at (its default)."""
MAX_RANK = 1_500
"""Rank beyond which UCell takes genes for equal (its default)."""


def gene_sets(votes: pd.DataFrame, panel: Collection[str]) -> dict[str, np.ndarray]:
    """Return the columns of the panel's genes that speak most for one category, by category; Unknown has none.

    Parameters
    ----------
    votes : genes × categories (:func:`shest.labels.vote.gene_votes`)
    panel : names of the columns
    """
    column = {gene.upper(): number for number, gene in enumerate(panel)}
    known = votes[votes.index.isin(column)]
    best = known.max(axis=1)
    alone = known.eq(best, axis=0).sum(axis=1) == 1
    winner = known[alone & (best > 0)].idxmax(axis=1)
    sets = {str(name): [column[gene] for gene in genes] for name, genes in winner.groupby(winner).groups.items()}
    return {name: np.array(sorted(columns)) for name, columns in sets.items() if name != UNKNOWN}


def aucell(counts: sparse.csr_matrix, sets: Mapping[str, np.ndarray], top_share: float = TOP_SHARE) -> pd.DataFrame:
    """Return the area under each set's recovery curve (cells × sets), 1 where a set stands first (Aibar 2017).

    Genes are ranked by their counts, equal ones share their mean rank; only the first ``top_share`` are looked at, and
    genes without counts never recovered.
    """
    limit = max(int(np.ceil(top_share * counts.shape[1])), 1)

    def area(ranks: np.ndarray, columns: np.ndarray) -> np.ndarray:
        best = np.clip(limit - np.arange(1, len(columns) + 1) + 1, 0, None).sum()
        return np.clip(limit - ranks[:, columns] + 1, 0, None).sum(axis=1) / best

    return _by_ranks(counts, sets, area)


def ucell(counts: sparse.csr_matrix, sets: Mapping[str, np.ndarray], max_rank: int = MAX_RANK) -> pd.DataFrame:
    """Return 1 - U / U_max of each set (cells × sets), U the Mann-Whitney statistic of its ranks (Andreatta 2021)."""
    limit = min(max_rank, counts.shape[1])

    def score(ranks: np.ndarray, columns: np.ndarray) -> np.ndarray:
        n = len(columns)
        capped = np.minimum(ranks[:, columns], limit + 1)
        least = n * (n + 1) / 2
        return np.clip(1 - (capped.sum(axis=1) - least) / (n * limit - least), 0, None)

    return _by_ranks(counts, sets, score, zeros_last=False)


def top_down(counts: sparse.csr_matrix, sets: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return each set's mean of log(1 + counts per median library) less that of all genes (cells × sets)."""
    totals = np.asarray(counts.sum(axis=1), dtype=float).ravel()
    scale = sparse.diags(np.median(totals[totals > 0]) / np.maximum(totals, 1))
    logs = sparse.csr_matrix(scale @ counts).log1p()
    every = np.asarray(logs.mean(axis=1)).ravel()
    return pd.DataFrame({name: np.asarray(logs[:, c].mean(axis=1)).ravel() - every for name, c in sets.items()})


def best_category(scores: pd.DataFrame) -> np.ndarray:
    """Return each cell's category of the highest score; Unknown where two share it, or none is above 0."""
    if scores.empty:
        return np.full(len(scores), UNKNOWN, dtype=object)
    values = scores.to_numpy(float)
    best = values.max(axis=1)
    clear = (best > 0) & ((values == best[:, None]).sum(axis=1) == 1)
    return np.where(clear, scores.columns.to_numpy(object)[values.argmax(axis=1)], UNKNOWN)


def _by_ranks(counts, sets, score, zeros_last: bool = True) -> pd.DataFrame:
    """Score sets by the ranks of a cell's genes, best first; ``zeros_last``: a gene without counts has no rank."""
    found = {name: [] for name in sets}
    for block in _blocks(counts):
        ranks = stats.rankdata(-block, axis=1)
        ranks = np.where(block > 0, ranks, np.inf) if zeros_last else ranks
        for name, columns in sets.items():
            found[name].append(score(ranks, columns))
    return pd.DataFrame({name: np.concatenate(parts) for name, parts in found.items()})


def _blocks(counts: sparse.csr_matrix) -> Iterator[np.ndarray]:
    for start in range(0, counts.shape[0], BLOCK):
        yield counts[start : start + BLOCK].toarray()


SCORES = {"aucell": aucell, "ucell": ucell, "top_down": top_down}
