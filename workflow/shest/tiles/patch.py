"""Patches: plain windows of the slide around units, for systems that look at pixels themselves.

A patch has a side in µm and, resampled, a number of pixels; slides of other pixel sizes give patches alike. One whose
window already has that number of pixels is a slice of the image. The patches of a block of the slide are one ``.npy``
file, which is mapped into memory when it is read. A window that reaches over the slide's edge is filled up by
mirroring, and its unit is noted: every unit has a patch, and none has a made-up one without a word.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from shest.core import files
from shest.tiles.blocks import Block, each_block, make_blocks
from shest.tiles.quadruple import window_origin, window_shape

SUFFIX = ".npy"
PADDED = "the window reaches over the slide's edge: filled up by mirroring"


class PatchSize(NamedTuple):
    """Side of the window, µm, and of the patch that it becomes, px."""

    side_um: float
    px: int

    @property
    def name(self) -> str:
        """Name of its folder: ``68um_224px``."""
        return f"{self.side_um:g}um_{self.px}px"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "PatchSize":
        """Return the patch that the settings of a system ask for."""
        return cls(float(settings["side_um"]), int(settings["px"]))

    @classmethod
    def parse(cls, name: str) -> "PatchSize":
        """Return the patch that a :attr:`name` means."""
        side, px = re.fullmatch(r"(.+)um_(\d+)px", name).groups()
        return cls(float(side), int(px))


def mirrored(first: np.ndarray, side: int, length: int) -> np.ndarray:
    """Return the pixels along an axis of ``length`` that windows from ``first`` (n,) on show, int64 (n, side).

    Beyond an end the axis is mirrored about its last pixel.
    """
    period = max(2 * (length - 1), 1)
    place = np.abs(first[:, None] + np.arange(side)) % period
    return np.minimum(place, period - place) if length > 1 else np.zeros_like(place)


def resample(window: np.ndarray, px: int) -> np.ndarray:
    """Bring a window, uint8 (h, w, 3), to (px, px, 3): bilinear, over as many pixels as become one; or as it is."""
    if window.shape[:2] == (px, px):
        return window
    return np.asarray(Image.fromarray(np.ascontiguousarray(window)).resize((px, px), Image.Resampling.BILINEAR))


def write_patches(
    folder: str | Path,
    image: Any,
    ids: np.ndarray,
    centres: np.ndarray,
    size: PatchSize,
    mpp: tuple[float, float],
    block_px: int,
    threads: int,
) -> dict[str, Any]:
    """Write the patches of a slide's units, block by block; memory does not grow with their number.

    Parameters
    ----------
    folder
        Of the shards; made if missing. Shards of earlier runs that have no place are removed.
    image
        (3, height, width) uint8, NumPy or Zarr array.
    ids
        (n,) str.
    centres
        float64 (n, 2): x and y of the units, H&E px, pixel centres at integers; within the image.
    mpp
        µm per px along x and y.
    block_px
        Side of the blocks, px.
    threads
        Blocks worked on at once.

    Returns
    -------
    dict
        Content of ``patches.json``: ``side_um``, ``px``, ``window`` (height and width, px of the slide), ``mpp``,
        ``shards`` (``file``, ``sha256``, ``units``), ``padded`` (ids) and ``padded_reason``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    window = window_shape(size.side_um, *mpp)
    origins = np.stack(window_origin(*centres.T, *window), axis=1).reshape(-1, 2)
    rows, columns = (mirrored(origins[:, 1 - k], window[k], image.shape[1 + k]) for k in range(2))

    def one(block: Block, pixels: np.ndarray) -> dict[str, Any]:
        path = folder / f"{block.name}{SUFFIX}"
        with files.atomic_write(path) as tmp_path:
            shape = (len(block.cells), size.px, size.px, 3)
            out = np.lib.format.open_memmap(tmp_path, "w+", np.uint8, shape)
            for k, unit in enumerate(block.cells):
                window_pixels = pixels[:, rows[unit] - block.top][:, :, columns[unit] - block.left]
                out[k] = resample(np.moveaxis(window_pixels, 0, -1), size.px)
            out.flush()
            del out
        return {"file": path.name, "sha256": files.sha256(path), "units": ids[block.cells].tolist()}

    blocks = [within(b, rows, columns) for b in make_blocks(*centres.T, origins, window, block_px)]
    written = each_block(blocks, image, one, threads, "patches")
    for stray in set(folder.glob(f"*{SUFFIX}")) - {folder / entry["file"] for entry in written}:
        stray.unlink()
    limits = np.array(image.shape[:0:-1])
    over = (origins < 0).any(axis=1) | (origins + window[::-1] > limits).any(axis=1)
    return {
        "side_um": size.side_um,
        "px": size.px,
        "window": [int(side) for side in window],
        "mpp": [float(value) for value in mpp],
        "shards": written,
        "padded": sorted(ids[over].tolist()),
        "padded_reason": PADDED,
    }


def within(block: Block, rows: np.ndarray, columns: np.ndarray) -> Block:
    """Return a block whose part of the image is what its units' patches show, none of it beyond the image."""
    rows, columns = rows[block.cells], columns[block.cells]
    return replace(
        block, top=int(rows.min()), bottom=int(rows.max()) + 1, left=int(columns.min()), right=int(columns.max()) + 1
    )


class Patches:
    """Patches of units, out of shards that are mapped into memory.

    Parameters
    ----------
    indices
        Paths of ``patches.json``, in ``samples/{sample}/patches/{window}``.
    units
        (n,) the units in the order in which they are asked for: sample and id.

    Attributes
    ----------
    px
        Side of a patch.
    units
        Sample and id of each.
    digests
        SHA-256 of each shard.
    """

    dim, fingerprint, orientation_invariant = 0, "", False

    def __init__(self, indices: Sequence[str | Path], units: Sequence[tuple[str, str]]) -> None:
        position = {unit: i for i, unit in enumerate(units)}
        self.units, self.px, self.digests = list(units), 0, []
        self._shards: list[np.ndarray | Path] = []
        self._shard, self._row = np.full(len(units), -1), np.zeros(len(units), np.int64)
        for path in map(Path, indices):
            index, sample = files.read_json(path), path.parents[2].name
            self.px = index["px"]
            for shard in index["shards"]:
                for row, unit in enumerate(shard["units"]):
                    place = position.get((sample, unit))
                    if place is not None:
                        self._shard[place], self._row[place] = len(self._shards), row
                self._shards.append(path.parent / shard["file"])
                self.digests.append(shard["sha256"])

    def _open(self, number: int) -> np.ndarray:
        shard = self._shards[number]
        if isinstance(shard, Path):
            self._shards[number] = shard = np.load(shard, mmap_mode="r")
        return shard

    def take(self, units: np.ndarray, views: np.ndarray | int = 0) -> "Taken":
        """Return some units' patches, which are read when they are looked at.

        Raises
        ------
        KeyError
            A unit has none.
        """
        lacking = int((self._shard[units] < 0).sum())
        if lacking:
            raise KeyError(f"{lacking} of these units have no patch")
        return Taken(self, np.asarray(units))

    def read(self, units: np.ndarray) -> np.ndarray:
        """Read patches as they stand in the slide, RGB, uint8 (k, px, px, 3)."""
        shards, rows = self._shard[units], self._row[units]
        out = np.empty((len(shards), self.px, self.px, 3), np.uint8)
        for number in np.unique(shards):
            places = np.flatnonzero(shards == number)
            out[places] = self._open(number)[rows[places]]
        return out


class Taken:
    """Patches of some units: ``len`` of them; a slice of it is an array, uint8 (k, px, px, 3)."""

    def __init__(self, source: Patches, units: np.ndarray) -> None:
        self._source, self._units = source, units

    @property
    def samples(self) -> list[str]:
        """Sample of each."""
        return [self._source.units[unit][0] for unit in self._units]

    def part(self, rows: np.ndarray) -> "Taken":
        """Return some of them, by their places."""
        return Taken(self._source, self._units[rows])

    def __len__(self) -> int:
        return len(self._units)

    def __getitem__(self, part: slice) -> np.ndarray:
        return self._source.read(self._units[part])


class Cut:
    """Patches in memory, of one sample: to a system the same as :class:`Taken`."""

    def __init__(self, patches: np.ndarray, sample: str) -> None:
        self._patches, self.samples = patches, [sample] * len(patches)

    def __len__(self) -> int:
        return len(self._patches)

    def __getitem__(self, part: slice) -> np.ndarray:
        return self._patches[part]
