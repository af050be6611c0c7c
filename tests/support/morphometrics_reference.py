"""The morphometrics by scikit-image and SciPy, one cell at a time: what the compiled ones are held against."""

import numpy as np
from scipy import ndimage
from skimage.color import hed_from_rgb
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
from skimage.measure import regionprops

from shest.encode.morphometrics import feature_names
from shest.tiles.raster import SIDE

RING = 14  # tile px: 2 µm in a window of 16 µm
SHELLS = ((0, 7), (7, 14), (14, 28))
GLCM_LEVELS = 16
GLCM_DISTANCES = (2, 6)
GLCM_PROPERTIES = ("contrast", "homogeneity", "energy", "correlation")
H_RANGE = (0.0, 0.25)  # optical density of haematoxylin that the grey levels span
H_RICH = 0.09
LBP_POINTS, LBP_RADIUS = 8, 3

_DENSITY = -np.log(np.maximum(np.arange(256) / 255, 1e-6)) / -np.log(1e-6)  # rgb2hed's optical density


def features(windows: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Compute the features of some cells.

    Parameters
    ----------
    windows : (n, 112, 112, 3) uint8
    masks : (n, 112, 112) bool, the nucleus

    Returns
    -------
    (n, len(feature_names())) float32; finite, also for an empty mask
    """
    if len(windows) == 0:
        return np.empty((0, len(feature_names())), np.float32)
    rows = [_one(window, mask) for window, mask in zip(windows, masks, strict=True)]
    return np.nan_to_num(np.asarray(rows, np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _one(window: np.ndarray, mask: np.ndarray) -> list[float]:
    if not mask.any():  # a sliver that no pixel centre falls into: take the centre
        mask = np.zeros_like(mask)
        mask[SIDE // 2 - 1 : SIDE // 2 + 1, SIDE // 2 - 1 : SIDE // 2 + 1] = True
    stains = np.maximum(_DENSITY[window] @ hed_from_rgb[:, :2], 0)
    channels = np.concatenate([window.astype(np.float64), stains], axis=2)
    h = stains[..., 0]
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(mask)
    values = _shape(mask)
    for region in (mask, _or_all((outside > 0) & (outside <= RING)), np.ones_like(mask)):
        pixels = channels[region]
        values += [*pixels.mean(axis=0), *pixels.std(axis=0)]
    values += [*np.percentile(h[mask], (10, 50, 90)), (h > H_RICH).mean(), (window.min(axis=2) > 220).mean()]
    values += _radial(h, inside, outside)
    values += _edges(h, mask, inside, outside)
    values += _texture(h, mask)
    values += _patterns(window, mask)
    return values


def _or_all(region: np.ndarray) -> np.ndarray:
    return region if region.any() else np.ones_like(region)


def _shape(mask: np.ndarray) -> list[float]:
    nucleus = regionprops(mask.astype(np.uint8))[0]
    perimeter = max(nucleus.perimeter, 1.0)
    return [
        nucleus.area,
        perimeter,
        nucleus.axis_major_length,
        nucleus.axis_minor_length,
        nucleus.eccentricity,
        nucleus.solidity,
        nucleus.extent,
        4 * np.pi * nucleus.area / perimeter**2,
    ]


def _mean(values: np.ndarray, region: np.ndarray) -> float:
    return float(values[region].mean()) if region.any() else float(values.mean())


def _radial(h: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> list[float]:
    deep = inside.max() / 2
    shells = [(inside > deep), (inside > 0) & (inside <= deep)]
    shells += [(outside > low) & (outside <= high) for low, high in SHELLS]
    return [_mean(h, shell) for shell in shells]


def _edges(h: np.ndarray, mask: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> list[float]:
    slope = np.hypot(ndimage.sobel(h, axis=0), ndimage.sobel(h, axis=1))
    outline = (inside <= 2) & (outside <= 2)
    return [_mean(slope, mask), _mean(slope, outline), float(slope.mean())]


def _texture(h: np.ndarray, mask: np.ndarray) -> list[float]:
    """Haralick features; angles are averaged, so that quarter turns and mirrors change nothing."""
    low, high = H_RANGE
    grey = np.clip((h - low) / (high - low) * GLCM_LEVELS, 0, GLCM_LEVELS - 1).astype(np.uint8) + 1
    values = []
    for levels in (np.where(mask, grey, 0), grey):  # level 0 is outside, and its pairs are dropped
        pairs = graycomatrix(
            levels, GLCM_DISTANCES, (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4), levels=GLCM_LEVELS + 1, symmetric=True
        )[1:, 1:]
        pooled = pairs.sum(axis=3, keepdims=True).astype(np.float64)
        pooled /= np.maximum(pooled.sum(axis=(0, 1), keepdims=True), 1)
        for name in GLCM_PROPERTIES:
            values += [float(v) for v in graycoprops(pooled, name)[:, 0]]
    return values


def _patterns(window: np.ndarray, mask: np.ndarray) -> list[float]:
    grey = ((window.astype(int) @ (299, 587, 114) + 500) // 1000).astype(np.uint8)
    codes = local_binary_pattern(grey, LBP_POINTS, LBP_RADIUS, method="uniform").astype(int)
    values = []
    for region in (mask, np.ones_like(mask)):
        counts = np.bincount(codes[region], minlength=LBP_POINTS + 2)
        values += [float(v) for v in counts / counts.sum()]
    return values
