"""The engine's images/s against the bare forward pass on tensors that are already there, alternating in one run.

On a GPU: the full H-optimus-0 with random weights in bf16, and the card's own bf16 matrix rate. On a CPU: a small ViT.
Prints a table and, last, one line of JSON: ratio_to_bare, images_per_s, share_of_peak (null without a GPU), device.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from shest.core import files
from shest.encode import runner
from shest.encode.device import device
from shest.encode.spec import complete

SMALL = {"name": "small", "architecture": "vit_small_patch16_224", "weights": "random", "features": 384}
FULL = {"name": "h-optimus-0", "weights": "random"}
H_OPTIMUS_FLOP = 608e9  # an image


def matrix_rate(where: torch.device, n: int = 8192, repeats: int = 20) -> float:
    """Measure the card's bf16 matrix rate, FLOP/s, on random numbers."""
    a, b = (torch.randn(n, n, device=where, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repeats):
        a @ b
    stop.record()
    torch.cuda.synchronize()
    return 2 * n**3 * repeats / (start.elapsed_time(stop) / 1e3)


def write_shards(folder: Path, cells: int, shards: int) -> list[runner.Work]:
    """Write tile shards of random pixels."""
    rng = np.random.default_rng(0)
    work = []
    for k in range(shards):
        windows = rng.integers(0, 255, (cells // shards, 64, 64, 3), dtype=np.uint8)
        masks = np.packbits(rng.random((len(windows), 112 * 112)) < 0.2, axis=1)
        save_file({"windows": windows, "masks": masks}, folder / f"{k}")
        names = [f"{k}-{i}" for i in range(len(windows))]
        work.append(({"file": f"{k}", "sha256": files.sha256(folder / f"{k}"), "cells": names}, 0, None))
    return work


def seconds(call, where: torch.device) -> float:
    """Time a call to its last result."""
    if where.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if where.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cells", type=int, default=0, help="images a round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", default="auto")
    given = parser.parse_args()
    where = device()
    on_gpu = where.type == "cuda"
    batch = given.batch if given.batch == "auto" else int(given.batch)
    record = runner.prepare(complete(FULL if on_gpu else SMALL), "bf16" if on_gpu else "fp32", batch)
    batch = record["settings"]["batch"]
    cells = given.cells or batch * (16 if on_gpu else 8)
    encoder = runner.load(record, given.threads)
    x = torch.randn(batch, 3, record["entry"]["input_px"], record["entry"]["input_px"], device=where)

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(cells // batch):
            encoder.forward(x)

    rates: dict[str, list[float]] = {"engine": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        tiles = Path(folder, "tiles")
        tiles.mkdir()
        work = write_shards(tiles, cells, 2)
        runner.encode_cells(encoder, np.zeros((batch, 64, 64, 3), np.uint8), np.zeros((batch, 1568), np.uint8), 0, int)
        bare()

        def run(target: Path) -> None:
            for (shard, view, rows), windows, masks in runner.prefetch(work, tiles):
                values = runner.encode_cells(encoder, windows, masks, view, lambda n: None)
                runner.cache.write_part(
                    runner.cache.part_path(target, record["fingerprint"], shard["sha256"], view, rows), values, rows
                )

        for k in range(given.rounds):
            rates["engine"].append(cells / seconds(lambda target=Path(folder, f"cache{k}"): run(target), where))
            rates["bare"].append(cells / seconds(bare, where))
    print(f"{encoder.describe()}; {cells} images a round, {given.rounds} rounds, {given.threads} threads")
    for name, values in rates.items():
        print(f"{name:8s} {statistics.median(values):9.2f} images/s (from {min(values):.2f} to {max(values):.2f})")
    ratio = statistics.median(a / b for a, b in zip(rates["engine"], rates["bare"], strict=True))
    speed = statistics.median(rates["engine"])
    share = None
    if on_gpu:
        peak = matrix_rate(where)
        share = speed * H_OPTIMUS_FLOP / peak
        memory = torch.cuda.max_memory_reserved() / 1e9
        print(f"bf16 matrix rate {peak / 1e12:.0f} TFLOP/s; peak memory {memory:.1f} GB")
    name = torch.cuda.get_device_name(where) if on_gpu else "cpu"
    print(
        json.dumps(
            {
                "ratio_to_bare": round(ratio, 3),
                "images_per_s": round(speed, 2),
                "share_of_peak": None if share is None else round(share, 3),
                "device": name,
            }
        )
    )


if __name__ == "__main__":
    main()
