"""Registration: whether the nuclei lie where the affine puts them: on tissue, and on nuclei that the H&E shows."""

from typing import Any

import numpy as np
import shapely

from shest.io.registration import Registration
from shest.tissue.alignment import Match, match
from shest.tissue.segment import classical

TISSUE_SATURATION = 0.07  # stained tissue; glass and air are grey
SHARE_EXPECTED = 0.5


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


def densest_windows(xy: np.ndarray, shape: tuple[int, int], side: int, most: int = 1) -> list[tuple[int, int]]:
    """Return the corners (x, y) of the windows of ``side`` px on a grid that hold most points, none without any."""
    height, width = shape
    x_edges, y_edges = np.arange(0, width + side, side), np.arange(0, height + side, side)
    counts, *_ = np.histogram2d(*xy.T, bins=(x_edges, y_edges))
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    places = zip(*np.unravel_index(order, counts.shape), strict=True)
    return [(int(x_edges[column]), int(y_edges[row])) for column, row in places if counts[column, row]]


def nuclei_seen(
    image: Any, corners: list[tuple[int, int]], side: int, mpp: tuple[float, float], threads: int
) -> list[np.ndarray]:
    """Find nuclei in some windows of an image (3, height, width); return their centroids (n, 2), H&E px, by window."""
    seen = []
    for x, y in corners:
        window = np.asarray(image[:, y : y + side, x : x + side])
        polygons = classical.segment([window], mpp, side, threads).polygons
        seen.append(shapely.get_coordinates(shapely.centroid(polygons)).reshape(-1, 2) + np.array([x, y]))
    return seen


def judge(
    seen: list[np.ndarray], xy: np.ndarray, corners: list[tuple[int, int]], side: int, registration: Registration
) -> tuple[Match, list[dict[str, float]]]:
    """Hold nuclei that the H&E shows, by window, against those that the registration puts there, (n, 2) H&E px.

    Returns
    -------
    match
        Of all windows.
    blocks
        Of each: corner (px), ``seen`` and ``given`` nuclei, share and residual (µm).
    """
    blocks = []
    for (x, y), centres in zip(corners, seen, strict=True):
        there = xy[((xy >= (x, y)) & (xy < (x + side, y + side))).all(axis=1)]
        own = match(registration.to_um(centres), registration.to_um(there))
        facts = {"seen": len(centres), "given": len(there), "share": own.share, "residual_um": own.residual_um}
        blocks.append({"x": x, "y": y} | facts)
    everything = np.concatenate(seen) if seen else np.empty((0, 2))
    inside = np.concatenate([xy[((xy >= c) & (xy < np.add(c, side))).all(axis=1)] for c in corners] or [xy[:0]])
    return match(registration.to_um(everything), registration.to_um(inside)), blocks
