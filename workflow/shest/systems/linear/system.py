"""Logistic regression of types, ridge regression of log counts; the penalty of each is chosen on validation units.

Each takes the units once, as they stand, so that it is not beaten for being badly set.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import linalg, sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from shest.labels.training_set import TrainingSet, moments
from shest.systems.base import Prediction, System
from shest.systems.uncertainty import softmax

BLOCK = 16_384  # embeddings that are read at once
INVERSE_PENALTIES = (0.01, 0.1, 1.0)  # of logistic regression
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of ridge regression, times the number of training units
MAX_LOG = 12.0  # log1p of counts that ridge may answer: beyond it expm1 would only carry extrapolation further
LEARNT = ("mean", "std", "type_weight", "type_bias", "ridge_weight", "ridge_bias")


class Linear(System):
    """Logistic and ridge regression; ``d`` features, ``c`` classes, ``g`` genes.

    Attributes
    ----------
    mean, std
        (d,) moments of the training units.
    type_weight, type_bias
        (d, c), (c,) of logistic regression on standardised embeddings.
    ridge_weight, ridge_bias
        (d, g), (g,) of ridge regression on log(1 + counts).
    """

    expression_unit = "counts per cell, exp(x) - 1 of what ridge regression expects of log(1 + counts)"

    def steps(self) -> int:
        return 2

    def fit(self, data: TrainingSet, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """Fit both; the standardised embeddings of the training units are held in memory, (n, d) float32."""
        self.mean, self.std = moments(data.source, data.train)
        x, x_val = (self._features(data, units) for units in (data.train, data.val))
        label, label_val = data.label[data.train], data.label[data.val]
        classes, seed = len(data.classes), self.settings.get("seed", 42)
        self.type_weight, self.type_bias, rows = fit_logistic(x, label, x_val, label_val, classes, seed)
        advance(1)
        self.ridge_weight, self.ridge_bias, more = fit_ridge(x, x_val, data)
        advance(1)
        return rows + more

    def _features(self, data: TrainingSet, units: np.ndarray) -> np.ndarray:
        x = np.empty((len(units), data.source.dim), np.float32)
        for start in range(0, len(units), BLOCK):
            part = slice(start, start + BLOCK)
            x[part] = self._standardise(data.source.take(units[part]))
        return x

    def _standardise(self, embeddings: np.ndarray) -> np.ndarray:
        return (np.asarray(embeddings, np.float32) - self.mean) / self.std

    def predict(self, x: np.ndarray, expression: bool = True) -> Prediction:
        standard = self._standardise(x)
        logits = (standard @ self.type_weight + self.type_bias)[None]
        if not expression:
            return Prediction(logits)
        logs = standard @ self.ridge_weight + self.ridge_bias
        return Prediction(logits, np.expm1(np.clip(logs, 0, MAX_LOG)))

    def tensors(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in LEARNT}

    def restore(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        for name in LEARNT:
            setattr(self, name, tensors[name])


def history(part: str, strength: float, loss: float | None, best: bool) -> dict[str, Any]:
    """Return a row of ``training.csv``: what a strength of a penalty costs on the validation units."""
    return {"part": part, "member": 0, "step": strength, "val_loss": loss, "best": best}


def fit_logistic(
    x: np.ndarray, label: np.ndarray, x_val: np.ndarray, label_val: np.ndarray, classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Multinomial logistic regression; the penalty with the best validation likelihood.

    A class without training units is never called; a single class always is.

    Returns
    -------
    weight, bias : (d, c), (c,) float32
    rows : of ``training.csv``; step: the inverse penalty
    """
    weight = np.zeros((x.shape[1], classes), np.float32)
    bias = np.full(classes, -1e9, np.float32)
    present = np.unique(label)
    bias[present] = 0
    if len(present) == 1:
        return weight, bias, []
    best, rows = np.inf, []
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
        rows.append(history("logistic", inverse, float(cost) if len(x_val) else None, cost < best))
        if cost < best:
            best, chosen = cost, (trial_weight, trial_bias)
    return *chosen, rows


def fit_ridge(
    x: np.ndarray, x_val: np.ndarray, data: TrainingSet
) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Ridge regression of log(1 + counts), each gene on the samples that measured it.

    One penalty for all genes of a panel, the one with the smallest squared error on the validation units.

    Returns
    -------
    weight, bias : (d, g), (g,) float32
    rows : of ``training.csv``; step: the penalty
    """
    weight = np.zeros((x.shape[1], data.counts.shape[1]), np.float32)
    bias = np.zeros(data.counts.shape[1], np.float32)
    logs, logs_val = (data.counts[part].astype(np.float32).log1p() for part in (data.train, data.val))
    patterns, which = np.unique(data.measured, axis=1, return_inverse=True)
    history_rows: list[dict[str, Any]] = []
    for number, pattern in enumerate(patterns.T):
        genes = np.flatnonzero(which.ravel() == number)
        rows, rows_val = (np.flatnonzero(pattern[data.sample[part]]) for part in (data.train, data.val))
        if len(rows):
            weight[:, genes], bias[genes], more = _ridge(
                x[rows], logs[rows][:, genes], x_val[rows_val], logs_val[rows_val][:, genes]
            )
            history_rows += more
    return weight, bias, history_rows


def _ridge(
    x: np.ndarray, y: sparse.csr_matrix, x_val: np.ndarray, y_val: sparse.csr_matrix
) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Ridge by one eigendecomposition for all penalties; the targets stay sparse but for blocks of validation units."""
    centre, offset = x.mean(axis=0, dtype=np.float64), np.asarray(y.mean(axis=0), np.float64).ravel()
    gram = x.T @ x - len(x) * np.outer(centre, centre)
    cross = np.asarray(y.T @ x, np.float64).T - len(x) * np.outer(centre, offset)
    values, vectors = linalg.eigh(np.asarray(gram, np.float64))
    rotated = vectors.T @ cross
    best, rows = np.inf, []
    for penalty in PENALTIES if len(x_val) else (0.1,):
        slopes = vectors @ (rotated / (np.maximum(values, 0) + penalty * len(x))[:, None])
        shift = offset - centre @ slopes
        cost = 0.0
        for start in range(0, len(x_val), 2048):
            part = slice(start, start + 2048)
            cost += float(((x_val[part] @ slopes + shift - y_val[part].toarray()) ** 2).sum())
        rows.append(history("ridge", penalty, cost / max(y_val.shape[0] * y_val.shape[1], 1) or None, cost < best))
        if cost < best:
            best, chosen = cost, (slopes.astype(np.float32), shift.astype(np.float32))
    return *chosen, rows
