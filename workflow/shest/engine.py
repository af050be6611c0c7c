"""The embedding engine: tile shards in, cache parts out, every cell and view encoded once.

Imports torch, NumPy, numba and safetensors only, so that it runs on a bare GPU node.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from shest import cache, console, tiles
from shest.encoders import MORPHOMETRICS, TILE, Entry, Morphometrics, build

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
BATCHES = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)
BATCH_ON_CPU = 16
MEMORY_SHARE = 0.85  # of the GPU's memory that a batch may take


def device() -> torch.device:
    """Return the one device that a job uses: the first visible GPU, else the CPU."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


class Backbone:
    """A frozen timm backbone on one device, with tile assembly and normalisation in front.

    Parameters
    ----------
    model
        Maps (n, 3, input_px, input_px) to (n, features).
    entry
        Normalisation and input size.
    precision
        ``fp32``, ``bf16`` or ``fp16``.
    batch
        Tiles at once; smaller batches are padded to it, so that a tile's bytes do not depend on its company.
    """

    def __init__(self, model: Any, entry: Entry, precision: str, batch: int, where: torch.device) -> None:
        self.entry, self.batch, self.where, self.dim = entry, batch, where, entry.features
        self.precision = precision
        self.dtype = DTYPES.get(precision, torch.float32)
        self.model = model.to(where, self.dtype if where.type == "cuda" else torch.float32)
        if where.type == "cuda":
            self.model = self.model.to(memory_format=torch.channels_last)
        self.mean = torch.tensor(entry.mean, device=where).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(entry.std, device=where).view(1, 3, 1, 1) * 255

    def describe(self) -> str:
        """Say what encodes where."""
        name = torch.cuda.get_device_name(self.where) if self.where.type == "cuda" else "CPU (no GPU seen: slow)"
        return f"{self.entry.name} on {name}, {self.precision}, batch {self.batch}"

    def normalise(self, quadruple: torch.Tensor) -> torch.Tensor:
        """Turn uint8 tiles (n, 3, 224, 224) into the model's input."""
        x = (quadruple.to(torch.float32) - self.mean) / self.std
        if self.entry.input_px != TILE:
            x = F.interpolate(x, size=(self.entry.input_px,) * 2, mode="bilinear", align_corners=False, antialias=True)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the model, (n, 3, p, p) -> (n, features) float32."""
        if self.where.type == "cuda":
            return self.model(x.to(self.dtype, memory_format=torch.channels_last)).float()
        mixed = torch.autocast("cpu", self.dtype) if self.precision != "fp32" else nullcontext()
        with mixed:
            return self.model(x).float()

    def assemble(self, windows: np.ndarray, masks: np.ndarray, view: int) -> torch.Tensor:
        """Make the tiles of a batch on the device, uint8 (n, 3, 224, 224)."""
        if self.where.type == "cuda":
            return tiles.turn(tiles.assemble_torch(windows, masks, self.where), view)
        quadruple = torch.from_numpy(tiles.assemble(windows, masks, torch.get_num_threads()))
        return tiles.turn(quadruple.permute(0, 3, 1, 2), view)

    @torch.inference_mode()
    def encode(self, windows: np.ndarray, masks: np.ndarray, view: int) -> torch.Tensor:
        """Encode at most ``batch`` cells, (n, h, w, 3) and (n, 1568) -> (n, features) float16 on the device."""
        n = len(windows)
        padded = np.resize(np.arange(n), self.batch) if n < self.batch else slice(None)
        x = self.normalise(self.assemble(windows[padded], masks[padded], view))
        return self.forward(x)[:n].to(torch.float16)


def load(record: dict, threads: int) -> "Backbone | Morphometrics":
    """Make the encoder that ``encoder.json`` describes."""
    if record["kind"] == MORPHOMETRICS:
        return Morphometrics(record, threads)
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    settings, entry = record["settings"], Entry(**record["entry"])
    where = device()
    if settings["device"] != where.type:
        console.log.warning(f"WARNING chosen on a {settings['device']}, running on a {where.type}: bytes may differ")
    model = build(entry, Path(record["weights"]) if record["weights"] else None)
    return Backbone(model, entry, settings["precision"], settings["batch"], where)


def largest_batch(model: Any, entry: Entry, precision: str, where: torch.device) -> int:
    """Find the largest batch, a power of two, that fits the memory of the GPU; a fixed one on a CPU."""
    if where.type != "cuda":
        return BATCH_ON_CPU
    total = torch.cuda.get_device_properties(where).total_memory
    for batch in BATCHES:
        try:
            torch.cuda.reset_peak_memory_stats(where)
            backbone = Backbone(model, entry, precision, batch, where)
            with torch.inference_mode():
                backbone.forward(backbone.normalise(torch.zeros((batch, 3, TILE, TILE), dtype=torch.uint8, device=where)))
            if torch.cuda.max_memory_reserved(where) <= MEMORY_SHARE * total:
                return batch
        except torch.cuda.OutOfMemoryError:
            pass
        torch.cuda.empty_cache()
    raise RuntimeError(f"{entry.name} does not fit the memory of {torch.cuda.get_device_name(where)}")


def encode_cells(encoder: Any, windows: np.ndarray, masks: np.ndarray, view: int, advance: Any) -> np.ndarray:
    """Encode cells batch by batch -> (n, dim) float16; results are fetched while the next batch runs."""
    out = np.empty((len(windows), encoder.dim), np.float16)
    waiting: list[tuple[slice, Any]] = []

    def fetch() -> None:
        part, values = waiting.pop(0)
        out[part] = values.cpu().numpy() if isinstance(values, torch.Tensor) else values
        advance(part.stop - part.start)

    for start in range(0, len(windows), encoder.batch):
        part = slice(start, min(start + encoder.batch, len(windows)))
        waiting.append((part, encoder.encode(windows[part], masks[part], view)))
        if len(waiting) > 1:
            fetch()
    while waiting:
        fetch()
    return out


Work = tuple[dict, int, np.ndarray | None]  # entry of tiles.json, view, rows (None: all cells)


def outstanding(work: list[Work], folder: str | Path, fingerprint: str) -> list[Work]:
    """Return the part of the work that the cache does not hold yet; no cell and view twice."""
    left = []
    for shard, view, rows in work:
        wanted = np.arange(len(shard["cells"])) if rows is None else rows
        missing = cache.missing_rows(folder, fingerprint, shard["sha256"], view, wanted)
        if len(missing):
            left.append((shard, view, None if len(missing) == len(shard["cells"]) else missing))
    return left


def prefetch(work: list[Work], tile_folder: Path) -> Iterator[tuple[Work, np.ndarray, np.ndarray]]:
    """Read shards one ahead of the encoder."""

    def read(item: Work) -> tuple[np.ndarray, np.ndarray]:
        windows, masks = tiles.read_shard(tile_folder / item[0]["file"])
        return (windows, masks) if item[2] is None else (windows[item[2]], masks[item[2]])

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(read, work[0]) if work else None
        for position, item in enumerate(work):
            windows, masks = ahead.result()
            if position + 1 < len(work):
                ahead = pool.submit(read, work[position + 1])
            yield item, windows, masks


def run(record: dict, work: list[Work], tile_folder: str | Path, folder: str | Path, threads: int) -> int:
    """Encode what is missing of the work into the cache.

    Parameters
    ----------
    record
        Content of ``encoder.json``.
    work
        Shards (entries of tiles.json), views and rows.
    tile_folder
        Where the shards lie.
    folder
        The cache.

    Returns
    -------
    int
        Cells and views encoded; 0 if the cache held everything.
    """
    left = outstanding(work, folder, record["fingerprint"])
    total = sum(len(shard["cells"]) if rows is None else len(rows) for shard, _, rows in left)
    held = sum(len(shard["cells"]) if rows is None else len(rows) for shard, _, rows in work) - total
    console.log.info(f"the cache holds {held:,} of {held + total:,} embeddings")
    if not left:
        return 0
    encoder = load(record, threads)
    console.log.info(f"encoding with {encoder.describe()}")
    with console.track(total, "embed", "images") as advance:
        for (shard, view, rows), windows, masks in prefetch(left, Path(tile_folder)):
            values = encode_cells(encoder, windows, masks, view, advance)
            path = cache.part_path(folder, record["fingerprint"], shard["sha256"], view, rows)
            cache.write_part(path, values, rows)
    return total


def index(record: dict, sample: str, work: list[Work], folder: str | Path) -> dict:
    """Describe which cache parts hold the work's cells and views: the content of ``embeddings.json``."""
    shards: dict[str, dict] = {}
    for shard, view, rows in work:
        entry = shards.setdefault(
            shard["sha256"], {"file": shard["file"], "sha256": shard["sha256"], "cells": shard["cells"], "parts": []}
        )
        for path in cache.parts_for(folder, record["fingerprint"], shard["sha256"], view, rows):
            entry["parts"].append({"view": view, "file": str(path.relative_to(folder))})
    return {
        "sample": sample,
        "encoder": record["name"],
        "fingerprint": record["fingerprint"],
        "dim": record["dim"],
        "invariant": record["invariant"],
        "cache": str(folder),
        "shards": list(shards.values()),
    }
