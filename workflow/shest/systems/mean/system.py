"""The system that looks at nothing: what any use of the image has to beat."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shest.labels.training_set import TrainingSet
from shest.systems.base import Prediction, System


class Mean(System):
    """Every unit gets the training units' shares of types, and the mean counts of those that measured the gene."""

    def fit(self, data: TrainingSet, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        shares = np.bincount(data.label[data.train], minlength=len(data.classes)) / max(len(data.train), 1)
        self.log_share = np.log(np.maximum(shares[: len(data.classes)], 1e-9)).astype(np.float32)
        measured = np.bincount(data.sample[data.train], minlength=len(data.measured)) @ data.measured
        total = np.asarray(data.counts[data.train].sum(axis=0), np.float64).ravel()
        self.expected = (total / np.maximum(measured, 1)).astype(np.float32)
        advance(1)
        return []

    def predict(self, x: np.ndarray, expression: bool = True) -> Prediction:
        logits = np.tile(self.log_share, (1, len(x), 1)) if len(self.log_share) else None
        return Prediction(logits, np.tile(self.expected, (len(x), 1)) if expression else None)

    def tensors(self) -> dict[str, np.ndarray]:
        return {"log_share": self.log_share, "expected": self.expected}

    def restore(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        self.log_share, self.expected = tensors["log_share"], tensors["expected"]
