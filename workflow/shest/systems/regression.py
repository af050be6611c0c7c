"""Logistic regression of types and ridge regression of log counts; the penalty is chosen on validation units."""

import itertools
import warnings
from typing import Any

import numpy as np
from scipy import linalg, sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from shest.labels.training_set import TrainingSet
from shest.systems.uncertainty import softmax

INVERSE_PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # of logistic regression
SOLVER = {"max_iter": 300, "warm_start": True}  # each penalty goes on from the one before, which is stronger
WEIGHTS = {"logistic": None, "logistic, balanced": "balanced"}  # of its classes
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of ridge regression, times the number of training units
MAX_LOG = 12.0  # log1p of counts that ridge may answer: beyond it expm1 would only carry extrapolation further
EXPRESSION_UNIT = "counts per {unit}, exp(x) - 1 of what ridge regression expects of log(1 + counts)"


def counts_of(logs: np.ndarray) -> np.ndarray:
    """Return counts of what ridge regression says of log(1 + counts)."""
    return np.expm1(np.clip(logs, 0, MAX_LOG))


def history(part: str, strength: float, loss: float | None, best: bool) -> dict[str, Any]:
    """Return a row of ``training.csv``: what a strength of a penalty costs on the validation units."""
    return {"part": part, "member": 0, "step": strength, "val_loss": loss, "best": best}


def fit_logistic(
    x: np.ndarray, label: np.ndarray, x_val: np.ndarray, label_val: np.ndarray, classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Multinomial logistic regression; penalty, and whether classes weigh alike, chosen by F1 on validation units.

    A class without training units is never called; a single class always is.

    Returns
    -------
    weight, bias : (d, c), (c,) float32
    rows : of ``training.csv``; step: the inverse penalty
    """
    present = np.unique(label)
    if len(present) == 1:
        bias = np.where(np.arange(classes) == present[0], 0, -1e9)
        return np.zeros((x.shape[1], classes), np.float32), bias.astype(np.float32), []
    best, rows = -np.inf, []
    trials = itertools.product(WEIGHTS, INVERSE_PENALTIES) if len(x_val) else [("logistic", 0.1)]
    models = {name: LogisticRegression(**SOLVER, class_weight=w, random_state=seed) for name, w in WEIGHTS.items()}
    for name, inverse in trials:
        trial_weight, trial_bias = _logistic(x, label, classes, models[name].set_params(C=inverse))
        logits = x_val @ trial_weight + trial_bias
        score = selection_score(label_val, logits.argmax(axis=1), classes) if len(x_val) else 0.0
        p = softmax(logits)[np.arange(len(x_val)), label_val]
        loss = float(-np.log(np.maximum(p, 1e-9)).mean()) if len(x_val) else None
        rows.append(history(name, inverse, loss, score > best))
        if score > best:
            best, chosen = score, (trial_weight, trial_bias)
    return *chosen, rows


def _logistic(x: np.ndarray, label: np.ndarray, classes: int, model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Fit a logistic regression -> (d, c), (c,) float32; a class without training units has no weight."""
    weight, bias = np.zeros((x.shape[1], classes), np.float32), np.full(classes, -1e9, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, label)
    slopes, offsets = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # one row stands for the log-odds of the second class
        slopes, offsets = np.vstack([-slopes, slopes]) / 2, np.r_[-offsets, offsets] / 2
    weight[:, model.classes_], bias[model.classes_] = slopes.T, offsets
    return weight, bias


def selection_score(label: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Return what a setting is chosen by: the mean of weighted and macro F1 over the classes that are there."""
    hits = np.bincount(label[label == predicted], minlength=classes)
    support, called = np.bincount(label, minlength=classes), np.bincount(predicted, minlength=classes)
    f1 = 2 * hits / np.maximum(support + called, 1)
    return float((f1 @ support / support.sum() + f1[support > 0].mean()) / 2)


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
