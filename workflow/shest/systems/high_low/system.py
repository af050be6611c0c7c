"""High or low, gene by gene: the label is the sign of the z-score within the unit's own sample.

As published: z-scores within each slide, high where z > 0, elastic-net logistic regression (saga) on frozen features.
Departures: features are standardised by the training units, and AUC is taken of probabilities (the published code took
it of hard calls, with its arguments swapped).
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from shest.labels.training_set import TrainingSet, moments
from shest.systems.base import Prediction, System

LEARNT = ("mean", "std", "weight", "bias")
BLOCK = 16_384  # embeddings that are read at once


def high(counts: Any, sample: np.ndarray) -> np.ndarray:
    """Return whether each count (n, genes) is above the mean of its gene in its sample, bool: z-scores above 0."""
    found = np.zeros(counts.shape, bool)
    for number in np.unique(sample):
        rows = np.flatnonzero(sample == number)
        own = np.asarray(counts[rows].toarray(), np.float64)
        found[rows] = own > own.mean(axis=0)
    return found


class HighLow(System):
    """A logistic regression a gene; ``d`` features, ``g`` genes.

    Attributes
    ----------
    mean, std
        (d,) moments of the training units.
    weight, bias
        (d, g), (g,); of a gene that is nowhere high, or everywhere, the bias alone is not 0.
    """

    expression_unit = "probability of a count above the gene's mean in the sample"

    def steps(self) -> int:
        return 1

    def fit(self, data: TrainingSet, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """Fit one regression a gene, on the samples that measured it."""
        self.mean, self.std = moments(data.source, data.train)
        parts = [data.train[start : start + BLOCK] for start in range(0, len(data.train), BLOCK)]
        x = np.concatenate([self._standard(data.source.take(part)) for part in parts])
        label, sample = high(data.counts[data.train], data.sample[data.train]), data.sample[data.train]
        genes = label.shape[1]
        self.weight, self.bias = np.zeros((x.shape[1], genes), np.float32), np.zeros(genes, np.float32)
        unfinished = 0
        for gene in range(genes):
            rows = data.measured[sample, gene]
            y = label[rows, gene]
            share = np.clip(y.mean() if len(y) else 0.5, 1e-6, 1 - 1e-6)
            self.bias[gene] = np.log(share / (1 - share))
            if len(y) and y.any() and not y.all():
                model = LogisticRegression(
                    penalty="elasticnet",
                    solver="saga",
                    C=self.settings["strength"],
                    l1_ratio=self.settings["l1_ratio"],
                    max_iter=self.settings["iterations"],
                    tol=1e-3,
                    random_state=self.settings["seed"],
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)  # counted instead, once for all genes
                    model.fit(x[rows], y)
                unfinished += int(model.n_iter_[0] >= self.settings["iterations"])
                self.weight[:, gene], self.bias[gene] = model.coef_[0], model.intercept_[0]
        self.unfinished = unfinished
        advance(1)
        return []

    def _standard(self, embeddings: np.ndarray) -> np.ndarray:
        return (np.asarray(embeddings, np.float32) - self.mean) / self.std

    def predict(self, x: np.ndarray, expression: bool = True) -> Prediction:
        """Return the probability of each gene to be high as what is expected; it knows no types."""
        if not expression:
            return Prediction()
        return Prediction(None, expit(self._standard(x) @ self.weight + self.bias).astype(np.float32))

    def tensors(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in LEARNT}

    def restore(self, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
        for name in LEARNT:
            setattr(self, name, tensors[name])
        self.unfinished = info.get("genes_unfinished", 0)

    def describe(self) -> dict[str, Any]:
        return {"genes_unfinished": self.unfinished, "parameters": self.weight.size + self.bias.size}
