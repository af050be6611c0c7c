"""What a job asks a scheduler for: memory and time, from the size of what it reads."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shest.encode.spec import MORPHOMETRICS, local_weights
from shest.run import estimate

GROWTH = 1.5  # of every request, with each further attempt
BYTES_A_CELL = 17  # of a JSON that lists cells: tiles.json, embeddings.json
SLACK = 4  # of a time, over the estimate: slow disks, busy nodes, old processors
LONGEST = 24 * 60  # minutes that are asked for at most, as many partitions give no more
PARTS = ("images", "shapes", "tables")  # of a store, as ingest.json measures them
LONGEST_EMBEDDING = 2560  # features, of the encoders that are known


def scale_by_attempt(amount: float, attempt: int) -> int:
    """Return what the n-th attempt asks for, rounded up: half as much again each time."""
    return math.ceil(amount * GROWTH ** (attempt - 1))


def size_mb(paths: Sequence[str]) -> float:
    """Return the size of some files in MB. A file that is not there yet raises FileNotFoundError."""
    return sum(os.path.getsize(path) for path in paths) / 1e6


def stored_mb(records: Sequence[str], part: str) -> float:
    """Return the size of a part of the stores that these ``ingest.json`` speak for, in MB."""
    return sum(_read(path).get("stored_bytes", {}).get(part, 0) for path in records) / 1e6


def _read(path: str) -> dict:
    with open(path, encoding="utf-8") as handle:
        return json.load(handle)


def request_mb(base: float, factors: Mapping[str, float], inputs: Callable[[str], Sequence[str]]) -> float:
    """Return ``base`` MB (or minutes) and, for each MB of what the factors name, as much as they say.

    Parameters
    ----------
    factors
        A name of the rule's inputs, or ``images``, ``shapes``, ``tables``: that part of the stores behind its
        input ``ingest``; each with what one MB (10⁶ bytes) of it adds.
    inputs
        Gives the files of a named input.

    Raises
    ------
    FileNotFoundError
        An input is not there yet: what the job needs cannot be told.
    """
    amount = base
    for name, factor in factors.items():
        amount += factor * (stored_mb(inputs("ingest"), name) if name in PARTS else size_mb(inputs(name)))
    return amount


def encoder_mb(entry: Mapping[str, Any], threads: int) -> float:
    """Return the memory of a job that loads an encoder, in MB: three times the weights, or processes that measure.

    Parameters
    ----------
    entry
        Of the config, completed.
    """
    if entry["name"] == MORPHOMETRICS:
        return 1500 + 150 * threads
    weights = local_weights(entry)
    files = [path for path in (Path(weights), *Path(weights).glob("*")) if path.is_file()] if weights else []
    known = size_mb([str(path) for path in files])
    return 4000 + 3 * known if known else 16_000  # from a hub: room for the largest, of 1.1 thousand million weights


def encoding_minutes(entry: Mapping[str, Any], cells: float, threads: int, gpu: bool) -> float:
    """Return the time to encode some cells, in minutes; encoding that runs out of it goes on where it stopped."""
    gflop = entry.get("gflop") or estimate.LARGEST_GFLOP
    return min(30 + SLACK * estimate.encoding_seconds(cells, entry["name"], gflop, threads, gpu) / 60, LONGEST)


def training_minutes(records: Sequence[str], dim: int, train: Mapping[str, Any], threads: int, gpu: bool) -> float:
    """Return the time to train on the cells, or spots, of some samples, in minutes.

    Parameters
    ----------
    records
        Their ``ingest.json``, which say how many cells and genes there are.
    dim
        Length of an embedding.
    train
        Section of the config.
    """
    facts = [_read(path) for path in records]
    cells = sum(fact["spots"] if "spots" in fact else fact["cells"] for fact in facts)
    genes = sum(fact.get("genes", 0) for fact in facts)  # at most: samples share genes
    return fitting_minutes(estimate.training_seconds(cells, genes, dim, train, threads, gpu))


def fitting_minutes(seconds: float) -> float:
    """Return what is asked for a fit of some seconds, in minutes."""
    return min(20 + SLACK * seconds / 60, LONGEST)
