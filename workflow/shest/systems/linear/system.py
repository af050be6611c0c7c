"""Logistic regression of types, ridge regression of log counts; the penalty of each is chosen on validation units.

Each takes the units once, as they stand, so that it is not beaten for being badly set.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from shest.labels.training_set import TrainingSet, moments
from shest.systems.base import Prediction, System
from shest.systems.regression import EXPRESSION_UNIT, counts_of, fit_logistic, fit_ridge

BLOCK = 16_384  # embeddings that are read at once
LEARNT = ("mean", "std", "type_weight", "type_bias", "ridge_weight", "ridge_bias")


class Linear(System):
    """Logistic and ridge regression; ``d`` features, ``c`` classes, ``g`` genes.

    Attributes
    ----------
    mean, std
        (d,) moments of the training units.
    type_weight, type_bias
        (d, c), (c,) of logistic regression on standardised embeddings; c is 0 of units without types.
    ridge_weight, ridge_bias
        (d, g), (g,) of ridge regression on log(1 + counts).
    """

    expression_unit = EXPRESSION_UNIT

    def steps(self) -> int:
        return 2

    def fit(self, data: TrainingSet, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """Fit both; the standardised embeddings of the training units are held in memory, (n, d) float32."""
        self.mean, self.std = moments(data.source, data.train)
        x, x_val = (self._features(data, units) for units in (data.train, data.val))
        label, label_val = data.label[data.train], data.label[data.val]
        classes, seed = len(data.classes), self.settings.get("seed", 42)
        self.type_weight, self.type_bias, rows = np.zeros((x.shape[1], 0), np.float32), np.zeros(0, np.float32), []
        if classes:
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
        logits = (standard @ self.type_weight + self.type_bias)[None] if len(self.type_bias) else None
        if not expression:
            return Prediction(logits)
        logs = standard @ self.ridge_weight + self.ridge_bias
        return Prediction(logits, counts_of(logs))

    def tensors(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in LEARNT}

    def restore(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        for name in LEARNT:
            setattr(self, name, tensors[name])


def classify(source: Any, table: pd.DataFrame, wanted: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Fit logistic regression and return the class of further units: what a trial of training cells needs.

    Parameters
    ----------
    source
        Embeddings: the units of ``table`` come first, in its order.
    table
        part (train, val), label.
    wanted
        (k,) int, positions of the units to classify.
    classes, seed
        Number of classes; of the fit.
    """
    part, label = table["part"].to_numpy(), table["label"].to_numpy()
    train, val = np.flatnonzero(part == "train"), np.flatnonzero(part == "val")
    mean, std = moments(source, train)
    x, x_val, x_wanted = ((source.take(units).astype(np.float32) - mean) / std for units in (train, val, wanted))
    weight, bias, _ = fit_logistic(x, label[train], x_val, label[val], classes, seed)
    return (x_wanted @ weight + bias).argmax(axis=1)
