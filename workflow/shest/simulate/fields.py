"""Smooth random fields on grids: the raw material of tissue and texture."""

import numpy as np
from scipy import ndimage


def smooth_noise(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise of zero mean and unit deviation whose features are about ``scale`` grid steps wide.

    Drawn on a grid of that step and interpolated by cubic splines, so that the cost does not grow with ``scale``.
    """
    rows, columns = (int(np.ceil(n / scale)) + 4 for n in shape)
    coarse = rng.normal(size=(rows, columns))
    at = [np.arange(n) / scale + 1.5 for n in shape]
    fine = ndimage.map_coordinates(coarse, np.meshgrid(*at, indexing="ij"), order=3, mode="nearest")
    return ((fine - fine.mean()) / max(fine.std(), 1e-9)).astype(np.float32)


def periodic_noise(side: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Return a (side, side) texture that tiles the plane, with wavelengths from ``low`` to ``high`` px."""
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    band = np.exp(-((f * low) ** 4) / 2) * (1 - np.exp(-((f * high) ** 4)))
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(side, side))) * band, s=(side, side))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def lookup(texture: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Read a periodic texture at real coordinates (grid steps), bilinearly."""
    side = texture.shape[0]
    i, j = np.floor(row).astype(np.int32), np.floor(column).astype(np.int32)
    di, dj = (row - i).astype(np.float32), (column - j).astype(np.float32)
    i0, j0, i1, j1 = i % side, j % side, (i + 1) % side, (j + 1) % side
    top = texture[i0, j0] * (1 - dj) + texture[i0, j1] * dj
    return top * (1 - di) + (texture[i1, j0] * (1 - dj) + texture[i1, j1] * dj) * di


def resample(field: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Read a field on a regular grid at the crossings of ``rows`` (h,) and ``columns`` (w,), bilinearly: (h, w)."""
    i = np.clip(np.floor(rows).astype(int), 0, field.shape[0] - 2)
    j = np.clip(np.floor(columns).astype(int), 0, field.shape[1] - 2)
    di = np.clip(rows - i, 0, 1).astype(np.float32)[:, None]
    dj = np.clip(columns - j, 0, 1).astype(np.float32)
    low, high = int(i.min()), int(i.max()) + 2
    part = field[low:high]
    part = part[:, j] * (1 - dj) + part[:, j + 1] * dj
    return part[i - low] * (1 - di) + part[i - low + 1] * di


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Return the distance to the edge of ``mask`` in grid steps, positive inside."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, 1e3 if mask.any() else -1e3, np.float32)
    inside = ndimage.distance_transform_edt(mask)
    outside = ndimage.distance_transform_edt(~mask)
    return (np.where(mask, inside - 0.5, 0.5 - outside)).astype(np.float32)


def step(distance: np.ndarray, softness: float) -> np.ndarray:
    """Return a soft step from 0 to 1 across ``distance`` = 0, ``softness`` wide."""
    return (0.5 + 0.5 * np.tanh(distance / softness)).astype(np.float32)
