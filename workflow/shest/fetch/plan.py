"""What fetching will take and what the run after it will need, asked of the servers before anything is fetched.

Of an archive that a server gives in ranges, only its directory and ``experiment.xenium`` are read, of an image only its
header: some kB each.
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import tifffile

from shest.core.errors import Findings, InputError
from shest.fetch import http, sources
from shest.fetch.http import Patience, Told
from shest.fetch.sources import DOWNLOADS, Bundle, Source
from shest.run import checks, estimate, run_inputs

AT_ONCE = 8  # servers that are asked side by side
RATES = (10, 100)  # MB/s that the time of a download is said for


def plan(settings: Mapping[str, Any], folder: Path, found: Findings) -> dict[str, dict]:
    """Say of each file what is still to be fetched and to be written; servers are asked side by side.

    Returns
    -------
    dict
        By name: ``transfer`` and ``disk`` in bytes (None: the server does not say), ``there``; of bundles also
        ``cells``, ``genes``, ``values`` where the manifest says them.
    """
    patience = patience_of(settings)
    files, bundles = sources.sources(settings)
    asked = {
        name: (source.url, _file, source, folder, folder / name, patience)
        for name, source in sources.targets(files, bundles).items()
    }
    for name, bundle in bundles.items():
        asked[name] = (bundle.outs.url, _bundle, bundle, folder, folder / name, settings["archives"], patience)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda question: _answer(*question), asked.values()))
    found.problems += [problem for _, problems in answers for problem in problems]
    return {name: item for name, (item, _) in zip(asked, answers, strict=True) if item is not None}


def _answer(url: str, function: Callable[..., dict], *arguments: Any) -> tuple[dict | None, list[InputError]]:
    """Ask one server; return its answer, or what is wrong."""
    found = Findings()
    return found.attempt(url, "Look at the address", function, *arguments), found.problems


def patience_of(settings: Mapping[str, Any]) -> Patience:
    """Return how long to wait for an answer: less than for a download."""
    return Patience(2, min(settings["timeout_s"], 20.0), 1.0)


def _file(source: Source, folder: Path, target: Path, patience: Patience) -> dict:
    """Plan of one file."""
    path = folder / DOWNLOADS / source.name
    if target.exists() or path.is_file():
        return {"transfer": 0, "disk": 0, "there": True}
    told = http.ask(source.url, patience, sources.by_hand(path))
    _compare(source, told)
    part, size = http.part_of(path)[0], told.size or source.bytes
    left = None if size is None else max(size - (part.stat().st_size if part.exists() else 0), 0)
    return {"transfer": left, "disk": left, "there": False}


def _compare(source: Source, told: Told) -> None:
    if None not in (source.bytes, told.size) and source.bytes != told.size:
        raise InputError(
            source.url,
            f"the server has {told.size:,} bytes, the config says {source.bytes:,}",
            "Correct bytes in the config, or the URL",
        )


def _bundle(bundle: Bundle, folder: Path, target: Path, archives: str, patience: Patience) -> dict:
    """Plan of a bundle's archive, with what its manifest says of the run."""
    path = folder / DOWNLOADS / bundle.outs.name
    if all((target / name).is_file() for name in run_inputs.BUNDLE_FILES):
        with open(target / run_inputs.BUNDLE_FILES[0], "rb") as handle:
            return {"transfer": 0, "disk": 0, "there": True} | _manifest(handle)
    if path.is_file():
        with open(path, "rb") as handle:
            return _inside(handle, path) | {"transfer": 0, "there": True}
    told = http.ask(bundle.outs.url, patience, sources.by_hand(path))
    _compare(bundle.outs, told)
    if not told.ranges:
        return {"transfer": told.size, "disk": told.size, "there": False}
    with sources.remote(bundle.outs, told, patience, path) as handle:
        found = _inside(handle, bundle.outs.url) | {"there": False}
    if archives != "members" or bundle.outs.sha256 or bundle.outs.md5:
        found |= {"transfer": told.size, "disk": found["disk"] + told.size}
    return found


def _inside(handle: IO[bytes], what: str | Path) -> dict:
    """Read sizes and the manifest out of an archive."""
    try:
        with zipfile.ZipFile(handle) as archive:
            members = sources.wanted_members(archive, what)
            with archive.open(members[run_inputs.BUNDLE_FILES[0]]) as manifest:
                said = _manifest(manifest)
    except zipfile.BadZipFile as error:
        raise InputError(what, f"cannot be unpacked ({error})", "Correct the URL, or remove the file") from None
    sizes = {
        "transfer": sum(i.compress_size for i in members.values()),
        "disk": sum(i.file_size for i in members.values()),
    }
    return sizes | said


def _manifest(handle: IO[bytes]) -> dict:
    """Read cells, genes and counts above 0 (at most) from ``experiment.xenium``; empty where it does not say them."""
    try:
        said = json.loads(handle.read())
        cells = int(said["num_cells"])
        genes = int(said["panel_num_targets_predesigned"]) + int(said.get("panel_num_targets_custom") or 0)
        values = min(cells * genes, int(cells * float(said["transcripts_per_cell"])))
    except (ValueError, KeyError, TypeError):
        return {}
    return {"cells": cells, "genes": genes, "values": values}


def he_shape(source: Source, folder: Path, target: Path, patience: Patience) -> tuple[int, int]:
    """Return height and width of an H&E from its header, here or on its server; (0, 0) where it cannot be read."""
    try:
        with _opened(source, folder, target, patience) as handle, tifffile.TiffFile(handle) as tiff:
            series = tiff.series[0]
            return tuple(int(series.shape[series.axes.index(axis)]) for axis in "YX")
    except Exception:  # an estimate: whatever is wrong with the file is said once it is fetched
        return 0, 0


def _opened(source: Source, folder: Path, target: Path, patience: Patience) -> AbstractContextManager[IO[bytes]]:
    path = folder / DOWNLOADS / source.name
    here = next((p for p in (target / source.name, path) if p.is_file()), None)
    if here is not None:
        return open(here, "rb")
    return sources.remote(source, http.ask(source.url, patience), patience, path)


def needed(
    planned: Mapping[str, dict],
    samples: Mapping[str, dict],
    costs: list[estimate.Encoder],
    config: Mapping[str, Any],
    folder: Path,
) -> dict | None:
    """Estimate what the run will need once everything is fetched; None where a sample's manifest could not be read.

    Parameters
    ----------
    planned
        What :func:`plan` says.
    samples
        Rows of the sheet by name.
    costs
        Of the encoders.
    """
    patience, sizes = patience_of(config["fetch"]), {}
    bundles = sources.sources(config["fetch"])[1]
    for name, row in samples.items():
        bundle = Path(row["path"]).name
        said = planned.get(bundle, {}) if Path(row["path"]).parent == folder else {}
        if bundle not in bundles or "cells" not in said:
            return None
        shape = he_shape(bundles[bundle].he_image, folder, folder / bundle, patience)
        sizes[name] = estimate.Size(row["role"], said["cells"], said["genes"], said["values"], shape)
    return checks.estimate(sizes, costs, config, 0)


def check_disk(planned: Mapping[str, dict], folder: Path, found: Findings) -> None:
    """Note a disk without room for what is still to be fetched."""
    wanted, free = sum(item["disk"] or 0 for item in planned.values()), estimate.free_bytes(folder)
    if wanted > free:
        found.problem(
            folder,
            f"fetching needs {estimate.say_bytes(wanted)}, and {estimate.say_bytes(free)} are free",
            "Free some, or set fetch.dir to a larger disk",
        )


def describe(planned: Mapping[str, dict], need: dict | None, folder: Path, results: str) -> list[str]:
    """Say in lines what will be fetched, and what the run after it will need."""
    lines = []
    for name, item in planned.items():
        size = "size unknown" if item["transfer"] is None else estimate.say_bytes(item["transfer"])
        lines.append(f"{name}: {'there' if item['there'] else f'to be fetched, {size}'}")
    moved, disk = (sum(item[key] or 0 for item in planned.values()) for key in ("transfer", "disk"))
    times = ", ".join(f"{estimate.say_seconds(moved / rate / 1e6)} at {rate} MB/s" for rate in RATES)
    lines.append(f"to be fetched: {estimate.say_bytes(moved)}: {times}")
    lines.append(
        f"disk for it: {estimate.say_bytes(disk)} in {folder}; free: {estimate.say_bytes(estimate.free_bytes(folder))}"
    )
    if need is None:
        return [*lines, "what the run will need is said by the preflight, once the bundles are there"]
    lines.append(
        f"disk for the run: about {estimate.say_bytes(sum(need['disk'].values()))} in {results}; "
        f"free: {estimate.say_bytes(estimate.free_bytes(results))}"
    )
    for name, count in need["passes"].items():
        lines.append(f"passes through {name}: {count['once']:,} and at most {count['further']:,} of further views")
    cpu, gpu = (estimate.say_seconds(need["seconds"][device]) for device in ("cpu", "gpu"))
    return [*lines, f"time of the run: roughly {cpu} on {need['threads']} CPU cores, {gpu} with a GPU"]
