"""From the H&E to the Xenium frame: affine, cell ids, cell outlines and label images."""

import numpy as np
from skimage.draw import polygon as fill_polygon

from shest.simulate.spec import PIXEL_SIZE

EXPANSION = 5.0
"""µm by which a cell reaches beyond its nucleus where no neighbour is in the way."""


def affine(shape: tuple[int, int], mpp: float, rotation: float, mirror: bool, margin: float) -> np.ndarray:
    """Return the 3×3 matrix from H&E pixels (x, y, 1) to Xenium morphology pixels.

    The picture (height, width) is mirrored left to right if asked for, turned by ``rotation`` degrees and scaled by
    ``mpp`` / 0.2125, a little differently in x and y as in real registrations; then moved so that it lies ``margin``
    µm off the frame's origin. Rounded to ten digits: the file holds exactly this matrix.
    """
    turn = np.deg2rad(rotation)
    scale = mpp / PIXEL_SIZE
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = linear @ np.diag([scale * 1.0015 * (-1 if mirror else 1), scale * 0.9985])
    height, width = shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ linear.T
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = margin / PIXEL_SIZE - corners.min(axis=0)
    return np.vectorize(lambda v: float(f"{v:.10g}"))(matrix)


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a 3×3 affine to points (..., 2)."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def cell_ids(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return ``n`` sorted prefixes (uint32) and the cell ids that they spell: hexadecimal digits as a to p, then -1."""
    prefix = np.sort(rng.choice(2**32, size=2 * n, replace=False)[:n].astype(np.uint32))
    digits = (prefix[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & 15
    names = (digits + ord("a")).astype(np.uint8).view("S8").ravel().astype(str)
    return prefix, np.char.add(names, "-1")


def area(polygons: np.ndarray) -> np.ndarray:
    """Return the areas (n,) of polygons (n, k, 2) by the shoelace formula."""
    x, y = polygons[..., 0], polygons[..., 1]
    return np.abs((x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1)) / 2


def centroid(polygons: np.ndarray) -> np.ndarray:
    """Return the centroids (n, 2) of polygons (n, k, 2)."""
    start = polygons[:, :1]
    p = polygons - start
    following = np.roll(p, -1, axis=1)
    cross = p[..., 0] * following[..., 1] - following[..., 0] * p[..., 1]
    return start[:, 0] + ((p + following) * cross[..., None]).sum(axis=1) / (3 * cross.sum(axis=1))[:, None]


def cell_outlines(centres: np.ndarray, radius: np.ndarray, corners: int = 24) -> np.ndarray:
    """Return cell outlines (n, corners, 2): the nucleus expanded by 5 µm, cut where a neighbour's begins.

    Along each ray the cell ends at the first border of the power diagram of discs of ``radius`` (n,) around
    ``centres`` (n, 2), in µm, and never within 0.6 of its own radius.
    """
    from scipy.spatial import cKDTree

    k = min(12, len(centres))
    _, index = cKDTree(centres).query(centres, k=k)
    away = centres[index[:, 1:]] - centres[:, None]
    power = (away**2).sum(axis=2) + radius[:, None] ** 2 - radius[index[:, 1:]] ** 2
    turn = np.arange(corners) * 2 * np.pi / corners
    ray = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    facing = away @ ray.T
    limit = np.where(facing > 1e-6, power[:, :, None] / (2 * facing.clip(1e-6)), np.inf).min(axis=1)
    reach = np.clip(limit, 0.6 * radius[:, None], radius[:, None] + EXPANSION)
    return centres[:, None] + reach[:, :, None] * ray


def label_image(polygons: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a uint32 image in which the pixels of polygon p (in px, (n, k, 2)) are p + 1; earlier ones win."""
    image = np.zeros(shape, np.uint32)
    for number, corners in enumerate(polygons, start=1):
        rows, columns = fill_polygon(corners[:, 1], corners[:, 0], shape)
        free = image[rows, columns] == 0
        image[rows[free], columns[free]] = number
    return image
