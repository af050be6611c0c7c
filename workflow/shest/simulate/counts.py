"""Counts of known parameters: a zero-inflated negative binomial for each cell and gene, and what neighbours mix up."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from shest.simulate.profiles import ALL_SUBTYPES, Profiles

DEPTH = 1.0
"""Mean depth: levels of the marker table are counts of a cell of depth 1."""
NEIGHBOURS = 4
REACH_UM = 15.0
"""Transcripts go astray to at most this many cells, whose centres lie at most this near: cells that touch, where each
reaches 5 µm beyond its nucleus."""


@dataclass(frozen=True)
class Zinb:
    """Parameters (cells × genes): mean ``mu`` and dispersion ``theta`` of the negative binomial (variance
    mu + mu²/theta), share ``pi`` of structural zeros; expected counts are (1 - pi) · mu."""

    mu: np.ndarray
    theta: np.ndarray
    pi: np.ndarray

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw counts (cells × genes), int32: a Poisson of a gamma, and structural zeros."""
        rate = rng.gamma(self.theta, self.mu / self.theta)
        counts = rng.poisson(rate)
        return np.where(rng.random(counts.shape) < self.pi, 0, counts).astype(np.int32)

    def mean(self) -> np.ndarray:
        """Return the expected counts."""
        return (1 - self.pi) * self.mu

    def variance(self) -> np.ndarray:
        """Return the variance of the counts."""
        return (1 - self.pi) * (self.mu + self.mu**2 * (1 / self.theta + self.pi))


def parameters(
    cells: pd.DataFrame,
    profiles: Profiles,
    difficulty: float,
    link: float,
    rng: np.random.Generator,
    platform: float = 0.25,
) -> Zinb:
    """Return the parameters for cells with the columns subtype, z_size and z_stain.

    log mu = log level(subtype, gene) + log depth(cell) + platform effect(gene) + link · w(gene) · z(cell), where w is
    the gene's weight for size or stain; the last term is centred so that its mean factor is 1. Then a share of
    2-10 % (by difficulty) of the slide's mean profile is mixed in: ambient transcripts. With ``link`` = 0 nothing in
    mu depends on how the nucleus looks, once its type is known (the subtype then is drawn apart from the shape).
    """
    n, genes = len(cells), len(profiles.symbols)
    row = np.array([ALL_SUBTYPES.index(s) for s in cells.subtype])
    spread = 0.35 + 0.25 * difficulty
    depth = DEPTH * np.exp(rng.normal(0, spread, n) - spread**2 / 2)
    by_gene = np.exp(rng.normal(0, platform, genes) - platform**2 / 2)
    mu = profiles.levels[row] * depth[:, None] * by_gene
    for weight, z in ((profiles.size, cells.z_size), (profiles.stain, cells.z_stain)):
        slope = 0.75 * link * weight
        mu *= np.exp(np.outer(z.to_numpy(), slope) - slope**2 / 2)
    ambient = 0.02 + 0.08 * difficulty
    mu = (1 - ambient) * mu + ambient * depth[:, None] * mu.mean(axis=0) / depth.mean()
    theta = np.exp(rng.normal(np.log(4.0 - 2.5 * difficulty), 0.3, genes))
    pi = rng.beta(2, 14, genes)
    quality = rng.beta(12, 2, n)  # a badly permeabilised cell loses more
    return Zinb(
        mu.astype(np.float32),
        np.broadcast_to(theta, mu.shape).astype(np.float32),
        (1 - (1 - pi) * (0.8 + 0.2 * quality[:, None])).astype(np.float32),
    )


@dataclass(frozen=True)
class Spillover:
    """Which share of a cell's transcripts is assigned to which neighbour.

    ``target`` (cells, NEIGHBOURS) are rows of cells, the nearest first; ``share`` (cells, NEIGHBOURS) the probability
    that a transcript of the cell goes there, 0 where no neighbour is near.
    """

    target: np.ndarray
    share: np.ndarray

    def move(self, counts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, sparse.csr_matrix]:
        """Assign each transcript of ``counts`` (cells × genes) to its own cell or to a neighbour.

        Returns the counts as measured, int32, and how many transcripts (receiver × giver) went astray.
        """
        n, left = len(counts), counts.copy()
        measured = np.zeros_like(left)
        astray = sparse.csr_matrix((n, n), dtype=np.int64)
        stays = np.ones(n)
        for target, share in zip(self.target.T, self.share.T, strict=True):
            part = rng.binomial(left, (share / stays).clip(0, 1)[:, None]).astype(np.int32)
            left -= part
            stays = stays - share
            measured += sparse.csr_matrix((np.ones(n, np.int32), (target, np.arange(n))), (n, n)) @ part
            astray += sparse.csr_matrix((part.sum(axis=1, dtype=np.int64), (target, np.arange(n))), (n, n))
        return left + measured, astray

    def mean(self, expected: np.ndarray) -> np.ndarray:
        """Return the expected counts as measured, of the cells' own (cells × genes)."""
        n, (target, share) = len(expected), (self.target, self.share)
        giver = np.repeat(np.arange(n), target.shape[1])
        arriving = sparse.csr_matrix((share.ravel(), (target.ravel(), giver)), (n, n)) @ expected
        return (expected * (1 - share.sum(axis=1, keepdims=True)) + arriving).astype(np.float32)


def draw_spillover(places: np.ndarray, takes_part: np.ndarray, mean: float, rng: np.random.Generator) -> Spillover:
    """Draw which share of its transcripts each cell loses to its neighbours.

    Parameters
    ----------
    places : (n, 2) of the cells, µm
    takes_part : (n,) bool; the others neither give nor take
    mean : mean share over cells with neighbours; the shares are beta-distributed, since some cells lie well apart from
        their neighbours and others above or below them
    """
    n = len(places)
    target, share = np.tile(np.arange(n)[:, None], NEIGHBOURS), np.zeros((n, NEIGHBOURS))
    lost = rng.beta(1.0, 1 / mean - 1, n) if 0 < mean < 1 else np.full(n, float(mean))
    rows = np.flatnonzero(takes_part)
    if mean == 0 or len(rows) < 2:
        return Spillover(target, share)
    distance, near = cKDTree(places[rows]).query(
        places[rows], k=range(2, 2 + NEIGHBOURS), distance_upper_bound=REACH_UM
    )
    there = np.isfinite(distance)
    weight = np.where(there, 1 / distance.clip(1.0), 0)
    weight *= lost[rows, None] / weight.sum(axis=1, keepdims=True).clip(1e-9)
    target[rows] = np.where(there, rows[near.clip(max=len(rows) - 1)], rows[:, None])
    share[rows] = weight
    return Spillover(target, share)
