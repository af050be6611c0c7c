"""The haematoxylin of an H&E colour as one table: what ``rgb2hed``, H alone and ``hed2rgb`` make of 8-bit RGB.

Colour deconvolution (Ruifrok and Johnston 2001, with the stain vectors of scikit-image) turns a colour into
three stain densities. With E and D set to zero, the way back depends on the density H alone, a sum of one
term per channel; and each output channel is a falling step function of H. So the whole path for 8-bit colours
is a sum of three looked-up terms and the number of steps that lie below it.

H is held in fixed point (``SCALE`` to the unit): whole-number sums are the same on every machine. The steps are
so placed that all 16.7 million colours come out as the float64 path of scikit-image gives them; a test walks
through them all.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
FLOOR = 1e-6  # smallest intensity: keeps the logarithm finite, as scikit-image does
SCALE = 2.0**50
# Compiled into the kernel of tiles.py, whose cache does not see a change here: touch that file after changing it.
BIN_BITS = 34  # H is found among the steps by bins 2**-16 wide, none of which holds more than two steps


class Tables(NamedTuple):
    """Lookup tables for the haematoxylin of 8-bit colours.

    Attributes
    ----------
    density
        int64 (3, 256): what a channel's value adds to H. The offset that keeps the sum from falling below zero
        is in channel 0.
    first
        uint16 (bins,): the number of steps below the lower end of a bin of H.
    steps
        int64 (s + 2,): sorted values of H; a colour changes where H exceeds one. Ends in two that are never met.
    colours
        uint8 (s + 1, 3): the colour for each number of steps below H.
    """

    density: np.ndarray
    first: np.ndarray
    steps: np.ndarray
    colours: np.ndarray


def _densities() -> np.ndarray:
    """Return float64 (3, 256): the share of H that each value of each channel adds, in units of -log(FLOOR)."""
    share = np.linalg.inv(RGB_FROM_HED)[:, 0]
    intensity = np.maximum(np.arange(256) * (1 / 255), FLOOR)
    return share[:, None] * (np.log(intensity) / np.log(FLOOR))[None, :]


def _steps() -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted float64 H at which a channel of the output falls by one, and the colours between."""
    level = np.arange(255, 0, -1)
    fall = np.log(level / 255) / (np.log(FLOOR) * RGB_FROM_HED[0][:, None])
    steps = np.unique(fall)
    above = np.concatenate([steps, [np.inf]])  # a colour holds up to and with the step that ends it
    lost = np.stack([np.searchsorted(row, above, side="left") for row in fall], axis=1)
    return steps, (255 - lost).astype(np.uint8)


@cache
def tables() -> Tables:
    """Make the tables (once, some milliseconds)."""
    density = np.rint(_densities() * SCALE).astype(np.int64)
    steps, colours = _steps()
    offset = -int(density.min(axis=1).sum())
    density[0] += offset
    fixed = np.rint(steps * SCALE).astype(np.int64) + offset
    bins = (int(density.max(axis=1).sum()) >> BIN_BITS) + 2
    first = np.searchsorted(fixed, np.arange(bins, dtype=np.int64) << BIN_BITS, side="left")
    if np.diff(first).max() > 2:
        raise RuntimeError("a bin of the haematoxylin table holds more than two steps")
    never = np.full(2, np.iinfo(np.int64).max)
    return Tables(density, first.astype(np.uint16), np.concatenate([fixed, never]), colours)


def haematoxylin(rgb: np.ndarray) -> np.ndarray:
    """Return the haematoxylin image of 8-bit colours: uint8 (..., 3) to uint8 (..., 3)."""
    table = tables()
    density = sum(table.density[channel][rgb[..., channel]] for channel in range(3))
    return table.colours[np.searchsorted(table.steps, density, side="left")]
