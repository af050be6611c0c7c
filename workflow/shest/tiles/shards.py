"""Tile shards on disk: one file an image block, whole or not there, the same bytes on any number of threads.

A shard is a safetensors file with the cells' windows and masks. Its bytes depend on its cells, their outlines and
their pixels alone. A run that was interrupted finds the shards of its first half, sees by their digest that they
are what it would write, and leaves them.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

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
        The nuclei's outlines, as :func:`shest.tissue.cells.read_outlines` gives them.
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
    origins = np.stack(window_origin(*centres.T, *window), axis=1).reshape(-1, 2)
    blocks = make_blocks(*centres.T, origins, window, block_px)

    def one(block: Block, pixels: np.ndarray) -> dict:
        windows = cut(block, pixels, origins, window)
        outlines, begins = take_outlines(points, start, block.cells)
        masks = rasterise(outlines, begins, origins[block.cells], window)
        path = folder / f"{block.name}{SUFFIX}"
        digest = write_shard(path, windows, masks)
        return {"file": path.name, "sha256": digest, "cells": cell_ids[block.cells].tolist()}

    written = each_block(blocks, image, one, threads, "tiles")
    for stray in set(folder.glob(f"*{SUFFIX}")) - {folder / entry["file"] for entry in written}:
        stray.unlink()
    return written


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
