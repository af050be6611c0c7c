"""Registration: whether the nuclei lie on tissue where the affine puts them."""

import numpy as np

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
