"""The pictures that a registration is checked by: nuclei on the H&E, and how far they agree with it by block."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from matplotlib.collections import PatchCollection, PolyCollection

from shest.draw.style import plt, save_picture

SHOWN = 4  # windows of a picture


def draw_overlay(
    overview: np.ndarray,
    factor: float,
    window: np.ndarray,
    window_corner: tuple[int, int],
    outlines: np.ndarray,
    xy: np.ndarray,
    title: str,
    path: str | Path,
    blocks: Sequence[Mapping] = (),
    um_to_he: np.ndarray | None = None,
    what: str = "nuclei",
) -> None:
    """Draw where the nuclei lie: all centroids on the whole slide, outlines on a window at full size.

    Below, where blocks were looked at, how far the nuclei that the H&E shows agree with them: the share with a partner
    over that by chance, with an arrow where a block has moved, and how far partners lie apart. Blocks with too few
    nuclei are grey.

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
    blocks
        See :class:`shest.tissue.agreement.Agreement`.
    um_to_he
        3 x 3 affine, µm to H&E px; with ``blocks``.
    what
        What is outlined.
    """
    rows = 2 if blocks else 1
    figure, axes = plt.subplots(rows, 2, figsize=(13, 6.5 * rows), squeeze=False, layout="constrained")
    slide, zoom = axes[0]
    slide.imshow(overview)
    slide.plot(*(xy.T / factor), ".", ms=0.8, color="lime", alpha=0.7)
    x0, y0 = window_corner
    height, width = window.shape[:2]
    slide.add_patch(plt.Rectangle((x0 / factor, y0 / factor), width / factor, height / factor, fill=False, lw=1.5))
    slide.set(title=title, xlim=(0, overview.shape[1]), ylim=(overview.shape[0], 0))
    zoom.imshow(window, extent=(x0 - 0.5, x0 + width - 0.5, y0 + height - 0.5, y0 - 0.5))
    near = outlines[shapely.intersects(outlines, shapely.box(x0, y0, x0 + width, y0 + height))]
    rings = [shapely.get_coordinates(outline) for outline in near]
    zoom.add_collection(PolyCollection(rings, facecolors="none", edgecolors="lime", linewidths=0.9))
    zoom.set(title=f"{len(near):,} {what} in the frame", xlim=(x0, x0 + width), ylim=(y0 + height, y0))
    if blocks:
        known = [block for block in blocks if block["share"] > 0]
        shares, residuals = [b["share"] - b["null"] for b in known], [b["residual_um"] for b in known]
        _draw_blocks(axes[1, 0], overview, factor, blocks, known, shares, ("RdYlGn", 0, 0.6))
        _draw_blocks(axes[1, 1], overview, factor, blocks, known, residuals, ("viridis_r", 0, 2.5))
        _draw_shifts(axes[1, 0], blocks, um_to_he)
        axes[1, 0].set_title("Share of nuclei with a partner, over chance; arrows: moved")
        axes[1, 1].set_title("Median distance of partners (µm)")
    for axis in axes.flat:
        axis.set_axis_off()
    save_picture(figure, path, 110)


def _draw_blocks(
    axis: plt.Axes,
    overview: np.ndarray,
    factor: float,
    blocks: Sequence[Mapping],
    known: Sequence[Mapping],
    values: Sequence[float],
    colours: tuple[str, float, float],
) -> None:
    """Draw blocks on a pale slide, those that are known by their values; ``colours``: their map and its ends."""
    extent = (-0.5, overview.shape[1] * factor - 0.5, overview.shape[0] * factor - 0.5, -0.5)
    axis.imshow(0.5 * overview / 255 + 0.5, extent=extent)
    axis.add_collection(PatchCollection(list(map(_square, blocks)), facecolor="lightgrey", edgecolor="grey", alpha=0.6))
    squares = PatchCollection(list(map(_square, known)), cmap=colours[0], edgecolor="black", linewidth=0.5, alpha=0.6)
    squares.set(array=np.array(values, float), clim=colours[1:])
    axis.add_collection(squares)
    axis.figure.colorbar(squares, ax=axis, shrink=0.8, extend="both")
    axis.set(xlim=extent[:2], ylim=extent[2:])


def _draw_shifts(axis: plt.Axes, blocks: Sequence[Mapping], um_to_he: np.ndarray) -> None:
    """Draw an arrow from where the H&E shows the nuclei of a block to where they should be, a block's side long."""
    for block in blocks:
        if block["shift_um"] is None:
            continue
        middle = np.array([block["x"], block["y"]]) + block["side"] / 2
        step = um_to_he[:2, :2] @ block["shift_um"]
        end = middle + step / np.linalg.norm(step) * block["side"]
        text = f"{np.hypot(*block['shift_um']):.0f} µm"
        arrow = {"arrowstyle": "->", "lw": 1.5}
        axis.annotate(text, xy=end, xytext=middle, arrowprops=arrow, fontsize=8, ha="center", va="center")


def _square(block: Mapping) -> plt.Rectangle:
    return plt.Rectangle((block["x"] - 0.5, block["y"] - 0.5), block["side"], block["side"])


def draw_windows(
    image: Any, blocks: Sequence[Mapping], given: Sequence[np.ndarray], seen: Sequence[np.ndarray], path: str | Path
) -> None:
    """Draw windows of the H&E with the nuclei that it shows and those that the alignment puts there.

    Parameters
    ----------
    image
        (3, height, width) uint8, sliced as NumPy, Dask and Zarr arrays are.
    blocks
        Windows, the first few of which are drawn: ``x``, ``y``, ``side`` (px), ``share``, ``null``.
    given, seen
        Centroids by window, (n, 2) H&E px.
    """
    figure, axes = plt.subplots(2, 2, figsize=(12, 12.6), layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, block, there, own in zip(axes.flat, blocks[:SHOWN], given, seen, strict=False):
        x, y, side = block["x"], block["y"], block["side"]
        window = np.moveaxis(np.asarray(image[:, y : y + side, x : x + side]), 0, -1)
        height, width = window.shape[:2]
        axis.imshow(window, extent=(x - 0.5, x + width - 0.5, y + height - 0.5, y - 0.5))
        axis.plot(*there.T, "o", ms=7, mfc="none", mec="lime", mew=1.3, label="where the alignment puts nuclei")
        axis.plot(*own.T, "+", ms=6, color="black", mew=1.2, label="nuclei found in the H&E")
        axis.set_title(f"at {x:,}, {y:,}: {block['share']:.0%} have a partner, {block['null']:.0%} by chance")
        axis.set(xlim=(x - 0.5, x + width - 0.5), ylim=(y + height - 0.5, y - 0.5))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    save_picture(figure, path, 80)
