"""Counts of known parameters: a zero-inflated negative binomial for each cell and gene."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from shest.simulate.profiles import ALL_SUBTYPES, Profiles

DEPTH = 1.0
"""Mean depth: levels of the marker table are counts of a cell of depth 1."""


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
