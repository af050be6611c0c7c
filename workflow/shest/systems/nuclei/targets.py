"""What the network is taught, of the slide by block: pixels, nucleus, distances, types; and where patches may lie.

A patch of one part meets no window around a nucleus of another: not of those that are scored, and not of those that
nobody labelled beside them. What looks like a nucleus and has no outline is left out of the loss: Xenium, or whoever
drew the outlines, may have missed it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from scipy.spatial import cKDTree
from skimage.draw import polygon

from shest.core import console
from shest.io.outlines import read_polygons
from shest.io.registration import Registration
from shest.io.store import image_scales
from shest.systems.nuclei import instances
from shest.tiles.haematoxylin import RGB_FROM_HED
from shest.tissue.segment import classical, kernels, stain
from shest.tissue.segment.by_block import Grid

STEP = 8  # working px between the places where a patch may begin
BLOCK = 1024  # working px that are read at once
HALO = 64  # working px around them, so that no nucleus is cut
RED, STATE, ACROSS, ALONG, TYPE = 0, 3, 4, 5, 6  # channels of what is stored
CHANNELS = 7
MISSED, UNKNOWN = 2, 255  # of STATE, of TYPE
SCALE = 127  # of a stored distance
SHARED = 0.2  # of its area: what shares less with an outlined nucleus is another
SAMPLES = 400  # outlined nuclei whose density says how dense a nucleus is
TRAIN, VAL, TEST = "train", "val", "test"


@dataclass(frozen=True)
class Outlined:
    """The outlined nuclei of a sample.

    Attributes
    ----------
    polygons
        (n,) in H&E px.
    part
        (n,) str: of the unit, or of the nearest unit of any part.
    label
        (n,) int: class of those that types are learnt from, -1 of the others.
    """

    polygons: np.ndarray
    part: np.ndarray
    label: np.ndarray


def outlined(path: Path, parts: Mapping[str, str], labels: Mapping[str, int]) -> Outlined:
    """Read the outlines of a sample; ``parts``, ``labels``: of its units by id; without parts all are trained on."""
    ids, polygons = read_polygons(path)
    part = np.array([parts.get(name, "") for name in ids], dtype="<U5")
    known = part != ""
    if not parts:
        part[:] = TRAIN
    elif not known.all():
        centres = shapely.get_coordinates(shapely.centroid(polygons))
        part[~known] = part[known][cKDTree(centres[known]).query(centres[~known])[1]]
    return Outlined(polygons, part, np.array([labels.get(name, -1) for name in ids], np.int64))


def rings_on(grid: Grid, polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices of outlines on a grid, (v, 2) x and y with pixel centres at integers, and their starts."""
    points, owner = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
    points = (points + 0.5) / np.array(grid.factor[::-1]) - 0.5
    return points, np.searchsorted(owner, np.arange(len(polygons) + 1))


def draw(points: np.ndarray, start: np.ndarray, which: np.ndarray, corner: tuple[int, int], shape: Any) -> np.ndarray:
    """Draw outlines into a window: int32, 0 for none, else the place in ``which`` + 1; ``corner``: row and column."""
    labels = np.zeros(shape, np.int32)
    for number, k in enumerate(which, start=1):
        ring = points[start[k] : start[k + 1]]
        labels[polygon(ring[:, 1] - corner[0], ring[:, 0] - corner[1], shape)] = number
    return labels


def lattice(grid: Grid) -> tuple[int, int]:
    """Return rows and columns of the squares of :data:`STEP` px that lie wholly on a grid."""
    return tuple(n // STEP for n in grid.shape)


def windows_of(polygons: np.ndarray, grid: Grid, window_um: float) -> np.ndarray:
    """Return what nobody else's patch may meet: box of outline and window, (n, 4) left, top, right, bottom, grid px."""
    bounds = shapely.bounds(polygons).reshape(-1, 4)
    centres = shapely.get_coordinates(shapely.centroid(polygons)).reshape(-1, 2)
    half = window_um / 2 / np.array(grid.mpp[::-1])
    factor = np.array(grid.factor[::-1])
    low, high, middle = (bounds[:, :2] + 0.5) / factor, (bounds[:, 2:] + 0.5) / factor, (centres + 0.5) / factor
    return np.hstack([np.minimum(low, middle - half), np.maximum(high, middle + half)])


def origins(own: np.ndarray, others: np.ndarray, shape: tuple[int, int], patch_px: int) -> np.ndarray:
    """Return where patches may begin: those that hold the middle of a box of ``own`` and meet none of ``others``.

    Parameters
    ----------
    own, others
        (n, 4), (m, 4): left, top, right, bottom, grid px.
    shape
        Of the :func:`lattice`.

    Returns
    -------
    (k, 2) int64, row and column, px, multiples of :data:`STEP`.
    """
    closed, count = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for left, top, right, bottom in others / STEP:
        rows = slice(max(int(np.floor(top)), 0), max(int(np.ceil(bottom)), 0))
        columns = slice(max(int(np.floor(left)), 0), max(int(np.ceil(right)), 0))
        closed[rows, columns] = 1
    middle = np.floor((own[:, :2] + own[:, 2:])[:, ::-1] / 2 / STEP).astype(np.int64)
    middle = middle[((middle >= 0) & (middle < shape)).all(axis=1)]
    np.add.at(count, tuple(middle.T), 1)
    side = patch_px // STEP
    if min(shape) < side:
        return np.empty((0, 2), np.int64)
    free = (_sums(closed, side) == 0) & (_sums(count, side) > 0)
    return np.argwhere(free) * STEP


def _sums(values: np.ndarray, side: int) -> np.ndarray:
    """Return the sum over each square of ``side``, by its first row and column."""
    total = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    return total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]


@dataclass
class Field:
    """What is taught of a sample.

    Attributes
    ----------
    pixels
        uint8 (h, w, 7), in a file: RGB, state (0, 1, or 2: left out), distances (127 is 0), type. Filled in where
        patches lie.
    origins
        By part: where its patches begin, (k, 2), row and column.
    """

    pixels: np.ndarray
    origins: dict[str, np.ndarray]


def make_field(slide: Any, known: Outlined, settings: Mapping[str, Any], window_um: float, path: Path) -> Field:
    """Read a slide by block and write what is taught of it to the file ``path``.

    Parameters
    ----------
    slide
        :class:`shest.systems.sources.Slide`.
    known
        Its outlined nuclei.
    settings
        ``mpp``, ``patch_px``, ``missed``.
    window_um
        Side of the window around a nucleus that patches of other parts keep off, µm.
    """
    mpp, scales = Registration.read(slide.registration).mpp, image_scales(slide.store)
    grid = Grid.of(tuple(scales[0].shape[1:]), mpp, settings["mpp"])
    boxes = windows_of(known.polygons, grid, window_um)
    places = {}
    for part in (TRAIN, VAL):
        places[part] = origins(
            boxes[known.part == part], boxes[known.part != part], lattice(grid), settings["patch_px"]
        )
    pixels = np.memmap(path, np.uint8, "w+", shape=(*grid.shape, CHANNELS))  # sparse: what is not written takes no room
    missed = missed_nuclei(scales, mpp, known.polygons, grid) if settings["missed"] else None
    _fill(pixels, scales[0], grid, known, missed, np.concatenate(list(places.values())), settings["patch_px"])
    return Field(pixels, places)


def _fill(
    pixels: np.ndarray, image: Any, grid: Grid, known: Outlined, missed: "Missed | None", begins: np.ndarray, side: int
) -> None:
    """Write the blocks that patches lie in."""
    wanted = np.zeros([-(-n // BLOCK) for n in grid.shape], bool)
    for corner in ((0, 0), (0, side - 1), (side - 1, 0), (side - 1, side - 1)):
        wanted[tuple(((begins + corner) // BLOCK).T)] = True
    sets = [(*rings_on(grid, p), shapely.STRtree(p)) for p in (known.polygons, missed.polygons if missed else [])]
    factor = np.array(grid.factor[::-1])
    blocks = np.argwhere(wanted) * BLOCK
    with console.track(len(blocks), "training pixels", "blocks") as advance:
        for top, left in blocks:
            first = max(top - HALO, 0), max(left - HALO, 0)
            last = min(top + BLOCK + HALO, grid.shape[0]), min(left + BLOCK + HALO, grid.shape[1])
            shape = last[0] - first[0], last[1] - first[1]
            box = shapely.box(*(np.array(first[::-1]) * factor - 1), *(np.array(last[::-1]) * factor))
            drawn = []
            for points, start, tree in sets:
                which = np.sort(tree.query(box))
                drawn.append((draw(points, start, which, first, shape), which))
            (labels, which), (other, _) = drawn
            out = np.empty((*shape, CHANNELS), np.uint8)
            out[..., :3] = grid.read(image, (first[0], last[0]), (first[1], last[1]))
            if missed:
                other = missed.dense(out[..., :3], other)
            out[..., STATE] = np.where(labels > 0, 1, np.where(other > 0, MISSED, 0))
            distance = instances.distances(labels, len(which))
            out[..., ACROSS : ALONG + 1] = np.rint(distance * SCALE + SCALE).astype(np.uint8).transpose(1, 2, 0)
            classes = np.concatenate([[UNKNOWN], np.where(known.label[which] < 0, UNKNOWN, known.label[which])])
            out[..., TYPE] = classes.astype(np.uint8)[labels]
            core = slice(top - first[0], top - first[0] + BLOCK), slice(left - first[1], left - first[1] + BLOCK)
            pixels[top : top + BLOCK, left : left + BLOCK] = out[core]
            advance(1)


@dataclass(frozen=True)
class Missed:
    """What looks like a nucleus and has no outline.

    Attributes
    ----------
    polygons
        (n,) in H&E px.
    table
        Density of haematoxylin by channel and value, (3, 256).
    usual
        Mean density of an outlined nucleus, the median of them.
    """

    polygons: np.ndarray
    table: np.ndarray
    usual: float

    def dense(self, rgb: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Tell which pixels of drawn nuclei belong to one that is at least as dense as usual, bool (h, w)."""
        return (mean_densities(rgb, labels, self.table) >= self.usual)[labels] & (labels > 0)


def missed_nuclei(scales: Sequence[Any], mpp: tuple[float, float], known: np.ndarray, grid: Grid) -> Missed:
    """Find what looks like a nucleus beside the outlined ones, by stain and shape."""
    found = classical.segment(scales, mpp, 2048, 1)
    mine, other = shapely.STRtree(known).query(found.polygons, predicate="intersects")
    both = (shapely.make_valid(polygons) for polygons in (found.polygons[mine], known[other]))
    shared = np.bincount(mine, shapely.area(shapely.intersection(*both)), minlength=len(found.polygons))
    alone = found.polygons[shared < SHARED * shapely.area(found.polygons)]
    table, means = found.stain.table(), []
    points, start = rings_on(grid, known)
    for k in np.unique(np.linspace(0, len(known) - 1, min(SAMPLES, len(known))).astype(int)):
        ring = points[start[k] : start[k + 1]]
        low = np.maximum(np.floor(ring.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(ring.max(axis=0)).astype(int) + 1, grid.shape[::-1])
        if (high > low).all():
            rgb = grid.read(scales[0], (low[1], high[1]), (low[0], high[0]))
            drawn = draw(points, start, np.array([k]), (low[1], low[0]), rgb.shape[:2])
            means.append(mean_densities(rgb, drawn, table)[-1])
    return Missed(alone, table, float(np.median(means)) if means else np.inf)


def mean_densities(rgb: np.ndarray, labels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the mean density of haematoxylin of each label, (n + 1,); 0 for one without pixels."""
    dense = np.empty(labels.shape, np.float32)
    kernels.density(np.ascontiguousarray(rgb), table, dense)
    return np.bincount(labels.ravel(), dense.ravel()) / np.maximum(np.bincount(labels.ravel()), 1)


HED = (RGB_FROM_HED / np.linalg.norm(RGB_FROM_HED, axis=1, keepdims=True)).astype(np.float32)
DENSITY = stain.optical_density().astype(np.float32)


def jitter(rgb: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Multiply the density of each stain (haematoxylin, eosin, rest) by ``scale`` (3,): (..., 3) uint8 to uint8."""
    change = np.linalg.inv(HED) @ np.diag(scale.astype(np.float32)) @ HED
    return np.clip(256 * np.exp(-(DENSITY[rgb] @ change)) - 1, 0, 255).astype(np.uint8)


def turn(patch: np.ndarray, view: int) -> np.ndarray:
    """Turn a patch of a field by view 4 · mirror + quarter turns anticlockwise; the distances turn with it."""
    patch = patch.copy()
    if view >= 4:
        patch = patch[:, ::-1].copy()
        patch[..., ACROSS] = 2 * SCALE - patch[..., ACROSS]
    for _ in range(view % 4):
        patch = np.rot90(patch).copy()
        across = patch[..., ACROSS].copy()
        patch[..., ACROSS] = patch[..., ALONG]
        patch[..., ALONG] = 2 * SCALE - across
    return patch


def read_patches(fields: Sequence[Field], places: np.ndarray, side: int) -> np.ndarray:
    """Read patches, uint8 (n, side, side, 7); ``places``: (n, 3) field, row and column."""
    return np.stack([fields[k].pixels[row : row + side, column : column + side] for k, row, column in places])


def all_places(fields: Sequence[Field], part: str) -> np.ndarray:
    """Return where patches of a part may begin in all fields, (n, 3): field, row, column."""
    each = [np.insert(field.origins[part], 0, k, axis=1) for k, field in enumerate(fields)]
    return np.concatenate(each)
