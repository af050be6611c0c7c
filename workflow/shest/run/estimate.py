"""What a run will need, roughly: disk, memory, passes through the encoder, time on a CPU and on a GPU.

Upper bounds where the heads of the files do not say better: every cell with a nucleus is taken as kept and labelled.
"""

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shest.labels.orientations import VIEWS, count_passes

MORPHOMETRICS = "morphometrics"
MORPHOMETRICS_DIM, MORPHOMETRICS_RATE = 90, 130  # features; tiles/s on one core, as measured
GFLOP = {"vit_giant_patch14_reg4_dinov2": 608, "resnet50": 8.2, "densenet121": 5.7, "efficientnet_b0": 0.8}
"""Operations of one 224 px image, two a multiply-add."""
CPU_GFLOPS, GPU_GFLOPS = 100, 400_000  # sustained by one core in float32, by one data-centre GPU in bfloat16
GPU_HEAD_GFLOPS = 20_000  # of the heads, whose steps are small
STORE_RATIO = 0.8  # bytes of a stored image, pyramid included, over its pixels' (as measured on 40x H&E)
PACKED_MASK = 1568
CELL_BYTES = 600  # of a cell in the tables of a run: outlines, annotation, split, refinement


@dataclass(frozen=True)
class Size:
    """Size of one sample: cells with a nucleus, genes, counts above 0, H&E in px and its µm per px."""

    role: str
    cells: int
    genes: int = 0
    values: int = 0
    he_shape: tuple[int, int] = (0, 0)
    mpp: float = 0.25


@dataclass(frozen=True)
class Encoder:
    """What an encoder costs: length of its embedding, GFLOP an image (None: unknown), bytes of its weights."""

    name: str
    dim: int
    gflop: float | None = None
    weights_bytes: int = 0

    @property
    def invariant(self) -> bool:
        """Whether all views give the same embedding."""
        return self.name == MORPHOMETRICS


def passes(samples: Mapping[str, Size], encoder: Encoder, views: str | int, test: float) -> dict[str, int]:
    """Count passes through an encoder.

    Returns
    -------
    dict
        ``once``: every cell as it stands; ``further``: further views of training cells, at most; ``authors``: what
        encoding every draw in every epoch would take.
    """
    once = sum(size.cells for size in samples.values())
    labelled = sum(size.cells for size in samples.values() if size.role == "train")
    held_out = round(labelled * test)
    train = labelled - held_out
    further = {"1": 0, "sampled": train * (VIEWS - 1) // VIEWS, "8": train * (VIEWS - 1)}[str(views)]
    counted = count_passes(once, train, held_out, train)
    return {"once": once, "further": 0 if encoder.invariant else further, "authors": counted["authors"]}


def disk_bytes(samples: Mapping[str, Size], encoders: list[Encoder], config: Mapping[str, Any]) -> dict[str, int]:
    """Estimate what a run writes, in bytes: stores, tiles, embeddings and predictions."""
    side = {name: config["tiles"]["window_um"] / size.mpp for name, size in samples.items()}
    runs = len(encoders) * len(config["protocols"])
    found = {
        "stores": sum(STORE_RATIO * 3 * s.he_shape[0] * s.he_shape[1] + 8 * s.values for s in samples.values()),
        "tiles": sum(s.cells * (3 * side[name] ** 2 + PACKED_MASK) for name, s in samples.items()),
        "embeddings": sum(2 * encoder.dim * _all_passes(samples, encoder, config) for encoder in encoders),
        "predictions": runs * sum(s.cells * (4 * _union(samples) + CELL_BYTES) for s in samples.values()),
    }
    return {name: int(value) for name, value in found.items()}


def _all_passes(samples: Mapping[str, Size], encoder: Encoder, config: Mapping[str, Any]) -> int:
    counted = passes(samples, encoder, config["train"]["views"], config["split"]["fractions"]["test"])
    return counted["once"] + counted["further"]


def _union(samples: Mapping[str, Size]) -> int:
    return max((size.genes for size in samples.values()), default=0)


def _products(widths: list[int]) -> int:
    """Number of weights of fully connected layers of these widths."""
    return sum(a * b for a, b in itertools.pairwise(widths))


def memory_bytes(
    samples: Mapping[str, Size], encoders: list[Encoder], config: Mapping[str, Any], threads: int, reference: int
) -> dict[str, int]:
    """Estimate the peak memory of the stages that need most, in bytes.

    Parameters
    ----------
    threads
        Of a job.
    reference
        Counts above 0 in the single-cell reference.
    """
    largest = max((size.values for size in samples.values()), default=0)
    trained = sum(size.cells for size in samples.values() if size.role == "train")
    dim = max((encoder.dim for encoder in encoders), default=0)
    weights = max((encoder.weights_bytes for encoder in encoders), default=0)
    layers = [dim, *config["train"]["reconstructor_hidden"], 3 * _union(samples)]
    head = _products(layers)
    base = 1.2e9
    found = {
        "blocks": base + threads * config["tiles"]["block_px"] ** 2 * 20,
        "annotate": base + 30 * (largest + reference),
        "embed": base + 2 * weights,
        "train": base + 24 * head + trained * (2 * dim + 64) + 24 * largest,
    }
    return {name: int(value) for name, value in found.items()}


def seconds(
    samples: Mapping[str, Size], encoders: list[Encoder], config: Mapping[str, Any], threads: int
) -> dict[str, float | None]:
    """Estimate the time of encoding and training on ``threads`` CPU cores and on one GPU, in s; None: unknown."""
    trained = sum(size.cells for size in samples.values() if size.role == "train")
    cpu = gpu = 30.0 * len(samples)  # start-up of the stages of each sample
    for encoder in encoders:
        tiles, train = _all_passes(samples, encoder, config), config["train"]
        if encoder.invariant:
            encode = encode_gpu = tiles / MORPHOMETRICS_RATE / threads
        elif encoder.gflop is None:
            return {"cpu": None, "gpu": None}
        else:
            encode, encode_gpu = tiles * encoder.gflop / CPU_GFLOPS / threads, tiles * encoder.gflop / GPU_GFLOPS
        layers = [encoder.dim, *train["reconstructor_hidden"], 3 * _union(samples)]
        step = 6e-9 * _products(layers)  # GFLOP a cell, both directions
        heads = trained * step * train["epochs"] * train["members"] * len(config["protocols"])
        cpu += encode + heads / CPU_GFLOPS / threads
        gpu += encode_gpu + heads / GPU_HEAD_GFLOPS
    return {"cpu": round(cpu), "gpu": round(gpu)}


def free_bytes(folder: str | Path) -> int:
    """Return the free space of the disk that a folder is, or will be, on."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    state = os.statvfs(place)
    return state.f_bavail * state.f_frsize


def used_bytes(folder: str | Path) -> int:
    """Return the bytes of all files below a folder, 0 where there is none."""
    return sum(os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(folder) for name in names)


def total_memory() -> int:
    """Return the memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def say_bytes(number: float) -> str:
    """Write a number of bytes for a person: 1.5 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e3:.0f} kB"


def say_seconds(number: float | None) -> str:
    """Write a rough time for a person: 3 h, 20 min."""
    if number is None:
        return "unknown (no estimate for this architecture)"
    for unit, size in (("days", 86400 * 2), ("h", 3600 * 2), ("min", 120)):
        if number >= size:
            return f"{number / {'days': 86400, 'h': 3600, 'min': 60}[unit]:.0f} {unit}"
    return f"{number:.0f} s"
