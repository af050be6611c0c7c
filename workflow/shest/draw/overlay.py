"""The picture that a registration is checked by: nuclei on the H&E."""

from pathlib import Path

import numpy as np
import shapely
from matplotlib.collections import PolyCollection

from shest.draw.style import plt, save_picture


def draw_overlay(
    overview: np.ndarray,
    factor: float,
    window: np.ndarray,
    window_corner: tuple[int, int],
    outlines: np.ndarray,
    xy: np.ndarray,
    title: str,
    path: str | Path,
) -> None:
    """Draw where the nuclei lie: all centroids on the whole slide, outlines on a window at full size.

    Parameters
    ----------
    overview, factor
        Small image (h, w, 3) and its full-size pixels per pixel.
    window, window_corner
        Full-size crop (h, w, 3) and its (x, y) in H&E px.
    outlines, xy
        Shapely polygons (n,) and their centroids (n, 2), H&E px.
    title
        Of the slide.
    path
        Of the PNG.
    """
    figure, axes = plt.subplots(1, 2, figsize=(13, 6.5))
    axes[0].imshow(overview)
    axes[0].plot(*(xy.T / factor), ".", ms=0.8, color="lime", alpha=0.7)
    x0, y0 = window_corner
    height, width = window.shape[:2]
    axes[0].add_patch(plt.Rectangle((x0 / factor, y0 / factor), width / factor, height / factor, fill=False, lw=1.5))
    axes[0].set(title=title, xlim=(0, overview.shape[1]), ylim=(overview.shape[0], 0))
    axes[1].imshow(window, extent=(x0 - 0.5, x0 + width - 0.5, y0 + height - 0.5, y0 - 0.5))
    near = outlines[shapely.intersects(outlines, shapely.box(x0, y0, x0 + width, y0 + height))]
    rings = [shapely.get_coordinates(outline) for outline in near]
    axes[1].add_collection(PolyCollection(rings, facecolors="none", edgecolors="lime", linewidths=0.9))
    axes[1].set(title=f"{len(near):,} nuclei in the frame", xlim=(x0, x0 + width), ylim=(y0 + height, y0))
    for axis in axes:
        axis.set_axis_off()
    save_picture(figure, path, 110)
