"""Registration: whether the H&E shows nuclei where the affine puts those of the measurement."""

from typing import Any

import numpy as np
import shapely

from shest.io.registration import Registration
from shest.tissue.alignment import Match, match
from shest.tissue.segment import classical


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
