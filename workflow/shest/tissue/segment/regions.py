"""Where nuclei are looked for: tissue, seen on a small image of the slide; glass, pen and folds are left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from shest.tissue.register import tissue_mask

SMALL_MPP = 4.0  # µm, a pixel of the small image
REASONS = ("tissue", "glass", "pen", "fold")
TISSUE, GLASS, PEN, FOLD = range(4)
CLOSE_UM, LEAST_TISSUE_UM2, LEAST_PEN_UM2, LEAST_FOLD_UM2 = 12.0, 500.0, 400.0, 1500.0
INK_GREEN = 12  # levels that green lies above red: of blue, green and black ink, never of H&E
BLACK, COLOURLESS = 80, 32  # brightest channel of black ink, and how far its channels lie apart; dark keratin is purple
FOLD_DENSITY = 1.8  # mean optical density over that of dense tissue (the 75th percentile), and
FOLD_LEAST = 1.0  # at least: two layers of what is already dark


@dataclass(frozen=True)
class Regions:
    """What the parts of a slide are.

    Attributes
    ----------
    kinds
        uint8 (h, w): position in :data:`REASONS`.
    factor
        Full-size px to a pixel of it, rows and columns.
    mpp
        µm of its pixels, rows and columns.
    image
        uint8 (h, w, 3), the small image itself.
    """

    kinds: np.ndarray
    factor: tuple[float, float]
    mpp: tuple[float, float]
    image: np.ndarray

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the kind at places, H&E px, pixel centres at integers; glass beyond the image."""
        row = np.floor((np.asarray(y) + 0.5) / self.factor[0]).astype(np.int64)
        column = np.floor((np.asarray(x) + 0.5) / self.factor[1]).astype(np.int64)
        inside = (row >= 0) & (column >= 0) & (row < self.kinds.shape[0]) & (column < self.kinds.shape[1])
        found = np.full(row.shape, GLASS, np.uint8)
        found[inside] = self.kinds[row[inside], column[inside]]
        return found

    def areas(self) -> dict[str, float]:
        """Return the area of each kind, mm²."""
        each = self.mpp[0] * self.mpp[1] / 1e6
        return {name: float((self.kinds == k).sum() * each) for k, name in enumerate(REASONS)}


def find_regions(scales: Sequence[Any], mpp: tuple[float, float]) -> Regions:
    """Find tissue on the coarsest scale whose pixels are not larger than :data:`SMALL_MPP`.

    Parameters
    ----------
    scales
        (3, height, width) uint8 arrays, full size first.
    mpp
        µm per full-size px along x and y.
    """
    height = scales[0].shape[1]
    fine = [scale for scale in scales if max(mpp) * height / scale.shape[1] <= SMALL_MPP * 1.001] or scales[:1]
    chosen = fine[-1]
    image, step = _shrunk(chosen, max(1, round(SMALL_MPP / (max(mpp) * height / chosen.shape[1]))))
    factor = tuple(step * scales[0].shape[k] / chosen.shape[k] for k in (1, 2))
    size = factor[0] * mpp[1], factor[1] * mpp[0]
    return Regions(classify(image, size), factor, size, image)


def _shrunk(scale: Any, step: int) -> tuple[np.ndarray, int]:
    """Average squares of a scale, a strip at a time; (h, w, 3) uint8. What is left over at the far edges is padded."""
    _, height, width = scale.shape
    rows = []
    for top in range(0, height, 256 * step):
        strip = np.asarray(scale[:, top : top + 256 * step])
        pad = (-strip.shape[1] % step, -width % step)
        strip = np.pad(strip, ((0, 0), (0, pad[0]), (0, pad[1])), mode="edge")
        means = strip.reshape(3, strip.shape[1] // step, step, -1, step).mean(axis=(2, 4), dtype=np.float32)
        rows.append(np.rint(means).astype(np.uint8))
    return np.moveaxis(np.concatenate(rows, axis=1), 0, -1), step


def classify(image: np.ndarray, mpp: tuple[float, float]) -> np.ndarray:
    """Say what each pixel of a small image is, (h, w, 3) uint8 -> uint8 (h, w).

    Tissue is coloured. Ink is greener than red or black, which no H&E is at this size. A fold is two layers of tissue
    and about twice as dense as what is dense elsewhere. ``mpp``: µm of a pixel, rows and columns.
    """
    size = mpp[0] * mpp[1]
    reach = max(1, round(CLOSE_UM / max(mpp)))
    frame = np.pad(tissue_mask(image), reach, mode="edge")  # closing would take the edge of the image for glass
    tissue = ndimage.binary_closing(frame, _disc(reach))[reach:-reach, reach:-reach]
    colours = image.astype(np.float32)
    red, green = colours[..., 0], colours[..., 1]
    ink = ((green > red + INK_GREEN) & tissue) | (
        (colours.max(axis=2) < BLACK) & (np.ptp(colours, axis=2) < COLOURLESS)
    )
    pen = _large(ink, LEAST_PEN_UM2 / size)
    pen = ndimage.binary_dilation(pen, _disc(reach)) if pen.any() else pen
    tissue = _large(tissue, LEAST_TISSUE_UM2 / size)
    density = -np.log((ndimage.uniform_filter(colours, (3, 3, 0)) + 1) / 256).mean(axis=2)
    plain = tissue & ~pen
    usual = float(np.percentile(density[plain], 75)) if plain.any() else 0.0
    dense = ndimage.binary_closing(plain & (density > max(FOLD_LEAST, FOLD_DENSITY * usual)), _disc(2))
    fold = _large(dense, LEAST_FOLD_UM2 / size)
    kinds = np.full(tissue.shape, GLASS, np.uint8)
    kinds[tissue] = TISSUE
    kinds[fold & tissue] = FOLD
    kinds[pen] = PEN
    return kinds


def _disc(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return x * x + y * y <= radius * radius


def _large(mask: np.ndarray, least: float) -> np.ndarray:
    """Leave the parts of a mask of at least ``least`` px."""
    parts, n = ndimage.label(mask, np.ones((3, 3)))
    keep = np.bincount(parts.ravel(), minlength=n + 1) >= least
    keep[0] = False
    return keep[parts]
