"""Registration: the affine between H&E pixels and micrometres of the Xenium frame."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import shapely
from matplotlib.collections import PolyCollection

from shest.io.store import transform_outlines

TISSUE_SATURATION = 0.07  # stained tissue; glass and air are grey
SHARE_EXPECTED = 0.5


def registration(he_to_morphology: np.ndarray, pixel_size_um: float) -> dict:
    """Derive the geometry of the H&E from its alignment.

    Parameters
    ----------
    he_to_morphology
        3 x 3 affine from H&E pixels (x, y, 1) to Xenium morphology pixels, as in the alignment CSV.
    pixel_size_um
        Size of a morphology pixel, µm.

    Returns
    -------
    dict
        ``he_to_um`` and ``um_to_he`` (3 x 3), ``mpp_x`` and ``mpp_y`` (µm per H&E pixel along its columns and
        rows: the lengths of the affine's columns), ``rotation`` (degrees, of the H&E's x axis in the Xenium
        frame) and ``mirror`` (whether the two frames are mirror images).
    """
    scale = np.diag([pixel_size_um, pixel_size_um, 1.0])
    he_to_um = scale @ np.asarray(he_to_morphology, dtype=float)
    linear = he_to_um[:2, :2]
    mpp_x, mpp_y = np.linalg.norm(linear, axis=0)
    return {
        "he_to_um": he_to_um.tolist(),
        "um_to_he": np.linalg.inv(he_to_um).tolist(),
        "mpp_x": float(mpp_x),
        "mpp_y": float(mpp_y),
        "rotation": float(np.degrees(np.arctan2(linear[1, 0], linear[0, 0]))),
        "mirror": bool(np.linalg.det(linear) < 0),
    }


def tissue_mask(image: np.ndarray) -> np.ndarray:
    """Tell stained tissue from glass, (h, w, 3) uint8 -> (h, w) bool: by saturation, since glass is grey."""
    pixels = image.astype(np.float32)
    brightest = pixels.max(axis=2)
    return (brightest - pixels.min(axis=2)) > TISSUE_SATURATION * np.maximum(brightest, 1)


def share_on_tissue(xy: np.ndarray, image: np.ndarray, factor: float) -> float:
    """Return the share of points (H&E px) that lie on tissue of an overview; points outside count as off it."""
    column, row = np.floor((xy + 0.5) / factor).astype(int).T
    height, width = image.shape[:2]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    on = np.zeros(len(xy), dtype=bool)
    on[inside] = tissue_mask(image)[row[inside], column[inside]]
    return float(on.mean()) if len(on) else 0.0


def draw_overlay(overview, factor, window, window_corner, outlines_um, um_to_he, title, path) -> None:
    """Draw where the nuclei lie: all centroids on the whole slide, outlines on a window at full size.

    Parameters
    ----------
    overview, factor
        Small image (h, w, 3) and its full-size pixels per pixel.
    window, window_corner
        Full-size crop (h, w, 3) and its (x, y) in H&E px.
    outlines_um
        Shapely polygons, µm.
    um_to_he
        3 x 3 affine.
    """
    outlines = transform_outlines(outlines_um, um_to_he)
    xy = shapely.get_coordinates(shapely.centroid(outlines))
    figure, axes = plt.subplots(1, 2, figsize=(13, 6.5), layout="constrained")
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
    figure.savefig(path, dpi=110)
    plt.close(figure)


def densest_window(xy: np.ndarray, shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the corner (x, y) of the window of ``side`` px on a grid that holds the most points."""
    height, width = shape
    x_edges, y_edges = np.arange(0, width + side, side), np.arange(0, height + side, side)
    counts, *_ = np.histogram2d(*xy.T, bins=(x_edges, y_edges))
    column, row = np.unravel_index(counts.argmax(), counts.shape)
    return int(x_edges[column]), int(y_edges[row])
