"""Tile shards on disk: one file an image block, whole or not there, the same bytes on any number of threads.

A shard is a safetensors file with the cells' windows and masks. Its bytes depend on its cells, their outlines and
their pixels alone. A run that was interrupted finds the shards of its first half, sees by their digest that they
are what it would write, and leaves them.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

from shest.core import files
from shest.tiles.blocks import Block, cut, each_block, make_blocks
from shest.tiles.quadruple import window_origin
from shest.tiles.raster import rasterise

SUFFIX = ".safetensors"


def serialise(tensors: dict[str, np.ndarray]) -> list[bytes | memoryview]:
    """Return a safetensors file as a list of buffers, without copying the arrays (uint8 only)."""
    header, offset, buffers = {}, 0, []
    for name, array in tensors.items():
        if array.dtype != np.uint8:
            raise TypeError(f"{name} is {array.dtype}: shards hold uint8 only")
        array = np.ascontiguousarray(array)
        header[name] = {"dtype": "U8", "shape": array.shape, "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
        buffers.append(memoryview(array.reshape(-1)))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *buffers]


def write_shard(path: Path, windows: np.ndarray, masks: np.ndarray) -> str:
    """Write a shard, unless the same bytes are there already; return its SHA-256.

    Parameters
    ----------
    path
        Of the shard.
    windows
        uint8 (n, h, w, 3).
    masks
        uint8 (n, 1568).
    """
    buffers = serialise({"masks": masks, "windows": windows})
    digest = hashlib.sha256()
    for buffer in buffers:
        digest.update(buffer)
    size = sum(len(buffer) for buffer in buffers)
    there = path.is_file() and path.stat().st_size == size and files.sha256(path) == digest.hexdigest()
    if not there:
        with files.atomic_write(path) as tmp_path, open(tmp_path, "wb") as handle:
            handle.writelines(buffers)
    return digest.hexdigest()


def write_shards(
    folder: str | Path,
    image: Any,
    cell_ids: np.ndarray,
    centres: np.ndarray,
    points: np.ndarray,
    start: np.ndarray,
    window: tuple[int, int],
    block_px: int,
    threads: int,
) -> list[dict]:
    """Write the shards of a slide's cells, block by block; remove those of earlier runs that have no place.

    Parameters
    ----------
    folder
        Of the shards; made if missing.
    image
        (3, height, width) uint8, NumPy or Zarr array.
    cell_ids
        (n,) str, sorted.
    centres
        float64 (n, 2): nucleus centroids, x and y in H&E px.
    points, start
        The nuclei's outlines, as :func:`shest.io.outlines.read_outlines` gives them.
    window
        Height and width of the windows, px.
    block_px
        Side of the image blocks, px.
    threads
        Blocks worked on at once.

    Returns
    -------
    For each shard, by block row and column: ``file``, ``sha256``, ``cells``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    blocks, tiles = tile_blocks(centres, points, start, window, block_px)

    def one(block: Block, pixels: np.ndarray) -> dict:
        windows, masks = tiles(block, pixels)
        path = folder / f"{block.name}{SUFFIX}"
        digest = write_shard(path, windows, masks)
        return {"file": path.name, "sha256": digest, "cells": cell_ids[block.cells].tolist()}

    written = each_block(blocks, image, one, threads, "tiles")
    for stray in set(folder.glob(f"*{SUFFIX}")) - {folder / entry["file"] for entry in written}:
        stray.unlink()
    return written


def tile_blocks(
    centres: np.ndarray, points: np.ndarray, start: np.ndarray, window: tuple[int, int], block_px: int
) -> tuple[list[Block], Callable[[Block, np.ndarray], tuple[np.ndarray, np.ndarray]]]:
    """Return the blocks of a slide's cells, and what makes windows and masks of the cells of one out of its pixels.

    Parameters as of :func:`write_shards`; what is made is what :func:`read_shard` reads.
    """
    origins = np.stack(window_origin(*centres.T, *window), axis=1).reshape(-1, 2)

    def tiles(block: Block, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outlines, begins = take_outlines(points, start, block.cells)
        return cut(block, pixels, origins, window), rasterise(outlines, begins, origins[block.cells], window)

    return make_blocks(*centres.T, origins, window, block_px), tiles


def take_outlines(points: np.ndarray, start: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points and starts of some cells' outlines."""
    lengths = np.diff(start)[cells]
    begins = np.concatenate([[0], np.cumsum(lengths)])
    where = np.repeat(start[cells] - begins[:-1], lengths) + np.arange(begins[-1])
    return points[where], begins


def index(window: tuple[int, int], window_um: float, mpp: tuple[float, float], written: list[dict]) -> dict:
    """Return the content of ``tiles.json``, the file that says that all shards are there."""
    return {
        "window": [int(side) for side in window],
        "window_um": float(window_um),
        "mpp": [float(size) for size in mpp],
        "shards": written,
    }


def read_index(path: str | Path) -> dict:
    """Read ``tiles.json``: window ([h, w] px), window_um, mpp ([x, y]), shards (file, sha256, cells)."""
    return files.read_json(path)


def read_shard(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a shard's windows, uint8 (n, h, w, 3), and packed masks, uint8 (n, 1568)."""
    tensors = load_file(path)
    return tensors["windows"], tensors["masks"]


def read_rows(path: str | Path, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return windows and masks of some units of a shard, without reading the others."""
    with safe_open(path, framework="numpy") as handle:
        parts = [handle.get_slice(name) for name in ("windows", "masks")]
        windows, masks = (np.concatenate([part[row : row + 1] for row in rows]) for part in parts)
    return windows, masks


class Windows:
    """Windows and masks of units, read from their shards when asked for.

    Parameters
    ----------
    indices
        Paths of ``tiles.json`` files, in ``samples/{sample}/tiles``.
    units
        (n,) the units in the order in which they are asked for: (sample, cell_id).
    """

    dim, fingerprint, orientation_invariant = 0, "", False

    def __init__(self, indices: Sequence[str | Path], units: Sequence[tuple[str, str]]) -> None:
        position = {unit: i for i, unit in enumerate(units)}
        self._files: list[Path] = []
        self._file, self._row = np.full(len(units), -1), np.zeros(len(units), np.int64)
        for path in map(Path, indices):
            sample = path.parent.parent.name
            for shard in read_index(path)["shards"]:
                where = [(position.get((sample, cell)), row) for row, cell in enumerate(shard["cells"])]
                for place, row in where:
                    if place is not None:
                        self._file[place], self._row[place] = len(self._files), row
                self._files.append(path.parent / shard["file"])

    def take(self, units: np.ndarray, views: np.ndarray | int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return windows, uint8 (k, h, w, 3), and packed masks, uint8 (k, 1568), as they stand in the slide."""
        files, rows = self._file[units], self._row[units]
        if (files < 0).any():
            raise KeyError(f"{int((files < 0).sum())} of these units have no tile")
        parts: list[tuple[np.ndarray, np.ndarray]] = [None] * len(files)
        for file in np.unique(files):
            places = np.flatnonzero(files == file)
            windows, masks = read_rows(self._files[file], rows[places].tolist())
            for place, window, mask in zip(places, windows, masks, strict=True):
                parts[place] = (window, mask)
        return tuple(np.stack(column) for column in zip(*parts, strict=True))
