"""What a head has to beat, on the same training cells and embeddings: logistic and ridge regression, class means.

Each takes the cells once, as they stand. The strength of the regularisation is chosen on the validation part, so
that a baseline is not beaten for being badly set.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy import linalg, sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from shest.core.files import atomic_write
from shest.systems.shest.training import BLOCK, Data, moments
from shest.systems.uncertainty import softmax

INVERSE_PENALTIES = (0.01, 0.1, 1.0)  # of logistic regression
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of ridge regression, times the number of training cells
MAX_LOG = 12.0  # log1p of counts that ridge may answer: beyond it expm1 would only carry extrapolation further


@dataclass
class Baselines:
    """Fitted baselines; ``d`` features, ``c`` classes, ``g`` genes.

    mean, std : (d,) moments of the training cells
    type_weight, type_bias : (d, c), (c,) of logistic regression on standardised embeddings
    ridge_weight, ridge_bias : (d, g), (g,) of ridge regression on log(1 + counts)
    class_mean : (c, g) mean counts of the training cells of each class
    """

    mean: np.ndarray
    std: np.ndarray
    type_weight: np.ndarray
    type_bias: np.ndarray
    ridge_weight: np.ndarray
    ridge_bias: np.ndarray
    class_mean: np.ndarray

    def standardise(self, embeddings: np.ndarray) -> np.ndarray:
        """Standardise embeddings (n, d) -> float32."""
        return (np.asarray(embeddings, np.float32) - self.mean) / self.std

    def types(self, embeddings: np.ndarray) -> np.ndarray:
        """Probabilities of logistic regression, (n, d) -> (n, c)."""
        return softmax(self.standardise(embeddings) @ self.type_weight + self.type_bias)

    def ridge(self, embeddings: np.ndarray) -> np.ndarray:
        """Counts of ridge regression, back from log(1 + counts), (n, d) -> (n, g) float32, none below 0."""
        logs = self.standardise(embeddings) @ self.ridge_weight + self.ridge_bias
        return np.expm1(np.clip(logs, 0, MAX_LOG))

    def class_means(self, embeddings: np.ndarray) -> np.ndarray:
        """Mean counts of the class that logistic regression calls, (n, d) -> (n, g) float32."""
        return self.class_mean[self.types(embeddings).argmax(axis=1)]


def fit(data: Data, seed: int = 42) -> Baselines:
    """Fit all baselines on the training cells.

    The standardised embeddings of the training cells are held in memory, (n, d) float32; counts stay sparse.
    """
    mean, std = moments(data.embeddings, data.train)

    def features(cells: np.ndarray) -> np.ndarray:
        x = np.empty((len(cells), data.embeddings.dim), np.float32)
        for start in range(0, len(cells), BLOCK):
            part = slice(start, start + BLOCK)
            x[part] = (data.embeddings.take(cells[part]).astype(np.float32) - mean) / std
        return x

    x, x_val = features(data.train), features(data.val)
    weight, bias = fit_logistic(x, data.label[data.train], x_val, data.label[data.val], data.classes, seed)
    ridge_weight, ridge_bias = fit_ridge(x, x_val, data)
    return Baselines(mean, std, weight, bias, ridge_weight, ridge_bias, fit_class_means(data))


def fit_logistic(
    x: np.ndarray, label: np.ndarray, x_val: np.ndarray, label_val: np.ndarray, classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression; the penalty with the best validation likelihood -> (d, c), (c,) float32.

    A class without training cells is never called; a single class always is.
    """
    weight = np.zeros((x.shape[1], classes), np.float32)
    bias = np.full(classes, -1e9, np.float32)
    present = np.unique(label)
    bias[present] = 0
    if len(present) == 1:
        return weight, bias
    best = np.inf
    for inverse in INVERSE_PENALTIES if len(x_val) else (0.1,):
        model = LogisticRegression(C=inverse, max_iter=300, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, label)
        slopes, offsets = model.coef_, model.intercept_
        if len(present) == 2:  # one row stands for the log-odds of the second class
            slopes, offsets = np.vstack([-slopes, slopes]) / 2, np.r_[-offsets, offsets] / 2
        trial_weight, trial_bias = weight.copy(), bias.copy()
        trial_weight[:, present], trial_bias[present] = slopes.T, offsets
        p = softmax(x_val @ trial_weight + trial_bias)[np.arange(len(x_val)), label_val]
        cost = -np.log(np.maximum(p, 1e-9)).mean() if len(x_val) else 0.0
        if cost < best:
            best, chosen = cost, (trial_weight, trial_bias)
    return chosen


def fit_ridge(x: np.ndarray, x_val: np.ndarray, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of log(1 + counts), each gene on the samples that measured it -> (d, g), (g,) float32.

    One penalty for all genes of a panel, the one with the smallest squared error on the validation part.
    """
    weight = np.zeros((x.shape[1], data.counts.shape[1]), np.float32)
    bias = np.zeros(data.counts.shape[1], np.float32)
    logs, logs_val = (
        data.counts[data.train].astype(np.float32).log1p(),
        data.counts[data.val].astype(np.float32).log1p(),
    )
    patterns, which = np.unique(data.measured, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        genes = np.flatnonzero(which.ravel() == number)
        rows, rows_val = (np.flatnonzero(pattern[data.sample[part]]) for part in (data.train, data.val))
        if len(rows):
            weight[:, genes], bias[genes] = _ridge(
                x[rows], logs[rows][:, genes], x_val[rows_val], logs_val[rows_val][:, genes]
            )
    return weight, bias


def _ridge(
    x: np.ndarray, y: sparse.csr_matrix, x_val: np.ndarray, y_val: sparse.csr_matrix
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge by one eigendecomposition for all penalties; the targets stay sparse but for blocks of validation cells."""
    centre, offset = x.mean(axis=0, dtype=np.float64), np.asarray(y.mean(axis=0), np.float64).ravel()
    gram = x.T @ x - len(x) * np.outer(centre, centre)
    cross = np.asarray(y.T @ x, np.float64).T - len(x) * np.outer(centre, offset)
    values, vectors = linalg.eigh(np.asarray(gram, np.float64))
    turned = vectors.T @ cross
    best = np.inf
    for penalty in PENALTIES if len(x_val) else (0.1,):
        slopes = vectors @ (turned / (np.maximum(values, 0) + penalty * len(x))[:, None])
        shift = offset - centre @ slopes
        cost = 0.0
        for start in range(0, len(x_val), 2048):
            part = slice(start, start + 2048)
            cost += float(((x_val[part] @ slopes + shift - y_val[part].toarray()) ** 2).sum())
        if cost < best:
            best, chosen = cost, (slopes.astype(np.float32), shift.astype(np.float32))
    return chosen


def fit_class_means(data: Data) -> np.ndarray:
    """Mean counts by class over the training cells of the samples that measured the gene, (c, g) float32."""
    label, sample = data.label[data.train], data.sample[data.train]
    member = sparse.csr_matrix((np.ones(len(label)), (label, np.arange(len(label)))), (data.classes, len(label)))
    by_sample = np.zeros((data.classes, len(data.measured)))
    np.add.at(by_sample, (label, sample), 1)
    cells = by_sample @ data.measured
    return np.asarray((member @ data.counts[data.train]).toarray() / np.maximum(cells, 1), np.float32)


def save(path: str | Path, baselines: Baselines) -> None:
    """Write baselines as safetensors."""
    with atomic_write(path) as tmp_path:
        save_file({name: np.ascontiguousarray(value) for name, value in vars(baselines).items()}, tmp_path)


def load(path: str | Path) -> Baselines:
    """Read baselines."""
    return Baselines(**load_file(path))
