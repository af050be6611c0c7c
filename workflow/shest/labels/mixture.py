"""The sample's own composition: a mixture of the reference's multinomial profiles, fitted by EM over its weights.

The profiles are fixed, so that the only thing learnt of the sample is how much of each subtype it has. A cell's counts
are a multinomial draw of its subtype's profile; the number of its transcripts is taken as given.
"""

from collections.abc import Iterator

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

KEY = "subtype"
LEAST = 1e-6
"""Least share of a gene in a profile, and of a subtype in a prior: neither may be 0."""
BLOCK = 50_000  # cells at a time in double precision


def profiles(reference: ad.AnnData) -> pd.DataFrame:
    """Return each subtype's profile (subtypes × genes): the mean of its cells' counts, each divided by its total.

    A cell with the reference's mean profile is added to each, so that a subtype of few cells does not rule out the
    genes that these happen to lack.
    """
    total = np.asarray(reference.X.sum(axis=1), dtype=float).ravel()
    labels = reference.obs[KEY].cat
    kept = np.flatnonzero(total)
    member = sparse.csr_matrix(
        (1 / total[kept], (labels.codes.to_numpy()[kept], kept)), (len(labels.categories), len(total))
    )
    sums, cells = (member @ reference.X).toarray(), (member > 0).sum(axis=1).A1
    mean = sums.sum(axis=0) / cells.sum()
    values = (sums + mean) / (cells[:, None] + 1) + LEAST
    return pd.DataFrame(values / values.sum(axis=1, keepdims=True), labels.categories, reference.var_names)


def likelihoods(counts: sparse.csr_matrix, profile: np.ndarray) -> np.ndarray:
    """Return how likely each cell's counts are under each profile (cells, subtypes), float32; the likeliest has 1."""
    log = np.log(profile).T
    found = np.empty((counts.shape[0], profile.shape[0]), np.float32)
    for rows in _blocks(len(found)):
        block = counts[rows] @ log
        found[rows] = np.exp(block - block.max(axis=1, keepdims=True))
    return found


def estimate_weights(likelihood: np.ndarray, tolerance: float = 1e-6, most: int = 1000) -> np.ndarray:
    """Return the mixture's weights (subtypes,) by EM, from equal ones until none changes by more than ``tolerance``.

    A step sets each weight to the mean over cells of its responsibility, ``w_k L_ck / sum_j w_j L_cj``.
    """
    weights = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(most):
        step = sum(responsibilities(likelihood[rows], weights).sum(axis=0) for rows in _blocks(len(likelihood)))
        old, weights = weights, step / len(likelihood)
        if np.abs(weights - old).max() <= tolerance:
            break
    return weights


def responsibilities(likelihood: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the share of each subtype in each cell, (cells, subtypes), rows summing to 1."""
    joint = likelihood * weights
    return joint / joint.sum(axis=1, keepdims=True)


def fit(counts: ad.AnnData, reference: ad.AnnData) -> pd.DataFrame:
    """Return each cell's responsibilities (cells × subtypes) in the mixture that fits the sample best.

    Parameters
    ----------
    counts, reference
        Whole-number counts of the same genes; every cell of ``counts`` has some.
    """
    profile = profiles(reference)
    found = likelihoods(sparse.csr_matrix(counts.X), profile.to_numpy())
    weights = estimate_weights(found)
    for rows in _blocks(len(found)):
        found[rows] = responsibilities(found[rows], weights)
    return pd.DataFrame(found, counts.obs_names, profile.index)


def composition(shares: pd.DataFrame, transcripts: pd.Series) -> pd.Series:
    """Return each subtype's share of the sample's transcripts (by cell); none is 0.

    TACCO distributes transcripts, not cells, over subtypes: what it takes for a prior is their share of transcripts.
    """
    sums = pd.Series(transcripts.to_numpy() @ shares.to_numpy(), shares.columns)
    found = (sums / sums.sum()).clip(lower=LEAST)
    return found / found.sum()


def _blocks(cells: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, cells, BLOCK))
