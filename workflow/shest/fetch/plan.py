"""What fetching will take, asked of the servers before anything is fetched.

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

from shest.core import disk
from shest.core.errors import Findings, InputError
from shest.core.units import format_bytes, format_seconds
from shest.fetch import http, sources
from shest.fetch.http import Remote, RetryPolicy
from shest.fetch.sources import DOWNLOADS, Bundle, Source
from shest.io.xenium_files import BUNDLE_FILES, SPECS

AT_ONCE = 8  # servers that are asked side by side
RATES = (10, 100)  # MB/s that the time of a download is said for
PRESENT = {"transfer": 0, "disk": 0, "present": True}


def plan(settings: Mapping[str, Any], folder: Path, findings: Findings) -> dict[str, dict]:
    """Say of each file what is still to be fetched and to be written; servers are asked side by side.

    Parameters
    ----------
    settings
        The config's ``fetch``.
    folder
        Folder of what is fetched.

    Returns
    -------
    dict
        By name: ``transfer`` and ``disk`` in bytes (None: the server does not say), ``present``; of bundles also
        ``cells``, ``genes``, ``values`` where the manifest says them.
    """
    policy = probe_policy(settings)
    files, bundles = sources.sources(settings)
    questions = {
        name: (source.url, _plan_file, source, folder, folder / name, policy)
        for name, source in sources.targets(files, bundles).items()
    }
    for name, bundle in bundles.items():
        questions[name] = (bundle.outs.url, _plan_bundle, bundle, folder, folder / name, settings["archives"], policy)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda question: _answer(*question), questions.values()))
    findings.problems += [problem for _, problems in answers for problem in problems]
    return {name: item for name, (item, _) in zip(questions, answers, strict=True) if item is not None}


def _answer(url: str, function: Callable[..., dict], *arguments: Any) -> tuple[dict | None, list[InputError]]:
    """Ask one server; return its answer, or what is wrong."""
    findings = Findings()
    return findings.attempt(url, "Look at the address", function, *arguments), findings.problems


def probe_policy(settings: Mapping[str, Any]) -> RetryPolicy:
    """Return how long to wait for an answer: less than for a download."""
    return RetryPolicy(2, min(settings["timeout_s"], 20.0), 1.0)


def _plan_file(source: Source, folder: Path, target: Path, policy: RetryPolicy) -> dict:
    """Plan of one file."""
    path = folder / DOWNLOADS / source.name
    if target.exists() or path.is_file():
        return PRESENT
    info = http.probe(Remote(source.url, policy, sources.manual_hint(path)))
    http.check_size(source.url, info, source.bytes)
    part, size = http.part_of(path)[0], info.size or source.bytes
    left = None if size is None else max(size - (part.stat().st_size if part.exists() else 0), 0)
    return {"transfer": left, "disk": left, "present": False}


def _plan_bundle(bundle: Bundle, folder: Path, target: Path, archives: str, policy: RetryPolicy) -> dict:
    """Plan of a bundle's archive, with what its manifest says of the run."""
    path = folder / DOWNLOADS / bundle.outs.name
    if all((target / name).is_file() for name in BUNDLE_FILES):
        return PRESENT | _parse_manifest((target / SPECS).read_bytes())
    if path.is_file():
        with open(path, "rb") as handle:
            return _look_inside(handle, path) | {"transfer": 0, "present": True}
    remote = Remote(bundle.outs.url, policy, sources.manual_hint(path))
    info = http.probe(remote)
    http.check_size(remote.url, info, bundle.outs.bytes)
    if not info.ranges:
        return {"transfer": info.size, "disk": info.size, "present": False}
    with sources.buffered(remote, info) as handle:
        item = _look_inside(handle, remote.url) | {"present": False}
    if not sources.by_members(bundle, archives):
        item |= {"transfer": info.size, "disk": item["disk"] + info.size}
    return item


def _look_inside(handle: IO[bytes], what: str | Path) -> dict:
    """Read sizes and the manifest out of an archive."""
    try:
        with zipfile.ZipFile(handle) as archive:
            members = sources.wanted_members(archive, what)
            manifest = _parse_manifest(archive.read(members[SPECS]))
    except zipfile.BadZipFile as error:
        raise InputError(what, f"cannot be unpacked ({error})", "Correct the URL, or remove the file") from None
    sizes = {"transfer": "compress_size", "disk": "file_size"}
    return {key: sum(getattr(info, size) for info in members.values()) for key, size in sizes.items()} | manifest


def _parse_manifest(content: bytes) -> dict:
    """Return cells, genes and counts above 0 (at most) of ``experiment.xenium``; empty where it does not say them."""
    try:
        specs = json.loads(content)
        cells = int(specs["num_cells"])
        genes = int(specs["panel_num_targets_predesigned"]) + int(specs.get("panel_num_targets_custom") or 0)
        values = min(cells * genes, int(cells * float(specs["transcripts_per_cell"])))
    except (ValueError, KeyError, TypeError):
        return {}
    return {"cells": cells, "genes": genes, "values": values}


def he_shape(source: Source, folder: Path, target: Path, policy: RetryPolicy) -> tuple[int, int]:
    """Return height and width of an H&E from its header, here or on its server; (0, 0) where it cannot be read."""
    try:
        with _open(source, folder, target, policy) as handle, tifffile.TiffFile(handle) as tiff:
            series = tiff.series[0]
            return tuple(int(series.shape[series.axes.index(axis)]) for axis in "YX")
    except Exception:  # an estimate: whatever is wrong with the file is said once it is fetched
        return 0, 0


def _open(source: Source, folder: Path, target: Path, policy: RetryPolicy) -> AbstractContextManager[IO[bytes]]:
    paths = (target / source.name, folder / DOWNLOADS / source.name)
    present = next((path for path in paths if path.is_file()), None)
    if present is not None:
        return open(present, "rb")
    remote = Remote(source.url, policy)
    return sources.buffered(remote, http.probe(remote))


def check_disk(planned: Mapping[str, dict], folder: Path, findings: Findings) -> None:
    """Note a disk without room for what is still to be fetched."""
    wanted = sum(item["disk"] or 0 for item in planned.values())
    findings.attempt(folder, "Look at the folder", http.check_room, folder, wanted, "fetching")


def describe(planned: Mapping[str, dict], folder: Path) -> list[str]:
    """Say in lines what will be fetched."""
    lines = []
    for name, item in planned.items():
        size = "size unknown" if item["transfer"] is None else format_bytes(item["transfer"])
        lines.append(f"{name}: {'there' if item['present'] else f'to be fetched, {size}'}")
    transfer, wanted = (sum(item[key] or 0 for item in planned.values()) for key in ("transfer", "disk"))
    times = ", ".join(f"{format_seconds(transfer / rate / 1e6)} at {rate} MB/s" for rate in RATES)
    lines.append(f"to be fetched: {format_bytes(transfer)}: {times}")
    lines.append(f"disk for it: {format_bytes(wanted)} in {folder}; free: {format_bytes(disk.free_bytes(folder))}")
    return lines
