"""A slide by blocks: windows on a working grid, and nuclei that belong to the block whose core holds their centroid.

The working grid has pixels of a stated size and begins at the corner of the image, so that it is the same for every
block. A block is read with a halo that is wider than the reach of what is done on it, so that its nuclei are those of
the whole slide: none is cut, doubled or lost at a seam.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from shest.core import console, files
from shest.io.outlines import number_ids, read_polygons, write_outlines
from shest.tissue.segment import kernels
from shest.tissue.segment.regions import TISSUE, Regions

SAME = 0.1  # a grid that differs from the image's pixels by less is the image's own


@dataclass(frozen=True)
class Grid:
    """The working grid of an image.

    Attributes
    ----------
    image
        Height and width of the image, px.
    factor
        Full-size px to a working px, rows and columns.
    mpp
        µm of a working px, rows and columns.
    """

    image: tuple[int, int]
    factor: tuple[float, float]
    mpp: tuple[float, float]

    @classmethod
    def of(cls, image: tuple[int, int], mpp: tuple[float, float], working_mpp: float) -> "Grid":
        """Lay a grid of ``working_mpp`` over an image with ``mpp`` (x, y); its own pixels where they are about that."""
        own = mpp[::-1]
        if all(abs(size / working_mpp - 1) < SAME for size in own):
            return cls(image, (1.0, 1.0), own)
        return cls(image, tuple(working_mpp / size for size in own), (working_mpp, working_mpp))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid; the last ones may reach beyond the image."""
        return tuple(int(np.ceil(n / f - 1e-9)) for n, f in zip(self.image, self.factor, strict=True))

    def read(self, pixels: Any, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        """Read a window of the grid, from and to rows and columns: (h, w, 3) uint8."""
        (top, bottom), (left, right) = (
            (max(int(np.floor(first * f)), 0), min(int(np.ceil(last * f + 1e-9)), n))
            for (first, last), f, n in zip((rows, columns), self.factor, self.image, strict=True)
        )
        part = np.asarray(pixels[:, top:bottom, left:right])
        if self.factor == (1.0, 1.0):
            return np.ascontiguousarray(np.moveaxis(part, 0, -1))
        out = np.empty((rows[1] - rows[0], columns[1] - columns[0], 3), np.uint8)
        kernels.resample(part, top, left, self.factor, (rows[0], columns[0]), out)
        return out

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Map points (n, 2), x and y in working px from the grid's corner, to H&E px, pixel centres at integers."""
        return points * self.factor[::-1] - 0.5


@dataclass(frozen=True)
class Window:
    """One block: its core in full-size px and its window on the grid, both from and to.

    ``top``, ``bottom``, ``left``, ``right``: the core. ``rows``, ``columns``: the window.
    """

    top: int
    bottom: int
    left: int
    right: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    def owns(self, centres: np.ndarray) -> np.ndarray:
        """Tell which centroids, (n, 2) H&E px, lie in the core; pixel centres are at integers."""
        x, y = centres.T + 0.5
        return (x >= self.left) & (x < self.right) & (y >= self.top) & (y < self.bottom)


def make_windows(grid: Grid, regions: Regions, block_px: int, halo: int, align: int = 1) -> list[Window]:
    """Divide an image into blocks of ``block_px`` full-size px; those without tissue in their core are left out.

    ``halo``: working px on each side. Windows begin at multiples of ``align`` working px.
    """
    windows = []
    height, width = grid.image
    for top in range(0, height, block_px):
        for left in range(0, width, block_px):
            bottom, right = min(top + block_px, height), min(left + block_px, width)
            if not _has_tissue(regions, (top, bottom, left, right)):
                continue
            rows, columns = (
                (max(int(first / f) - halo, 0) // align * align, min(int(np.ceil(last / f)) + halo, n))
                for first, last, f, n in zip((top, left), (bottom, right), grid.factor, grid.shape, strict=True)
            )
            windows.append(Window(top, bottom, left, right, rows, columns))
    return windows


def _has_tissue(regions: Regions, core: tuple[int, int, int, int]) -> bool:
    (r0, r1), (c0, c1) = (
        (int(first / f), int(np.ceil(last / f)))
        for first, last, f in zip(core[::2], core[1::2], regions.factor, strict=True)
    )
    return bool((regions.kinds[r0:r1, c0:c1] == TISSUE).any())


@dataclass(frozen=True)
class Kept:
    """Where blocks that are done wait for the others, so that a job that was killed goes on where it was.

    Attributes
    ----------
    folder
        Of this slide; what else lies there is removed.
    of
        What the nuclei depend on besides windows and slide: settings, code.
    """

    folder: Path
    of: str

    def of_slide(self, windows: Sequence[Window], regions: Regions, also: str) -> Path:
        """Return the folder for these blocks of this slide; those of others are removed."""
        slide = hashlib.sha256(regions.image.tobytes() + regions.kinds.tobytes()).hexdigest()
        folder = self.folder / files.digest([self.of, also, repr(windows), slide])[:16]
        folder.mkdir(parents=True, exist_ok=True)
        for other in self.folder.iterdir():
            if other != folder:
                files.remove(other)
        return folder


def _kept(work: Callable[[Window], np.ndarray], folder: Path) -> Callable[[Window], np.ndarray]:
    """Return ``work`` that reads what it has written into a folder before."""

    def read_or_work(window: Window) -> np.ndarray:
        path = folder / f"{window.top}_{window.left}.parquet"
        if path.is_file():
            return read_polygons(path)[1]
        polygons = work(window)
        write_outlines(path, number_ids(len(polygons)), polygons)
        return polygons

    return read_or_work


def each_window(
    windows: Sequence[Window],
    work: Callable[[Window], np.ndarray],
    threads: int,
    regions: Regions,
    keep: Path | None = None,
) -> np.ndarray:
    """Call ``work(window)``, which returns polygons in H&E px, on ``threads`` windows at a time.

    ``keep``: folder of the blocks that are done, see :class:`Kept`.

    Returns
    -------
    (n,) polygons whose centroid lies in the core of their block and on tissue, by centroid: y, then x.
    """

    outlines = work if keep is None else _kept(work, keep)

    def one(window: Window) -> tuple[np.ndarray, np.ndarray]:
        polygons = outlines(window)
        centres = shapely.get_coordinates(shapely.centroid(polygons)).reshape(-1, 2)
        mine = window.owns(centres) & (regions.at(*centres.T) == TISSUE)
        return polygons[mine], centres[mine]

    found, places = [np.empty(0, dtype=object)], [np.empty((0, 2))]
    with console.track(len(windows), "nuclei", "blocks") as advance, ThreadPoolExecutor(max(1, threads)) as pool:
        try:
            for polygons, centres in pool.map(one, windows):
                found.append(polygons)
                places.append(centres)
                advance(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    polygons, centres = np.concatenate(found), np.concatenate(places)
    return polygons[np.lexsort((centres[:, 0], centres[:, 1]))]
