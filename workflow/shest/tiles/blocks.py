"""The slide by blocks: which cells a block holds, its pixels read once, the cells' windows cut out of them.

A cell belongs to the block that its centroid lies in; the block is read with the halo that its cells' windows
reach into. Memory depends on the block and on how many are worked on at once, not on the slide.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from shest.core import console

LUMA = (299, 587, 114)  # ITU-R 601, thousandths of R, G and B


@dataclass(frozen=True)
class Block:
    """One block of the image.

    Attributes
    ----------
    row, column
        Place among the blocks.
    cells
        int64 (n,): positions of its cells in the arrays that the blocks were made of, ascending.
    top, bottom, left, right
        The part of the image, in px, that the windows of its cells cover.
    """

    row: int
    column: int
    cells: np.ndarray
    top: int
    bottom: int
    left: int
    right: int

    @property
    def name(self) -> str:
        """Name for files, that sorts as the blocks do."""
        return f"r{self.row:04d}c{self.column:04d}"


def make_blocks(
    x: np.ndarray, y: np.ndarray, origins: np.ndarray, window: tuple[int, int], block_px: int
) -> list[Block]:
    """Group cells by the block of their centroid; by block row, then block column. Empty blocks are left out.

    Parameters
    ----------
    x, y
        Centroids (n,), H&E px.
    origins
        int64 (n, 2): x and y of the first pixel of each cell's window.
    window
        Height and width of the windows, px.
    block_px
        Side of a block, px.
    """
    row = np.floor(np.asarray(y) + 0.5).astype(np.int64) // block_px
    column = np.floor(np.asarray(x) + 0.5).astype(np.int64) // block_px
    order = np.lexsort((column, row))
    changes = (np.diff(row[order]) != 0) | (np.diff(column[order]) != 0)
    blocks = []
    for cells in np.split(order, np.flatnonzero(changes) + 1) if len(order) else []:
        (left, top), (last_x, last_y) = origins[cells].min(axis=0), origins[cells].max(axis=0)
        edges = (int(n) for n in (top, last_y + window[0], left, last_x + window[1]))
        blocks.append(Block(int(row[cells[0]]), int(column[cells[0]]), cells, *edges))
    return blocks


def each_block(
    blocks: Sequence[Block], image: Any, work: Callable[[Block, np.ndarray], Any], threads: int, what: str
) -> list[Any]:
    """Read every block once and call ``work(block, pixels)`` on it, ``threads`` blocks at a time.

    Parameters
    ----------
    blocks
        As :func:`make_blocks` makes them.
    image
        (3, height, width) uint8, sliced as a NumPy or Zarr array is.
    work
        Gets the block and its pixels, uint8 (3, bottom − top, right − left). Holds what it returns only.
    threads
        Blocks worked on at once.
    what
        What is done, for the progress.

    Returns
    -------
    What ``work`` returned, in the order of the blocks.
    """
    with console.track(sum(len(block.cells) for block in blocks), what) as advance:
        results = []
        for block, result in stream_blocks(blocks, image, work, threads):
            results.append(result)
            advance(len(block.cells))
    return results


def stream_blocks(
    blocks: Sequence[Block], image: Any, work: Callable[[Block, np.ndarray], Any], threads: int
) -> Iterator[tuple[Block, Any]]:
    """Yield every block with what ``work`` returned, in their order; parameters as of :func:`each_block`.

    At most ``threads`` blocks are worked on or wait to be taken beside the one that was yielded: memory does not grow
    with the slide, and the next block is read while the last one is used.
    """

    def one(block: Block) -> Any:
        return work(block, np.asarray(image[:, block.top : block.bottom, block.left : block.right]))

    waiting: deque[tuple[Block, Future]] = deque()
    with ThreadPoolExecutor(max(1, threads)) as pool:
        try:
            for block in blocks:
                waiting.append((block, pool.submit(one, block)))
                if len(waiting) > max(1, threads):
                    first, result = waiting.popleft()
                    yield first, result.result()
            while waiting:
                first, result = waiting.popleft()
                yield first, result.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _cut(pixels, origins, windows):
    height, width = windows.shape[1], windows.shape[2]
    for cell in range(len(origins)):
        x, y = origins[cell]
        for row in range(height):
            for column in range(width):
                for channel in range(3):
                    windows[cell, row, column, channel] = pixels[channel, y + row, x + column]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _luma(pixels, origins, height, width, out):
    for cell in range(len(origins)):
        x, y = origins[cell]
        total = 0
        for channel in range(3):
            part = 0
            for row in range(height):
                for column in range(width):
                    part += pixels[channel, y + row, x + column]
            total += LUMA[channel] * part
        out[cell] = total / (1000 * height * width)


def cut(block: Block, pixels: np.ndarray, origins: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """Cut the windows of a block's cells out of its pixels: uint8 (n, h, w, 3), in the order of its cells."""
    windows = np.empty((len(block.cells), *window, 3), np.uint8)
    _cut(np.ascontiguousarray(pixels), origins[block.cells] - (block.left, block.top), windows)
    return windows


def mean_grey(block: Block, pixels: np.ndarray, origins: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """Return the mean grey value (ITU-R 601 luma, 0 to 255) of each window of a block's cells, float64 (n,)."""
    grey = np.empty(len(block.cells))
    _luma(np.ascontiguousarray(pixels), origins[block.cells] - (block.left, block.top), *window, grey)
    return grey
