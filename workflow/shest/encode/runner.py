"""The runner of encoders: tile shards in, cache parts out, every cell and view encoded once.

Imports NumPy, numba and safetensors only, and torch where the encoder wants it, so that it runs on a bare GPU node.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from shest.core import console
from shest.core.files import digest, sha256
from shest.encode import cache
from shest.encode.device import device
from shest.encode.spec import MORPHOMETRICS, spec_of
from shest.encode.weights import find_weights, with_colours
from shest.tiles import patch, quadruple, shards

PATCH_VERSION = 1  # raise it whenever patches are brought to an encoder in another way


def prepare(entry: Mapping[str, Any], precision: str, batch: int | str) -> dict:
    """Settle everything about an encoder: find its weights, choose precision and batch size, take its fingerprint.

    Parameters
    ----------
    entry
        Of the config, completed.
    precision
        ``auto`` (bf16 on a GPU, fp32 on a CPU), ``fp32``, ``bf16``, ``fp16``.
    batch
        Tiles at once, or ``auto``: what the memory holds.

    Returns
    -------
    dict
        The record that ``encoder.json`` holds and :func:`load` takes. ``settings`` is all that the embeddings depend
        on but the pixels, and ``fingerprint`` its digest.
    """
    if entry["name"] == MORPHOMETRICS:
        from shest.encode import morphometrics

        names = morphometrics.feature_names()
        settings = {"name": MORPHOMETRICS, "version": morphometrics.VERSION, "features": names}
        return _record(MORPHOMETRICS, MORPHOMETRICS, len(names), settings)
    from shest.encode import timm_encoder

    spec = spec_of(entry)
    weights = find_weights(spec)
    spec, where = with_colours(spec, weights), device()
    if precision == "auto":
        precision = "bf16" if where.type == "cuda" else "fp32"
    if batch == "auto":
        batch = timm_encoder.largest_batch(timm_encoder.build(spec, weights), spec, precision, where)
    settings = {
        "architecture": spec.architecture,
        "arguments": spec.arguments,
        "weights_sha256": sha256(weights) if weights else "random",
        "mean": spec.mean,
        "std": spec.std,
        "input_px": spec.input_px,
        "features": spec.features,
        "precision": precision,
        "batch": batch,
        "device": where.type,
    }
    return _record(spec.name, "timm", spec.features, settings) | {
        "entry": asdict(spec),
        "weights": str(weights) if weights else None,
    }


def _record(name: str, kind: str, dim: int, settings: dict) -> dict:
    settings = settings | {"assembly": quadruple.VERSION}
    return {
        "name": name,
        "kind": kind,
        "dim": dim,
        "orientation_invariant": kind == MORPHOMETRICS,
        "fingerprint": digest(settings),
        "settings": settings,
    }


def for_patches(record: dict) -> dict:
    """Return the record of an encoder that is given plain patches in the place of tiles.

    A timm encoder resizes them to its input; ``morphometrics`` computes colour and texture without outlines.
    """
    settings, dim = record["settings"] | {"assembly": f"patch {PATCH_VERSION}"}, record["dim"]
    if record["kind"] == MORPHOMETRICS:
        from shest.encode import morphometrics

        names = morphometrics.patch_names()
        settings, dim = settings | {"features": names}, len(names)
    return record | {"patches": True, "dim": dim, "settings": settings, "fingerprint": digest(settings)}


def patch_work(index: Mapping[str, Any]) -> list["Work"]:
    """Return what there is to encode of a sample's ``patches.json``: every unit as it stands."""
    return [({"file": s["file"], "sha256": s["sha256"], "cells": s["units"]}, 0, None) for s in index["shards"]]


def load(record: dict, threads: int) -> Any:
    """Make the encoder that ``encoder.json`` describes, or :func:`for_patches` made of it."""
    if record["kind"] == MORPHOMETRICS:
        from shest.encode.morphometrics import Morphometrics

        return Morphometrics(threads, record.get("patches", False))
    import torch

    from shest.encode import timm_encoder

    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    settings, spec, where = record["settings"], spec_of(record["entry"]), device()
    if settings["device"] != where.type:
        console.log.warning(f"WARNING chosen on a {settings['device']}, running on a {where.type}: bytes may differ")
    model = timm_encoder.build(spec, Path(record["weights"]) if record["weights"] else None)
    return timm_encoder.TimmEncoder(model, spec, settings["precision"], settings["batch"], where)


def encode_cells(encoder: Any, windows: np.ndarray, masks: np.ndarray | None, view: int, advance: Any) -> np.ndarray:
    """Encode cells batch by batch -> (n, dim) float16; results are fetched while the next batch runs.

    ``masks``: None of plain patches.
    """
    out = np.empty((len(windows), encoder.dim), np.float16)
    waiting: list[tuple[slice, Any]] = []

    def fetch() -> None:
        part, values = waiting.pop(0)
        out[part] = values.cpu().numpy() if hasattr(values, "cpu") else values
        advance(part.stop - part.start)

    for start in range(0, len(windows), encoder.batch):
        part = slice(start, min(start + encoder.batch, len(windows)))
        waiting.append((part, encoder.encode(windows[part], None if masks is None else masks[part], view)))
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


def prefetch(work: list[Work], tile_folder: Path) -> Iterator[tuple[Work, np.ndarray, np.ndarray | None]]:
    """Read shards, of tiles or of patches, one ahead of the encoder."""

    def read(item: Work) -> tuple[np.ndarray, np.ndarray | None]:
        path = tile_folder / item[0]["file"]
        if path.suffix == patch.SUFFIX:
            patches = np.load(path, mmap_mode="r")
            return (patches if item[2] is None else patches[item[2]]), None
        windows, masks = shards.read_shard(path)
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
    cached = sum(len(shard["cells"]) if rows is None else len(rows) for shard, _, rows in work) - total
    console.log.info(f"the cache holds {cached:,} of {cached + total:,} embeddings")
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
        "orientation_invariant": record["orientation_invariant"],
        "cache": str(folder),
        "shards": list(shards.values()),
    }
