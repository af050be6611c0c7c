"""The picture that a segmentation is checked by: what of the slide was looked at, and outlines at full size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch

from shest.draw.style import plt, save_picture

ZOOM_UM = 120.0
SHARES = (1.0, 0.5, 0.1)  # zooms: the densest window, the median one, a sparse one
TINTS = {"glass": None, "pen": (0, 0.6, 1.0), "fold": (1.0, 0.75, 0)}


def draw_segmentation(
    image: Any,
    overview: np.ndarray,
    factor: float | tuple[float, float],
    polygons: np.ndarray,
    mpp: tuple[float, float],
    title: str,
    path: str | Path,
    kinds: np.ndarray | None = None,
    names: Sequence[str] = (),
) -> None:
    """Draw the whole slide with what was left out, and three windows of 120 µm with outlines.

    Parameters
    ----------
    image
        (3, height, width) uint8, sliced as NumPy and Zarr arrays are.
    overview, factor
        Small image (h, w, 3), and full-size px to its pixels (rows and columns, or both).
    polygons
        (n,) H&E px.
    mpp
        µm per px along x and y.
    kinds, names
        What each pixel of the small image is, (h, w), and the kinds' names; only where tissue was looked for.
    """
    factor = np.broadcast_to(np.asarray(factor, float), 2)
    centres = shapely.get_coordinates(shapely.centroid(polygons)).reshape(-1, 2)
    figure = plt.figure(figsize=(13, 8.5))
    left, right = figure.subfigures(1, 2, width_ratios=(1.7, 1))
    axis = left.subplots()
    shown = overview.astype(float) / 255
    patches = []
    for k, name in enumerate(names):
        if kinds is None or name not in TINTS:
            continue
        where = kinds == k
        share = f"{name} ({where.mean():.1%})"
        if TINTS[name] is None:
            shown[where] = 0.75 * shown[where]
            patches.append(Patch(color=(0.72, 0.72, 0.72), label=share))
        else:
            shown[where] = 0.4 * shown[where] + 0.6 * np.array(TINTS[name])
            patches.append(Patch(color=TINTS[name], label=share))
    axis.imshow(shown, interpolation="nearest")
    axis.plot(*((centres + 0.5) / factor[::-1] - 0.5).T, ",", color="black", alpha=0.5)
    axis.set(title=f"{title}: {len(polygons):,} nuclei", xlim=(0, shown.shape[1]), ylim=(shown.shape[0], 0))
    axis.set_axis_off()
    if patches:
        axis.legend(handles=patches, title="left out", loc="upper right", fontsize=8)
    side = max(8, round(ZOOM_UM / max(mpp)))
    for zoom, (x0, y0) in zip(right.subplots(3, 1), _windows(centres, image.shape[1:], side), strict=True):
        window = np.moveaxis(np.asarray(image[:, y0 : y0 + side, x0 : x0 + side]), 0, -1)
        height, width = window.shape[:2]
        zoom.imshow(window, extent=(x0 - 0.5, x0 + width - 0.5, y0 + height - 0.5, y0 - 0.5))
        near = polygons[shapely.intersects(polygons, shapely.box(x0, y0, x0 + width, y0 + height))]
        rings = [shapely.get_coordinates(shapely.get_exterior_ring(one)) for one in near]
        zoom.add_collection(PolyCollection(rings, facecolors="none", edgecolors="lime", linewidths=1.0))
        zoom.set(xlim=(x0 - 0.5, x0 + width - 0.5), ylim=(y0 + height - 0.5, y0 - 0.5))
        zoom.set_title(f"{len(near):,} nuclei within {width * mpp[0]:.0f} µm, at {x0:,}, {y0:,}")
        zoom.set_axis_off()
        frame = (np.array([x0, y0]) / factor[::-1], width / factor[1], height / factor[0])
        axis.add_patch(plt.Rectangle(*frame, fill=False, lw=1.5))
    save_picture(figure, path, 110)


def _windows(centres: np.ndarray, shape: tuple[int, int], side: int) -> list[tuple[int, int]]:
    """Return corners (x, y) of three windows with many, a middling number and few nuclei, px."""
    if not len(centres):
        return [(0, 0)] * len(SHARES)
    cells, number = np.unique((centres // side).astype(int), axis=0, return_counts=True)
    order = np.lexsort((cells[:, 0], cells[:, 1], number))
    chosen = cells[order[[round(share * (len(order) - 1)) for share in SHARES]]]
    corners = np.clip(chosen * side, 0, np.maximum(np.array(shape[::-1]) - side, 0))
    return [(int(x), int(y)) for x, y in corners]
