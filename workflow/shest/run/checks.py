"""Checks before anything is computed: every problem in the heads of the input files, at once.

What stops a run and what does not. A run stops where a result would be wrong, or missing without a word: a file that
cannot be read, cells that do not match, a type of the config that the reference cannot give. Names of subtypes that
the reference lacks are only warned of while their type has others: an atlas is often used in part. A group of a
pathologist's table must be a type of the config: one that is misspelt would take the labels of all its cells away.
Cells that he did not want to judge, or that belong to no type, have an empty group.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from shest.core.errors import Findings, InputError, brief, nearest
from shest.encode import encoders
from shest.io import detections, geojson, slide, xenium
from shest.io.xenium import Heads
from shest.labels import annotate
from shest.run import estimate
from shest.run.run_inputs import NUCLEI_REMEDY

FETCH = "Fetch or export the file again"
PROBED = 256  # rows of the reference whose values are looked at


@dataclass
class ReferenceHeads:
    """What the head of the reference says: cells of each subtype, gene symbols, counts above 0."""

    subtypes: dict[str, int] = field(default_factory=dict)
    symbols: pd.Index | None = None
    values: int = 0


def read_heads(samples: Mapping[str, dict], found: Findings) -> dict[str, Heads]:
    """Read the heads of all samples' files.

    Parameters
    ----------
    samples
        Rows of the sheet by name, with he_image and alignment as paths.
    """
    heads = {}
    for name, row in samples.items():
        if row["platform"] == "slide":
            heads[name] = check_slide(row, found)
        else:
            heads[name] = xenium.check(row["path"], row["he_image"], row["alignment"], found)
    return heads


def check_slide(row: dict, found: Findings) -> Heads:
    """Check a plain slide: its image, the size of its pixels, and the outlines of its nuclei."""
    heads, path, nuclei = Heads(), row["path"], row.get("nuclei")
    pixels = found.attempt(path, "Export or copy the image again", slide.read_image, path)
    if pixels is not None:
        heads.he_shape = (int(pixels.shape[1]), int(pixels.shape[2]))
        heads.mpp = found.attempt(path, slide.SET_MPP, slide.read_mpp, path, row.get("mpp"))
    if not nuclei:
        found.problem(path, "a plain slide without outlines of nuclei", NUCLEI_REMEDY)
        return heads
    if heads.he_shape is None or heads.mpp is None:  # sizes and places would be said against what is not known
        found.attempt(nuclei, NUCLEI_REMEDY, geojson.read, nuclei, NUCLEI_REMEDY)
        return heads
    outlines = found.attempt(nuclei, NUCLEI_REMEDY, slide.read_nuclei, nuclei, heads.he_shape, heads.mpp)
    if outlines is not None:
        heads.cell_ids, heads.share_inside = outlines.cell_id, outlines.inside
        heads.nuclei = heads.cells_with_nucleus = int(outlines.drawn.sum())
        _warn_of_outlines(nuclei, outlines, found)
    return heads


def _warn_of_outlines(path: str | Path, outlines: slide.Nuclei, found: Findings) -> None:
    """Note outlines that were repaired, that have no area, and ids that name no single cell."""
    empty = int((~outlines.drawn).sum())
    if empty:
        found.warn(path, f"{empty:,} outlines without an area", "Their cells are left out as no_nucleus")
    if outlines.repaired:
        found.warn(path, f"{outlines.repaired:,} outlines cross themselves", "They are repaired")
    if not outlines.named:
        found.warn(path, "its features have no ids, or share them", "Cells are numbered in the order of the file")


def read_reference(path: str | Path, settings: Mapping[str, Any], found: Findings) -> ReferenceHeads:
    """Read labels, symbols and some values of the reference, not its matrix, and note what is wrong with them."""
    heads = ReferenceHeads()
    try:
        with h5py.File(path) as file:
            obs, var = ad.io.read_elem(file["obs"]), ad.io.read_elem(file["var"])
            kept = found.attempt(path, FETCH, annotate.included, path, obs, settings["exclude"])
            kept = np.ones(len(obs), bool) if kept is None else kept
            labels = found.attempt(path, FETCH, annotate.reference_labels, path, obs[kept], settings["label_key"])
            heads.symbols = found.attempt(path, FETCH, annotate.reference_symbols, path, var, settings["symbol_key"])
            heads.values = found.attempt(path, FETCH, probe_counts, path, file, settings["counts"], kept) or 0
    except FileNotFoundError:
        found.problem(path, "the reference is not there", "Set reference.path to an .h5ad file")
        return heads
    except Exception as error:
        found.problem(path, f"no AnnData file that can be read ({brief(error)})", FETCH)
        return heads
    if labels is not None:
        heads.subtypes = {str(k): int(v) for k, v in labels.value_counts().items()}
    return heads


def probe_counts(path: str | Path, file: h5py.File, where: str, kept: np.ndarray) -> int:
    """Look whether values of kept cells are whole numbers; return how many values the matrix has.

    Rows are taken evenly from the whole matrix; annotation looks at all of them.
    """
    choice = {"auto": "raw/X" if "raw/X" in file else "X", "raw": "raw/X", "X": "X"}.get(where, f"layers/{where}")
    if choice not in file:
        raise InputError(path, f"no matrix {choice}", "Set reference.counts to auto, X, raw or the name of a layer")
    matrix, rows = file[choice], np.flatnonzero(kept)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, PROBED).astype(int))] if len(rows) else rows
    if isinstance(matrix, h5py.Dataset):
        annotate.check_whole(path, matrix[rows] if len(rows) else np.empty(0))
        return int(matrix.size)
    by_row = matrix.attrs.get("encoding-type", "csr_matrix") == "csr_matrix"
    pointers = matrix["indptr"][:]
    if by_row and len(pointers) != len(kept) + 1:
        raise InputError(path, f"{choice} has {len(pointers) - 1:,} rows for {len(kept):,} cells", FETCH)
    if by_row:
        parts = [matrix["data"][pointers[row] : pointers[row + 1]] for row in rows]
    elif kept.all():  # by column: which values are of cells that are left out cannot be told
        starts = pointers[np.linspace(0, len(pointers) - 2, 64, dtype=int)]
        parts = [matrix["data"][start : start + 1000] for start in starts]
    else:
        parts = []
    annotate.check_whole(path, np.concatenate(parts) if parts else np.empty(0))
    return len(matrix["data"])


def check_subtypes(
    path: str | Path, types: Mapping[str, list[str]], prior: Any, known: Mapping[str, int], found: Findings
) -> None:
    """Compare the config's subtypes with the reference's labels.

    Parameters
    ----------
    types
        Subtypes by type.
    prior
        annotate.prior of the config.
    known
        Cells of the reference by label.
    """
    if not known:
        return
    for name, members in types.items():
        missing = [subtype for subtype in members if subtype not in known]
        if len(missing) == len(members):
            found.problem(
                f"cell_types.{name}",
                f"the reference has none of its subtypes ({', '.join(missing[:3])})",
                nearest(missing[0], known),
            )
        else:
            for subtype in missing:
                found.warn(f"cell_types.{name}", f"{path} has no subtype {subtype}", nearest(subtype, known))
    if isinstance(prior, dict):
        for subtype in sorted(set(prior) - set(known)):
            found.problem("annotate.prior", f"the reference has no subtype {subtype}", nearest(subtype, known))


def check_genes(
    path: str | Path, symbols: pd.Index | None, least: int, heads: Mapping[str, Heads], found: Findings
) -> None:
    """Note samples that share too few genes with the reference."""
    for name, head in heads.items():
        if symbols is not None and head.genes:
            shared = len(symbols.intersection(pd.Index(head.genes)))
            if shared < least:
                found.problem(
                    path,
                    f"shares {shared} of {len(head.genes)} genes with sample {name} "
                    f"(reference.min_shared_genes: {least}); it has {', '.join(symbols[:3])}, "
                    f"the sample {', '.join(head.genes[:3])}",
                    "Set reference.symbol_key to the column with gene symbols",
                )


def check_tables(
    samples: Mapping[str, dict], heads: Mapping[str, Heads], types: list[str], min_cells: int, found: Findings
) -> None:
    """Check the pathologists' tables, and whether the training samples can give two types with enough cells."""
    groups: dict[str, pd.Series] = {}
    for name, row in samples.items():
        if not row.get("annotation"):
            continue
        path = row["annotation"]
        table = found.attempt(path, "Write a CSV: cell_id,group", annotate.parse_table, path)
        if table is None:
            continue
        if heads[name].cell_ids is not None:
            found.problems += annotate.table_problems(path, table, heads[name].cell_ids)
        groups[name] = table["group"].dropna().str.strip()
        for group, cells in groups[name][~groups[name].isin(types)].value_counts().items():
            found.problem(
                path,
                f"{cells:,} cells of a type {group}, which cell_types does not have",
                f"{nearest(group, types)} Leave the group empty for cells of no type",
            )
    trained = [name for name, row in samples.items() if row["role"] == "train" and row["platform"] == "xenium"]
    if trained and all(samples[name].get("annotation") for name in trained):
        _check_enough(samples, [name for name in trained if name in groups], groups, types, min_cells, found)


def _check_enough(samples, trained: list[str], groups: dict, types: list[str], min_cells: int, found: Findings) -> None:
    """Note tables that leave fewer than two types to train on."""
    if not trained:
        return
    counts = pd.concat([groups[name] for name in trained]).value_counts()
    enough = [name for name in types if counts.get(name, 0) >= min_cells]
    if len(enough) < 2:
        said = ", ".join(f"{name} {int(counts.get(name, 0)):,}" for name in types)
        tables = ", ".join(str(samples[name]["annotation"]) for name in trained)
        found.problem(
            tables,
            f"fewer than two types with {min_cells} cells (train.min_cells) among the training samples: {said}",
            "Label more cells, or check the names of the groups",
        )


def check_encoders(chosen: list[str | dict], found: Findings) -> list[estimate.Encoder]:
    """Check that each encoder is known and its weights are there; nothing is fetched.

    Weights of the hub that its local cache lacks are a warning, or a problem where HF_HUB_OFFLINE forbids to fetch.
    """
    costs = []
    for encoder in chosen:
        name = encoder if isinstance(encoder, str) else encoder["name"]
        if name == encoders.MORPHOMETRICS:
            costs.append(estimate.Encoder(name, estimate.MORPHOMETRICS_DIM))
            continue
        entry = found.attempt(f"encoders: {name}", "Use a known name", encoders.entry_of, encoder)
        if entry is None:
            continue
        weights = None
        if entry.weights.startswith("hub:"):
            weights = cached_weights(entry.weights.removeprefix("hub:"))
            if weights is None:
                _say_uncached(entry, found)
        else:
            weights = found.attempt(entry.weights, "Correct the path", encoders.find_weights, entry)
        gflop = estimate.GFLOP.get(entry.architecture)
        costs.append(estimate.Encoder(name, entry.features, gflop, weights.stat().st_size if weights else 0))
    return costs


def check_comparators(chosen: Mapping[str, Mapping[str, dict]], found: Findings) -> None:
    """Check that other systems' labels can be read and that the config maps every class in them.

    Parameters
    ----------
    chosen
        By sample and name: ``path``, ``format``, ``scale`` and ``types`` of a comparator.
    """
    for by_name in chosen.values():
        for name, one in by_name.items():
            path, key = one["path"], f"evaluate.comparators.{name}.types"
            table = found.attempt(path, detections.REMEDY, detections.read, path, one["format"], one["scale"])
            if table is not None:
                found.attempt(path, detections.REMEDY, detections.map_types, path, table["class"], one["types"], key)


def cached_weights(repository: str) -> Path | None:
    """Return the weights of a hub repository in the hub's local cache, or None."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    snapshots = cache / f"models--{repository.replace('/', '--')}" / "snapshots"
    found = [path for name in encoders.WEIGHT_FILES for path in sorted(snapshots.glob(f"*/{name}")) if path.is_file()]
    return found[0] if found else None


def _say_uncached(entry: encoders.Entry, found: Findings) -> None:
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    repository = entry.weights.removeprefix("hub:")
    by_hand = (
        f"put model.safetensors and config.json of {repository} into one folder and set the weights of "
        f"encoder {entry.name} to it"
    )
    lacking = f"the weights of {entry.name} are not in the hub's local cache"
    if offline:
        found.problem(
            entry.weights, f"{lacking}, and HF_HUB_OFFLINE is set", f"Fetch them where there is a network, or {by_hand}"
        )
    else:
        found.warn(
            entry.weights, lacking, f"They will be fetched (the licence may ask for HF_TOKEN); offline, {by_hand}"
        )


def check_disk(folder: str | Path, bytes_needed: int, found: Findings) -> None:
    """Note a disk without room for what the run will still write; what earlier runs wrote there counts as done."""
    free = estimate.free_bytes(folder)
    if bytes_needed > free and bytes_needed - estimate.used_bytes(folder) > free:
        found.problem(
            folder,
            f"the run will write about {estimate.say_bytes(bytes_needed)}, and {estimate.say_bytes(free)} are free",
            "Free some, or set results to a larger disk",
        )


def size_of(row: dict, head: Heads) -> estimate.Size:
    """Return the size of a sample, as its heads say."""
    cells = head.cells_with_nucleus or (len(head.cell_ids) if head.cell_ids is not None else 0)
    mpp = float(np.mean(head.mpp)) if head.mpp else 0.25
    return estimate.Size(row["role"], cells, len(head.genes), head.values, head.he_shape or (0, 0), mpp)


def estimate(
    sizes: Mapping[str, estimate.Size], costs: list[estimate.Encoder], config: Mapping, reference: int
) -> dict:
    """Estimate what the run will need; see :mod:`shest.run.estimate`."""
    threads = min(config["resources"]["threads"], os.cpu_count() or 1)
    views, test = config["train"]["views"], config["split"]["fractions"]["test"]
    return {
        "cells": sum(size.cells for size in sizes.values()),
        "disk": estimate.disk_bytes(sizes, costs, config),
        "memory": estimate.memory_bytes(sizes, costs, config, threads, reference),
        "passes": {cost.name: estimate.passes(sizes, cost, views, test) for cost in costs},
        "threads": threads,
        "seconds": estimate.seconds(sizes, costs, config, threads),
    }


def check_run(
    samples: Mapping[str, dict], reference: str, config: Mapping[str, Any], results: str
) -> tuple[dict, Findings]:
    """Check everything that a run reads.

    Parameters
    ----------
    samples
        Rows of the sheet by name, all paths resolved.
    reference
        Path of the reference.
    config
        Config with defaults; local weights of encoders resolved; ``comparators`` by sample and name.
    results
        Folder of the results.

    Returns
    -------
    record : dict
        What ``preflight.json`` holds: what the heads say of each sample and of the reference, and what is needed.
    found : Findings
        All problems and warnings.
    """
    found, types = Findings(), config["cell_types"]
    heads = read_heads(samples, found)
    known = read_reference(reference, config["reference"], found)
    subtypes = {name: entry["subtypes"] for name, entry in types.items()}
    check_subtypes(reference, subtypes, config["annotate"]["prior"], known.subtypes, found)
    check_genes(reference, known.symbols, config["reference"]["min_shared_genes"], heads, found)
    check_tables(samples, heads, list(types), config["train"]["min_cells"], found)
    check_comparators(config.get("comparators", {}), found)
    costs = check_encoders(config["encoders"], found)
    sizes = {name: size_of(row, heads[name]) for name, row in samples.items()}
    needed = estimate(sizes, costs, config, known.values)
    check_disk(results, sum(needed["disk"].values()), found)
    peak = max(needed["memory"].values())
    if peak > estimate.total_memory():
        found.warn(
            "memory",
            f"a stage may need {estimate.say_bytes(peak)}, and this machine has "
            f"{estimate.say_bytes(estimate.total_memory())}",
            "Lower tiles.block_px or resources.threads",
        )
    record = {
        "samples": {name: _record(samples[name], head) for name, head in heads.items()},
        "reference": {
            "cells": sum(known.subtypes.values()),
            "subtypes": len(known.subtypes),
            "genes": 0 if known.symbols is None else len(known.symbols),
        },
        "needs": needed,
        "warnings": [str(warning) for warning in found.warnings],
    }
    return record, found


def _record(row: dict, head: Heads) -> dict:
    return {
        "role": row["role"],
        "platform": row["platform"],
        "version": ".".join(map(str, head.version)) if head.version else None,
        "cells": None if head.cell_ids is None else len(head.cell_ids),
        "nuclei": head.nuclei,
        "genes": len(head.genes),
        "he_shape": head.he_shape,
        "mpp": head.mpp,
        "share_inside": head.share_inside,
    }


def describe(record: dict, results: str) -> list[str]:
    """Say in lines what will be run and what that will need."""
    lines = []
    for name, sample in record["samples"].items():
        height, width = sample["he_shape"] or (0, 0)
        what = f"Xenium {sample['version'] or '(version unsaid)'}" if sample["platform"] == "xenium" else "slide"
        lines.append(
            f"{name} ({sample['role']}, {what}): {sample['cells'] or 0:,} cells, {sample['nuclei'] or 0:,} "
            f"nuclei, {sample['genes']:,} genes, H&E {width:,} x {height:,} px"
        )
    need, known = record["needs"], record["reference"]
    lines.append(f"reference: {known['cells']:,} cells of {known['subtypes']} subtypes, {known['genes']:,} genes")
    disk, stage = sum(need["disk"].values()), max(need["memory"], key=need["memory"].get)
    lines.append(f"disk: about {estimate.say_bytes(disk)}; free: {estimate.say_bytes(estimate.free_bytes(results))}")
    lines.append(
        f"memory: about {estimate.say_bytes(need['memory'][stage])} ({stage}); "
        f"this machine: {estimate.say_bytes(estimate.total_memory())}"
    )
    for name, count in need["passes"].items():
        lines.append(
            f"passes through {name}: {count['once']:,} and at most {count['further']:,} of further views "
            f"(encoding every draw of every epoch would take {count['authors']:,})"
        )
    lines.append(
        f"time: roughly {estimate.say_seconds(need['seconds']['cpu'])} on {need['threads']} CPU cores, "
        f"{estimate.say_seconds(need['seconds']['gpu'])} with a GPU"
    )
    return lines
