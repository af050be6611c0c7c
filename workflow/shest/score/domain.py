"""How far the cells of a slide lie from those that a model was trained on: in embedding, colour and size of nucleus.

Each is said as a quantile of the training cells, not as a score of its own making: 0.5 is a cell like half of them,
and of cells like theirs one in a hundred lies beyond the 0.99 quantile. Training cells come from few slides, so that
another laboratory's slide is expected to lie far out; how far is what helps to judge what is predicted on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

COMPONENTS = 20
QUANTILES = np.linspace(0, 1, 1001)
FAR = 0.99
FAR_SHARE = 0.1  # of a slide's cells beyond FAR: ten times what training cells would have
EDGE = 0.02  # a median cell beyond this quantile, or its mirror, is named
CHANNELS = ("red", "green", "blue")
SEED = 42


@dataclass(frozen=True)
class Domain:
    """Where a model's training cells lie.

    Attributes
    ----------
    mean, scale
        (d,) of the embeddings.
    axes
        (d, k) principal components of the scaled embeddings over their standard deviations; none without embeddings.
    distance
        (1001,) quantiles of the distance of training cells that the axes were not fitted on; none without embeddings.
    colour
        (1001, 3) quantiles of the mean colour of a cell's window, R, G, B.
    size
        (1001,) quantiles of the size of nuclei, µm: the root of width times height.
    """

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    distance: np.ndarray
    colour: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, embeddings: np.ndarray, colour: np.ndarray, size: np.ndarray) -> "Domain":
        """Describe training cells.

        Parameters
        ----------
        embeddings
            (n, d); d may be 0.
        colour
            (n, 3) mean of each window.
        size
            (n,) µm.
        """
        fitted = np.zeros(len(size), bool)
        fitted[np.random.default_rng(SEED).permutation(len(size))[: -(-len(size) // 2)]] = True
        mean, scale, axes = _axes(np.asarray(embeddings[fitted], np.float64))
        rest = embeddings[~fitted] if (~fitted).any() else embeddings
        far = _distance(rest, mean, scale, axes)
        quantiles = np.quantile(far, QUANTILES) if axes.size else np.empty(0)
        return cls(mean, scale, axes, quantiles, np.quantile(colour, QUANTILES, axis=0), np.quantile(size, QUANTILES))

    def tensors(self) -> dict[str, np.ndarray]:
        """Return everything by name, float32."""
        return {name: np.asarray(getattr(self, name), np.float32) for name in self.__dataclass_fields__}

    @classmethod
    def restore(cls, tensors: Mapping[str, np.ndarray]) -> "Domain":
        """Become what :meth:`tensors` gave."""
        return cls(**{name: tensors[name] for name in cls.__dataclass_fields__})

    def compare(self, embeddings: np.ndarray, colour: np.ndarray, size: np.ndarray) -> dict[str, Any]:
        """Say where the cells of a slide lie; parameters as of :meth:`of`, at least one cell.

        Returns
        -------
        dict
            For ``embedding`` (where there is one), ``red``, ``green``, ``blue`` and ``size``: the ``median`` cell's
            quantile among training cells, and the share of cells ``beyond`` the outer quantiles (above 0.99 of the
            distance; below 0.005 or above 0.995 of the others, so that training cells have 0.01 everywhere).
        """
        found = {}
        if self.axes.size:
            place = quantile_of(_distance(embeddings, self.mean, self.scale, self.axes), self.distance)
            found["embedding"] = {"median": float(np.median(place)), "beyond": float((place > FAR).mean())}
        columns = {name: (colour[:, k], self.colour[:, k]) for k, name in enumerate(CHANNELS)}
        for name, (values, known) in (columns | {"size": (size, self.size)}).items():
            place = quantile_of(values, known)
            outer = (place < (1 - FAR) / 2) | (place > (1 + FAR) / 2)
            found[name] = {"median": float(np.median(place)), "beyond": float(outer.mean())}
        return found


def _axes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    z = (x - mean) / scale
    values, vectors = np.linalg.eigh(z.T @ z / max(len(z), 1))
    keep = np.flatnonzero(values > 1e-6)[::-1][:COMPONENTS]
    return mean, scale, vectors[:, keep] / np.sqrt(values[keep])


def _distance(x: np.ndarray, mean: np.ndarray, scale: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Mahalanobis distance in the leading principal components, (n, d) -> (n,)."""
    return np.linalg.norm((np.asarray(x, np.float32) - mean) / scale @ axes, axis=1)


def quantile_of(values: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Return which share of the training cells lies below each value, half of what is equal to it counted, (n,)."""
    below, upto = (np.searchsorted(quantiles, values, side) for side in ("left", "right"))
    return (below + upto) / (2 * len(quantiles))


def doubts(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Say in words what of :meth:`Domain.compare` makes predictions on a slide doubtful."""
    said = []
    embedding = found.get("embedding")
    if embedding and embedding["beyond"] > FAR_SHARE:
        said.append(
            f"{embedding['beyond']:.0%} of its cells look unlike any training cell (beyond the 99 % quantile of the "
            "distance, where 1 % are expected)"
        )
    words = {"red": ("less red", "redder"), "green": ("less green", "greener"), "blue": ("less blue", "bluer")}
    colours = [words[c][found[c]["median"] > 0.5] for c in CHANNELS if _at_edge(found[c]["median"])]
    if colours:
        said.append(f"its colours are far from the training slides' ({', '.join(colours)})")
    if _at_edge(found["size"]["median"]):
        large = "larger" if found["size"]["median"] > 0.5 else "smaller"
        said.append(f"its nuclei are {large} than nearly all training nuclei: check the pixel size (mpp)")
    return said


def _at_edge(quantile: float) -> bool:
    return quantile < EDGE or quantile > 1 - EDGE
