"""How sure a prediction is: entropy, disagreement, calibration, and the two kinds of variance. NumPy only."""

import numpy as np
from scipy.optimize import minimize_scalar

BINS = 15


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64."""
    shifted = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def ensemble(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Mean over members of the softmax of ``logits / temperature``, (members, n, classes) -> (n, classes)."""
    return softmax(np.asarray(logits) / temperature).mean(axis=0)


def fit_temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """Temperature that minimises the ensemble's negative log-likelihood (Guo et al. 2017).

    A weak prior on its logarithm (standard normal, worth about one cell) keeps it from the bounds where a few cells
    are all called right.

    Parameters
    ----------
    logits : (members, n, classes), of cells that were not trained on
    label : (n,) int

    Returns
    -------
    float, in 0.05 to 20; 1 where there are no cells
    """
    if len(label) == 0:
        return 1.0

    def cost(log_temperature: float) -> float:
        p = ensemble(logits, np.exp(log_temperature))[np.arange(len(label)), label]
        return -np.log(np.maximum(p, 1e-300)).mean() + 0.5 * log_temperature**2 / len(label)

    return float(np.exp(minimize_scalar(cost, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def calibration_error(probability: np.ndarray, label: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error of the called type (Naeini et al. 2015), in ``bins`` equal bins of its probability.

    Parameters
    ----------
    probability : (n, classes)
    label : (n,) int; a negative one (a type that the model lacks) is never right

    Returns
    -------
    float in 0 to 1: mean distance of confidence and accuracy; NaN without cells
    """
    return confidence_error(probability.max(axis=1), probability.argmax(axis=1) == label, bins)


def confidence_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error of confidences (n,) in calls that are right or not, (n,) bool; NaN without cells."""
    if len(right) == 0:
        return float("nan")
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(right))


def reliability(probability: np.ndarray, label: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """Mean confidence, accuracy and number of cells of each occupied bin, for a reliability diagram."""
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == label
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "confidence": float(confidence[place == b].mean()),
            "accuracy": float(right[place == b].mean()),
            "cells": int((place == b).sum()),
        }
        for b in np.unique(place)
    ]


def entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy in nats, (n, classes) -> (n,)."""
    return -(probability * np.log(np.maximum(probability, 1e-300))).sum(axis=1)


def disagreement(logits: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Share of the members that call another type than the ensemble does.

    Parameters
    ----------
    logits : (members, n, classes)
    probability : (n, classes), the ensemble's

    Returns
    -------
    (n,); NaN for a single member: nobody could disagree
    """
    if len(logits) == 1:
        return np.full(logits.shape[1], np.nan)
    return (np.argmax(logits, axis=2) != probability.argmax(axis=1)).mean(axis=0)


def decompose(means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split the ensemble's variance by the law of total variance (STImage, section 2.4).

    Parameters
    ----------
    means, variances : (members, ...) of each member's distribution

    Returns
    -------
    aleatoric : mean of the variances, the noise in the data
    epistemic : variance of the means (divided by one less than the members), what the members do not agree on; NaN
        for a single member
    """
    spread = np.var(means, axis=0, ddof=1) if len(means) > 1 else np.full(np.shape(means)[1:], np.nan)
    return np.mean(variances, axis=0), spread


def risk_coverage(
    uncertainty: np.ndarray, label: np.ndarray, called: np.ndarray, shares: np.ndarray | None = None
) -> list[dict[str, float]]:
    """Weighted and macro F1 of the cells that remain as the least certain are set aside.

    Parameters
    ----------
    uncertainty : (n,), larger is less certain; ties stay in order
    label, called : (n,) types
    shares : shares of the cells that are kept, descending from 1

    Returns
    -------
    list of dict: coverage, cells, weighted, macro
    """
    from sklearn.metrics import f1_score

    shares = np.linspace(1, 0.1, 10) if shares is None else shares
    order = np.argsort(uncertainty, kind="stable")
    rows = []
    for share in shares if len(order) else []:
        kept = order[: max(1, round(share * len(order)))]
        present = np.unique(label[kept])
        scores = {
            average: float(f1_score(label[kept], called[kept], labels=present, average=average, zero_division=0))
            for average in ("weighted", "macro")
        }
        rows.append({"coverage": float(share), "cells": len(kept), **scores})
    return rows


def describe(logits: np.ndarray, temperature: float) -> dict[str, np.ndarray]:
    """Turn type logits (members, n, classes) into what predictions hold of types.

    Returns
    -------
    dict
        ``probability`` (n, classes) at the temperature and ``uncalibrated``, at 1; ``entropy`` (n,), nats;
        ``disagreement`` (n,), share of members.
    """
    probability = ensemble(logits, temperature)
    return {
        "probability": probability,
        "uncalibrated": ensemble(logits, 1.0),
        "entropy": entropy(probability),
        "disagreement": disagreement(logits, probability),
    }
