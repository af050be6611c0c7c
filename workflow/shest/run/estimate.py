"""What a run will need, roughly: disk, memory, passes through the encoder, time on a CPU and on a GPU.

Upper bounds where the files' headers do not say better: every cell with a nucleus is taken as kept and labelled.
"""

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shest.encode.spec import GFLOP, MORPHOMETRICS
from shest.labels.orientations import VIEWS, count_passes
from shest.systems import base
from shest.tiles.patch import PatchSize

MORPHOMETRICS_RATE = 600  # tiles/s on one core, as measured
LARGEST_GFLOP = max(GFLOP.values())
CPU_GFLOPS, GPU_GFLOPS = 100, 400_000  # sustained by one core in float32, by one data-centre GPU in bfloat16
GPU_HEAD_GFLOPS = 20_000  # of the heads, whose steps are small
STORE_RATIO = 0.8  # bytes of a stored image, pyramid included, over its pixels' (as measured on 40x H&E)
PACKED_MASK = 1568
VALUE_BYTES = 1.3  # of an expectation and a drawn count, rounded and compressed
VIEWER_PIXEL = 0.4  # bytes of a pixel of the viewer's finest level, of the whole pyramid (as measured on 40x H&E)
VIEWER_CELL = 60, 55  # bytes of a cell in the viewer, and for each system
VIEWER_VALUE = 0.9  # of an expectation or a count in the viewer
CELL_BYTES = 600  # of a cell in the tables of a run: outlines, annotation, split, refinement


@dataclass(frozen=True)
class SampleSize:
    """Size of one sample: cells with a nucleus, genes, counts above 0, H&E in px and its µm per px."""

    role: str
    cells: int
    genes: int = 0
    values: int = 0
    he_shape: tuple[int, int] = (0, 0)
    mpp: float = 0.25


@dataclass(frozen=True)
class EncoderCost:
    """What an encoder costs: length of its embedding, GFLOP an image (None: unknown), bytes of its weights."""

    name: str
    dim: int
    gflop: float | None = None
    weights_bytes: int = 0

    @property
    def orientation_invariant(self) -> bool:
        """Whether all views give the same embedding."""
        return self.name == MORPHOMETRICS


def encoder_cost(entry: Mapping[str, Any], weights_bytes: int = 0) -> EncoderCost:
    """Return what an encoder costs; ``entry`` of the config, completed."""
    if entry["name"] == MORPHOMETRICS:
        from shest.encode import morphometrics  # here: what asks for time or memory of a job needs none of it

        return EncoderCost(MORPHOMETRICS, len(morphometrics.feature_names()))
    return EncoderCost(entry["name"], entry["features"], entry["gflop"], weights_bytes)


def encoding_seconds(tiles: float, name: str, gflop: float | None, threads: int, gpu: bool) -> float | None:
    """Estimate the time to encode some tiles with an encoder of ``gflop`` an image, in s; None where that is unknown.

    ``morphometrics`` runs on CPU cores wherever it is.
    """
    if name == MORPHOMETRICS:
        return tiles / MORPHOMETRICS_RATE / threads
    if gflop is None:
        return None
    return tiles * gflop / (GPU_GFLOPS if gpu else CPU_GFLOPS * threads)


def training_seconds(cells: float, genes: int, dim: int, train: Mapping[str, Any], threads: int, gpu: bool) -> float:
    """Estimate the time to train both heads on some cells, in s.

    Parameters
    ----------
    dim
        Length of an embedding.
    train
        Settings of the system: ``epochs``, ``members``, ``reconstructor_hidden``.
    """
    gflop = 6e-9 * _weights([dim, *train["reconstructor_hidden"], 3 * genes])  # a cell, both directions
    return cells * gflop * train["epochs"] * train["members"] / (GPU_HEAD_GFLOPS if gpu else CPU_GFLOPS * threads)


def _weights(widths: Sequence[int]) -> int:
    """Number of weights of fully connected layers of these widths."""
    return sum(a * b for a, b in itertools.pairwise(widths))


def passes(samples: Mapping[str, SampleSize], encoder: EncoderCost, views: str | int, test: float) -> dict[str, int]:
    """Count passes through an encoder.

    Returns
    -------
    dict
        ``once``: every cell as it stands; ``further``: further views of training cells, at most; ``authors``: what
        encoding every draw in every epoch would take.
    """
    once = sum(size.cells for size in samples.values())
    labelled = _trained(samples)
    held_out = round(labelled * test)
    train = labelled - held_out
    further = {"1": 0, "sampled": train * (VIEWS - 1) // VIEWS, "8": train * (VIEWS - 1)}[str(views)]
    counted = count_passes(once, train, held_out, train)
    return {"once": once, "further": 0 if encoder.orientation_invariant else further, "authors": counted["authors"]}


def _trained(samples: Mapping[str, SampleSize]) -> int:
    return sum(size.cells for size in samples.values() if size.role == "train")


def _genes(samples: Mapping[str, SampleSize]) -> int:
    return max((size.genes for size in samples.values()), default=0)


def _readers(encoder: EncoderCost, config: Mapping[str, Any]) -> list[dict]:
    """Settings of the systems that read the embeddings of an encoder."""
    return [system["settings"] for system in config["systems"].values() if system["encoder"] == encoder.name]


def _config_passes(
    samples: Mapping[str, SampleSize], encoder: EncoderCost, config: Mapping[str, Any]
) -> dict[str, int]:
    """Count the passes that the config asks for; none of an encoder that no system reads."""
    readers = _readers(encoder, config)
    if not readers:
        return {"once": 0, "further": 0, "authors": 0}
    views = max((str(settings.get("views", 1)) for settings in readers), key=("1", "sampled", "8").index)
    return passes(samples, encoder, views, config["split"]["fractions"]["test"])


def _all_passes(samples: Mapping[str, SampleSize], encoder: EncoderCost, config: Mapping[str, Any]) -> int:
    counted = _config_passes(samples, encoder, config)
    return counted["once"] + counted["further"]


def disk_bytes(
    samples: Mapping[str, SampleSize], encoders: Sequence[EncoderCost], config: Mapping[str, Any]
) -> dict[str, int]:
    """Estimate what a run writes, in bytes: stores, tiles, patches, embeddings, predictions, viewers."""
    side = {name: config["tiles"]["window_um"] / size.mpp for name, size in samples.items()}
    runs, chosen = len(config["systems"]) * len(config["protocols"]), config["predict"]["genes"]
    genes = _genes(samples) if chosen == "all" else len(chosen)
    written = {
        "stores": sum(STORE_RATIO * 3 * s.he_shape[0] * s.he_shape[1] + 8 * s.values for s in samples.values()),
        "tiles": sum(s.cells * (3 * side[name] ** 2 + PACKED_MASK) for name, s in samples.items()),
        "patches": sum(s.cells for s in samples.values()) * sum(3 * px * px for _, px in _patch_sizes(config)),
        "embeddings": sum(2 * encoder.dim * _all_passes(samples, encoder, config) for encoder in encoders),
        "predictions": runs * sum(s.cells * (VALUE_BYTES * genes + CELL_BYTES) for s in samples.values()),
    }
    if config["viewer"]["enabled"]:
        written["viewers"] = sum(
            _viewer_bytes(size, config["viewer"], len(config["systems"])) for size in samples.values()
        )
    return {name: int(value) for name, value in written.items()}


def _patch_sizes(config: Mapping[str, Any]) -> set[PatchSize]:
    """Return the sizes of patches that systems read."""
    systems = [(base.spec_of(entry["kind"]), entry["settings"]) for entry in config["systems"].values()]
    return {PatchSize.of(settings) for spec, settings in systems if spec.reading(settings) == "patches"}


def _viewer_bytes(size: SampleSize, viewer: Mapping[str, Any], systems: int) -> float:
    """Estimate the size of a sample's viewer, in bytes; ``systems``: how many there are."""
    systems = len(viewer.get("systems", range(systems)))
    wanted = viewer["genes"]
    genes = size.genes if wanted == "all" else wanted if isinstance(wanted, int) else len(wanted)
    halved = max(int(math.log2(viewer["max_mpp"] / size.mpp)), 0)
    a_cell = VIEWER_CELL[0] + VIEWER_CELL[1] * systems + VIEWER_VALUE * min(genes, size.genes) * (systems + 1)
    return VIEWER_PIXEL * size.he_shape[0] * size.he_shape[1] / 4**halved + size.cells * a_cell


def memory_bytes(
    samples: Mapping[str, SampleSize],
    encoders: Sequence[EncoderCost],
    config: Mapping[str, Any],
    threads: int,
    reference: int,
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
    dim = max((encoder.dim for encoder in encoders), default=0)
    weights = max((encoder.weights_bytes for encoder in encoders), default=0)
    head = _weights([dim, *config["train"]["reconstructor_hidden"], 3 * _genes(samples)])
    base = 1.2e9
    peak = {
        "blocks": base + threads * config["tiles"]["block_px"] ** 2 * 20,
        "annotate": base + 30 * (largest + reference),
        "embed": base + 2 * weights,
        "train": base + 24 * head + _trained(samples) * (2 * dim + 64) + 24 * largest,
    }
    return {name: int(value) for name, value in peak.items()}


def run_seconds(
    samples: Mapping[str, SampleSize],
    encoders: Sequence[EncoderCost],
    config: Mapping[str, Any],
    threads: int,
    gpu: bool,
) -> int | None:
    """Estimate the time of encoding and training on CPU cores, or on one GPU, in s; None: unknown."""
    total = 30.0 * len(samples)  # start-up of the stages of each sample
    for encoder in (encoder for encoder in encoders if _readers(encoder, config)):
        tiles = _all_passes(samples, encoder, config)
        encoding = encoding_seconds(tiles, encoder.name, encoder.gflop, threads, gpu)
        if encoding is None:
            return None
        heads = [settings for settings in _readers(encoder, config) if "reconstructor_hidden" in settings]
        training = sum(
            training_seconds(_trained(samples), _genes(samples), encoder.dim, settings, threads, gpu)
            for settings in heads
        )
        total += encoding + training * len(config["protocols"])
    return round(total + _own_seconds(config, threads, gpu))


def _own_seconds(config: Mapping[str, Any], threads: int, gpu: bool) -> float:
    """Time of the fits whose kind says how long they take, over all folds."""
    known = [(base.spec_of(entry["kind"]).fit_seconds, entry["settings"]) for entry in config["systems"].values()]
    folds = sum(config["split"]["folds"] + 1 if protocol == "strict" else 1 for protocol in config["protocols"])
    return folds * sum(seconds(settings, threads, gpu) or 0 for seconds, settings in known if seconds)


def run_needs(
    samples: Mapping[str, SampleSize], encoders: Sequence[EncoderCost], config: Mapping[str, Any], reference: int
) -> dict[str, Any]:
    """Estimate what a run will need.

    Parameters
    ----------
    reference
        Counts above 0 in the single-cell reference.

    Returns
    -------
    dict
        ``cells``; ``disk`` by what is written and ``memory`` by stage, in bytes; ``passes`` by encoder; ``threads`` of
        a job; ``seconds`` on its ``cpu`` cores and with a ``gpu``, None where they are unknown.
    """
    threads = min(config["resources"]["threads"], os.cpu_count() or 1)
    return {
        "cells": sum(size.cells for size in samples.values()),
        "disk": disk_bytes(samples, encoders, config),
        "memory": memory_bytes(samples, encoders, config, threads, reference),
        "passes": {encoder.name: _config_passes(samples, encoder, config) for encoder in encoders},
        "threads": threads,
        "seconds": {
            device: run_seconds(samples, encoders, config, threads, device == "gpu") for device in ("cpu", "gpu")
        },
    }
