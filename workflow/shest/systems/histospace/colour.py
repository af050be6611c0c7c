"""Colours of a sample brought to those of another: the cast is removed, then the stains are normalised.

The cast (HistoSPACE, section 4.2): each channel is scaled so that its 99th percentile is white. Stains: their vectors
and 99th percentiles by Macenko's method, which is what the project segments by, where the paper has Vahadane's. Both
are linear in optical density once estimated: a sample is three gains, and a matrix.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shest.tissue.segment import stain

PERCENTILE = 99


@dataclass(frozen=True)
class Colour:
    """What is done to the pixels of a sample: gains (3,) of the channels, and a matrix (3, 3) of optical densities."""

    gain: np.ndarray
    matrix: np.ndarray

    @classmethod
    def none(cls) -> "Colour":
        """Nothing is done."""
        return cls(np.ones(3, np.float32), np.eye(3, dtype=np.float32))

    def apply(self, x: Tensor) -> Tensor:
        """Change patches (k, 3, h, w) of 0 to 1."""
        gain, matrix = (torch.from_numpy(value).to(x) for value in (self.gain, self.matrix))
        x = (x * gain.view(1, 3, 1, 1)).clamp(0, 1)
        density = -torch.log((x * 255 + 1) / 256)
        density = torch.einsum("khwc,cd->khwd", density.permute(0, 2, 3, 1), matrix).permute(0, 3, 1, 2)
        return ((torch.exp(-density) * 256 - 1) / 255).clamp(0, 1)


@dataclass(frozen=True)
class Stains:
    """Vectors (3, 3) of haematoxylin, eosin and the rest, in optical density, and the full densities of the two."""

    vectors: np.ndarray
    full: np.ndarray


def cast(pixels: np.ndarray) -> np.ndarray:
    """Return the gains that make each channel's 99th percentile white; pixels (n, 3) uint8."""
    return (255 / np.maximum(np.percentile(pixels, PERCENTILE, axis=0), 1)).astype(np.float32)


def estimate(pixels: np.ndarray) -> Stains:
    """Estimate the stains of pixels (n, 3) uint8 whose cast was removed; fixed vectors where that fails."""
    found = stain.estimate(pixels)
    pair = np.array([found.haematoxylin, found.eosin])
    rest = np.cross(*pair)
    vectors = np.vstack([pair, rest / np.linalg.norm(rest)])
    stained = pixels[stain.stained(pixels)]
    if not len(stained):
        return Stains(vectors, np.ones(2))
    density = stain.optical_density()[stained] @ np.linalg.inv(vectors)
    return Stains(vectors, np.maximum(np.percentile(density[:, :2], PERCENTILE, axis=0), 1e-3))


def between(own: Stains, template: Stains) -> np.ndarray:
    """Return the matrix, (3, 3) float32, that turns optical densities of one pair of stains into those of another.

    Amounts of both stains are scaled so that their full densities agree; what is neither stain stays.
    """
    scale = np.diag([*(template.full / own.full), 1.0])
    return (np.linalg.inv(own.vectors) @ scale @ template.vectors).astype(np.float32)


def colour_of(pixels: np.ndarray, kind: str, template: Stains | None) -> tuple[Colour, Stains | None]:
    """Return what is to be done to a sample, by some of its pixels (n, 3) uint8, and its stains.

    Parameters
    ----------
    kind
        ``none``, ``cast`` or ``macenko``.
    template
        Stains that it is brought to; None: its own.
    """
    if kind == "none":
        return Colour.none(), None
    gain = cast(pixels)
    if kind == "cast":
        return Colour(gain, np.eye(3, dtype=np.float32)), None
    own = estimate(np.clip(np.rint(pixels * gain), 0, 255).astype(np.uint8))
    return Colour(gain, between(own, template or own)), own
