"""Embeddings and counts with known truth, for the tests of training and baselines."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from shest.labels.training_set import TrainingSet


class Array:
    """Embeddings in memory; every view but the identity is mirrored."""

    fingerprint = "abc"

    def __init__(self, values):
        self.values, self.dim = values.astype(np.float16), values.shape[1]
        self.asked = []

    def take(self, cells, views=0):
        """Return embeddings, and note which views were asked for."""
        views = np.broadcast_to(views, np.shape(cells))
        self.asked.append(views)
        return np.where(views[:, None] > 0, -self.values[cells], self.values[cells])


@dataclass
class Truth:
    """What the counts were drawn from: types' means (classes, g), every cell's expectation (n, g), test cells."""

    mu: np.ndarray
    expected: np.ndarray
    test: np.ndarray


def simulate(n=2_400, dim=16, genes=30, classes=4, signal=4.0, within=0.0, pi=0.3, seed=0, tests=1_500):
    """Simulate cells whose embeddings tell their type.

    Parameters
    ----------
    n : cells to train (7 of 8) and to validate
    signal : distance of the types in standard deviations; 0: embeddings tell nothing
    within : how strongly the first feature moves the even genes within a type (log scale)
    pi : zero inflation
    tests : further cells, to test
    """
    rng = np.random.default_rng(seed)
    n, learning = n + tests, n
    label = rng.integers(0, classes, n)
    centres = np.linalg.qr(rng.normal(size=(dim, classes)))[0].T * signal
    noise = rng.normal(size=(n, dim))
    mu = rng.gamma(1.5, 3.0, (classes, genes))
    rate = mu[label] * np.exp(within * noise[:, :1] * (np.arange(genes) % 2 == 0))
    theta = 5.0
    counts = rng.negative_binomial(theta, theta / (theta + rate)) * (rng.random((n, genes)) >= pi)
    scale = 10 ** rng.uniform(-2, 2, dim)  # features of different units
    embeddings = Array((centres[label] + noise + 3) * scale)
    order = rng.permutation(n)
    train, val, test = np.split(order, [learning * 7 // 8, learning])
    data = TrainingSet(
        embeddings,
        sparse.csr_matrix(counts.astype(np.float32)),
        np.ones((1, genes), bool),
        np.zeros(n, np.int64),
        label,
        np.sort(train),
        np.sort(val),
        [f"t{i}" for i in range(classes)],
        [f"g{i}" for i in range(genes)],
    )
    return data, Truth(mu * (1 - pi), rate * (1 - pi), np.sort(test))


def pearson(actual, predicted):
    """Pearson's R by gene, 0 for constant predictions."""
    a, b = actual - actual.mean(axis=0), predicted - predicted.mean(axis=0)
    norm = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    return (a * b).sum(axis=0) / np.where(norm > 0, norm, np.inf)
