"""A window with its nuclei coloured by what they add to a prediction."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from shest.draw import panels
from shest.draw.style import plt

COLOURS = "RdBu_r"
SIDE_IN = 2.6


def figure(
    window: np.ndarray,
    outlines: Sequence[np.ndarray],
    origin: tuple[float, float],
    weight: pd.Series,
    mpp: tuple[float, float],
    title: str,
    label: str,
) -> Figure:
    """Draw a window as it is, and beside it its nuclei in the colours of their weights.

    Parameters
    ----------
    window
        uint8 (h, w, 3).
    outlines, origin
        See :func:`shest.run.explain.segments`.
    weight
        Of each part, by number; 0 is the ground, which is said in the title and not coloured.
    mpp
        µm per px along x and y.
    label
        Of the colours: what is predicted.
    """
    height, width = window.shape[:2]
    extent = (0, width * mpp[0], height * mpp[1], 0)
    nuclei = weight.drop(0, errors="ignore")
    largest = max(float(nuclei.abs().max()) if len(nuclei) else 0.0, 1e-12)
    norm, colours = TwoSlopeNorm(0, -largest, largest), plt.get_cmap(COLOURS)
    plain, coloured = (result := plt.figure(figsize=(2 * SIDE_IN + 0.9, SIDE_IN + 0.5))).subplots(1, 2)
    for axis in (plain, coloured):
        axis.imshow(window, extent=extent, interpolation="nearest")
        axis.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
    for number, value in nuclei.items():
        x, y = ((np.asarray(outlines[number - 1], float) - origin + 0.5) * mpp).T
        coloured.fill(x, y, facecolor=(*colours(norm(value))[:3], 0.35), edgecolor=colours(norm(value)), lw=1.8)
    panels.scale_bar(plain, panels.round_length(width * mpp[0]))
    plain.set_title(title)
    coloured.set_title(f"ground {weight[0]:+.2g}" if 0 in weight.index else "no ground")
    bar = result.colorbar(plt.cm.ScalarMappable(norm, colours), ax=coloured, shrink=0.8, aspect=25)
    bar.set_label("\n".join(textwrap.wrap(label, 40)))
    bar.outline.set_visible(False)
    return result
