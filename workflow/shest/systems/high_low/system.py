"""High or low, gene by gene: the label is the sign of the z-score within the unit's own sample.

As published: z-scores within each slide, high where z > 0, elastic-net logistic regression on frozen features, of the
same objective. Departures: features are standardised by the training units, all genes are fitted at once, and AUC is
taken of probabilities (the published code took it of hard calls, with its arguments swapped).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import expit

from shest.labels.training_set import TrainingSet, moments
from shest.systems.base import Prediction, System

LEARNT = ("mean", "std", "weight", "bias")
BLOCK = 16_384  # embeddings that are read at once
VALUES = 16_000_000  # labels that are held at once, of as many genes as fit
TOLERANCE = 1e-4  # largest change of a weight in a step at which a gene is done


def high(counts: Any, sample: np.ndarray) -> np.ndarray:
    """Return whether each count (n, genes) is above the mean of its gene in its sample, bool: z-scores above 0."""
    found = np.zeros(counts.shape, bool)
    for number in np.unique(sample):
        rows = np.flatnonzero(sample == number)
        own = np.asarray(counts[rows].toarray(), np.float64)
        found[rows] = own > own.mean(axis=0)
    return found


def elastic_net(
    x: np.ndarray, label: np.ndarray, measured: np.ndarray, strength: float, l1_ratio: float, steps: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Fit a logistic regression a gene with an elastic-net penalty, all genes at once.

    The objective is scikit-learn's: ``strength`` times the summed loss, plus ``l1_ratio`` of the absolute weights and
    half of the rest of the squared ones; the intercept is free. Steps are proximal and accelerated (Beck and Teboulle
    2009), with the momentum of a gene begun anew where it leads uphill (O'Donoghue and Candès 2015).

    Parameters
    ----------
    x
        (n, d) float32, standardised.
    label, measured
        (n, g) bool: whether the gene is high in the unit, and whether it was measured there.
    steps
        At most.

    Returns
    -------
    weight, bias : (d, g), (g,) float32
    unfinished : genes whose weights still moved
    """
    number = np.maximum(measured.sum(axis=0), 1)
    share = np.clip((label & measured).sum(axis=0) / number, 1e-6, 1 - 1e-6)
    bias = np.log(share / (1 - share))
    weight = np.zeros((x.shape[1], label.shape[1]), np.float32)
    open_ = np.flatnonzero((share > 1e-6) & (share < 1 - 1e-6))  # of others the intercept says all
    ones = np.hstack([x, np.ones((len(x), 1), np.float32)])
    steepest = 0.25 * np.linalg.eigvalsh(ones.T.astype(np.float64) @ ones)[-1]
    step = np.float32(1 / (steepest + (1 - l1_ratio) / strength))
    y, seen = label.astype(np.float32), measured.astype(np.float32)
    now = np.vstack([weight, bias[None].astype(np.float32)])
    ahead, pace = now.copy(), np.ones(label.shape[1], np.float32)
    for _ in range(steps):
        if not len(open_):
            break
        at = ahead[:, open_]
        slope = ones.T @ ((expit(ones @ at) - y[:, open_]) * seen[:, open_])
        slope[:-1] += np.float32((1 - l1_ratio) / strength) * at[:-1]
        new = at - step * slope
        new[:-1] = np.sign(new[:-1]) * np.maximum(np.abs(new[:-1]) - step * np.float32(l1_ratio / strength), 0)
        change = new - now[:, open_]
        uphill = ((at - new) * change).sum(axis=0) > 0
        faster = np.where(uphill, 1, (1 + np.sqrt(1 + 4 * pace[open_] ** 2)) / 2)
        momentum = np.where(uphill, 0, (pace[open_] - 1) / faster)
        now[:, open_], ahead[:, open_], pace[open_] = new, new + momentum * change, faster
        open_ = open_[np.abs(change).max(axis=0) > TOLERANCE]
    return now[:-1], now[-1], len(open_)


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
        counts, sample = data.counts[data.train].tocsc(), data.sample[data.train]
        genes = counts.shape[1]
        self.weight, self.bias = np.zeros((x.shape[1], genes), np.float32), np.zeros(genes, np.float32)
        self.unfinished, at_once = 0, max(VALUES // max(len(x), 1), 1)
        for start in range(0, genes, at_once):
            part = slice(start, start + at_once)
            label, measured = high(counts[:, part].tocsr(), sample), data.measured[sample, part]
            found = elastic_net(
                x, label, measured, self.settings["strength"], self.settings["l1_ratio"], self.settings["iterations"]
            )
            self.weight[:, part], self.bias[part] = found[:2]
            self.unfinished += found[2]
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
