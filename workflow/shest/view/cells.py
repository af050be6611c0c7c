"""The cells of a sample as the page reads them: in the order of blocks, in few bytes.

A cell's place is that of its block and 16 bits within it; what colours all cells is one byte each, in one file; what is
known of single cells (outlines, exact values) lies in one file a block.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from shest.view.site import pack

BLOCK_UM = 1024.0
STRIPS = 8  # of a block, from top to bottom; within one, cells go from left to right
WITHIN = 65_536  # steps of a place in its block
OUTLINE_STEPS = 16  # of a pixel, that vertices are rounded to
NONE = 255  # code of what is missing
STEPS = 254  # largest code of a number


@dataclass(frozen=True)
class Grid:
    """Blocks that cells lie in, and their order.

    Attributes
    ----------
    origin, side
        Upper left corner of the first block and sides of a block, (x, y) px.
    columns, rows
        Number of blocks.
    order
        (n,) positions in the table of cells: block by block, by strip and from left to right; cells that have no
        place stand last.
    start
        (columns x rows + 1,) where each block begins in that order; its last entry is the number of placed cells.
    """

    origin: tuple[float, float]
    side: tuple[float, float]
    columns: int
    rows: int
    order: np.ndarray
    start: np.ndarray

    @property
    def placed(self) -> int:
        """Number of cells that have a place."""
        return int(self.start[-1])

    def within(self, xy: np.ndarray) -> np.ndarray:
        """Return the places of the ordered, placed cells in their blocks, (placed, 2) uint16."""
        return _within(xy[self.order[: self.placed]], self.origin, self.side)[1]


def grid_of(xy: np.ndarray, shape: tuple[int, int], mpp: tuple[float, float]) -> Grid:
    """Lay blocks of :data:`BLOCK_UM` over an image and all cells, and put the cells in order.

    Parameters
    ----------
    xy
        (n, 2) centroids, H&E px; NaN of a cell without a nucleus.
    shape
        Height and width of the image, px.
    mpp
        µm per px along x and y.
    """
    side = BLOCK_UM / np.asarray(mpp, dtype=float)
    has = np.isfinite(xy).all(axis=1)
    corners = np.vstack([xy[has], [[-0.5, -0.5]], [[shape[1] - 0.5, shape[0] - 0.5]]])
    origin = np.floor(corners.min(axis=0) / side + 0.5 / side) * side - 0.5
    columns, rows = (np.floor((corners.max(axis=0) - origin) / side).astype(int) + 1).tolist()
    cell, within = _within(np.where(has[:, None], xy, origin), origin, side)
    block = np.where(has, cell[:, 1] * columns + cell[:, 0], columns * rows)
    order = np.lexsort((within[:, 0], within[:, 1] // (WITHIN // STRIPS), block))
    start = np.searchsorted(block[order], np.arange(columns * rows + 1))
    return Grid(tuple(origin.tolist()), tuple(side.tolist()), columns, rows, order, start)


def _within(xy: np.ndarray, origin: Sequence[float], side: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the block of each place, (column, row) int64, and the place in it, (x, y) uint16."""
    blocks = (xy - np.asarray(origin)) / side
    cell = np.floor(blocks)
    return cell.astype(np.int64), np.minimum((blocks - cell) * WITHIN, WITHIN - 1).astype(np.uint16)


def coded(values: pd.Series, categories: Sequence[str] | None = None) -> tuple[np.ndarray, list[str]]:
    """Return texts as codes, (n,) uint8 or uint16 (the last code: none), and what they stand for.

    Parameters
    ----------
    categories
        Their order; by default those that occur, the most frequent first.
    """
    if categories is None:
        categories = values.dropna().astype(str).value_counts().index.tolist()
    codes = pd.Categorical(values.astype(object), categories).codes
    kind = np.uint8 if len(categories) < NONE else np.uint16
    return np.where(codes < 0, np.iinfo(kind).max, codes).astype(kind), list(categories)


def scaled(values: np.ndarray, top: float) -> np.ndarray:
    """Return numbers from 0 to ``top`` as codes 0 to :data:`STEPS`, larger ones as the last; NaN as :data:`NONE`."""
    values = np.asarray(values, dtype=np.float32)
    codes = np.round(np.clip(np.nan_to_num(values) / top, 0, 1) * STEPS)
    return np.where(np.isfinite(values), codes, NONE).astype(np.uint8)


def top_of(values: np.ndarray, share: float = 1.0) -> float:
    """Return the largest of some numbers, or the one that a share of them reaches; 1 where that is nothing or 0."""
    finite = np.asarray(values)[np.isfinite(values)]
    top = float(np.quantile(finite, share)) if len(finite) else 0.0
    return top if top > 0 else (float(finite.max(initial=0)) or 1.0)


def categorical(key: str, name: str, values: pd.Series, categories: Sequence[str] | None = None) -> dict:
    """Return a colouring by category; ``values`` in the order of the grid."""
    codes, known = coded(values, categories)
    return {"key": key, "name": name, "categories": known, "codes": pack(codes)}


def numeric(key: str, name: str, values: np.ndarray, top: float | None = None) -> dict:
    """Return a colouring by number; ``values`` in the order of the grid."""
    top = top_of(values) if top is None else top
    return {"key": key, "name": name, "top": top, "codes": pack(scaled(values, top))}


@dataclass(frozen=True)
class Outlines:
    """Outlines of all cells, in few bytes.

    Attributes
    ----------
    row
        (n,) where a cell stands in ``start``; -1 of one without an outline.
    start
        (m + 1,) where each outline begins.
    vertices
        int16 (v, 2), places from the cell's centroid in steps of 1/:data:`OUTLINE_STEPS` px.
    """

    row: np.ndarray
    start: np.ndarray
    vertices: np.ndarray

    @classmethod
    def gather(cls, parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], ids: pd.Index, xy: np.ndarray) -> Self:
        """Round the outlines of :func:`shest.io.outlines.iter_outlines` part by part.

        ``ids``, ``xy``: of all cells, and their centroids, (n, 2) H&E px.
        """
        row, number, vertices, known = np.full(len(ids), -1), [np.zeros(1, np.int64)], [], 0
        limit = np.iinfo(np.int16).max
        for names, points, start in parts:
            cell, count = ids.get_indexer(names), np.diff(start)
            row[cell] = known + np.arange(len(cell))
            known += len(cell)
            steps = np.round((points - np.repeat(xy[cell], count, axis=0)) * OUTLINE_STEPS)
            vertices.append(np.clip(steps, -limit, limit).astype(np.int16))
            number.append(count)
        return cls(row, np.cumsum(np.concatenate(number)), np.concatenate([np.empty((0, 2), np.int16), *vertices]))

    def of(self, cells: np.ndarray) -> dict[str, dict]:
        """Return number and places of the vertices of some cells; a last one that is the first again is left out."""
        row = self.row[cells]
        number = np.where(row >= 0, self.start[row + 1] - self.start[row], 0)
        has = np.flatnonzero(number)
        ends = self.vertices[self.start[row[has]]], self.vertices[self.start[row[has] + 1] - 1]
        number[has] -= (ends[0] == ends[1]).all(axis=1)
        first = np.repeat(self.start[row] - (np.cumsum(number) - number), number)
        found = self.vertices[first + np.arange(number.sum())]
        return {"vertices": pack(number.astype(np.uint16)), "dx": pack(found[:, 0]), "dy": pack(found[:, 1])}


def details_of(table: pd.DataFrame) -> list[dict]:
    """Return what is known of a block's cells, column by column: numbers as they are, texts as codes."""
    parts = []
    for name in table:
        values = table[name]
        if pd.api.types.is_bool_dtype(values):
            values = values.map({True: "yes", False: "no"})
        if pd.api.types.is_numeric_dtype(values):
            parts.append({"name": name, "values": pack(values.to_numpy(np.float32))})
        else:
            codes, known = coded(values)
            parts.append({"name": name, "categories": known, "codes": pack(codes)})
    return parts


def nearest(
    take: Callable[[np.ndarray], np.ndarray], n: int, k: int = 5, among: int = 5_000, components: int = 50
) -> np.ndarray:
    """Find cells whose embeddings are nearest, in the principal components of standardised embeddings.

    Parameters
    ----------
    take
        Returns the embeddings (m, d) of positions.
    n
        Number of cells.
    among
        Neighbours are looked for among so many cells at most, spread evenly over all: time grows with n, not with n².

    Returns
    -------
    (n, at most k) int64 positions, the nearest first; fewer columns where there are fewer cells.
    """
    chosen = np.unique(np.linspace(0, n - 1, min(n, among)).round().astype(np.int64))
    k = min(k, len(chosen) - 1)
    if k < 1:
        return np.empty((n, 0), np.int64)
    sample = take(chosen).astype(np.float32)
    mean, std = sample.mean(axis=0), sample.std(axis=0)
    scale = np.where(std > 1e-6, 1 / np.maximum(std, 1e-6), 0)
    _, vectors = np.linalg.eigh(np.cov(((sample - mean) * scale).T, ddof=0))
    axes = (vectors[:, ::-1][:, :components] * scale[:, None]).astype(np.float32)
    target = (sample - mean) @ axes
    length = (target**2).sum(axis=1)
    place = np.full(n, -1)
    place[chosen] = np.arange(len(chosen))
    found = np.empty((n, k), np.int64)
    for first in range(0, n, 256):
        rows = np.arange(first, min(first + 256, n))
        own = (take(rows).astype(np.float32) - mean) @ axes
        distance = length - 2 * own @ target.T  # and the cell's own length, which orders nothing
        itself = place[rows] >= 0
        distance[np.flatnonzero(itself), place[rows[itself]]] = np.inf
        near = np.argpartition(distance, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(near, np.argsort(np.take_along_axis(distance, near, 1), axis=1), 1)
        found[rows] = chosen[near]
    return found


def informative_genes(mean_of: Mapping[str, np.ndarray], genes: Sequence[str], wanted: int) -> list[str]:
    """Choose the genes whose mean expectation differs most between predicted types, in the order of ``genes``.

    Parameters
    ----------
    mean_of
        Mean expectation of each type's cells, (genes,).
    wanted
        How many.
    """
    if len(mean_of) < 2:
        return list(genes[:wanted])
    spread = np.log1p(np.stack(list(mean_of.values()))).std(axis=0)
    best = np.sort(np.argsort(-spread, kind="stable")[:wanted])
    return [genes[i] for i in best]
