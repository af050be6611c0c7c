"""Public data, fetched: whole files, and the files of Xenium bundles out of their published archives.

What is fetched lies in ``downloads`` under its published name, with a record (size, SHA-256, address) beside it; a
person can put files there by hand. The workflow's own files are links to these, so that a rule that runs again never
costs a download.
"""

import hashlib
import io
import logging
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from shest.core.errors import InputError, brief
from shest.core.files import atomic_write, read_json, remove, write_json
from shest.encode import encoders
from shest.fetch import http
from shest.fetch.http import Patience, Told
from shest.run import run_inputs
from shest.run.config import published_name, published_parts

log = logging.getLogger("shest")
DOWNLOADS = "downloads"
KNOWN = ("sha256", "md5")


@dataclass(frozen=True)
class Source:
    """A published file: its address, and what is known of its bytes."""

    url: str
    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def name(self) -> str:
        """Published name: the last part of the address."""
        return published_name(self.url)


@dataclass(frozen=True)
class Bundle:
    """The three published files of a Xenium bundle."""

    outs: Source
    he_image: Source
    alignment: Source


def sources(settings: Mapping[str, Any]) -> tuple[dict[str, Source], dict[str, Bundle]]:
    """Return files and bundles of the config's ``fetch``, by name."""
    files = {name: Source(**entry) for name, entry in settings["files"].items()}
    bundles = {name: published_parts(entry) for name, entry in settings["bundles"].items()}
    return files, {name: Bundle(**{k: Source(**v) for k, v in parts.items()}) for name, parts in bundles.items()}


def targets(files: Mapping[str, Source], bundles: Mapping[str, Bundle]) -> dict[str, Source]:
    """Return every file that is fetched as it is, by its path in the folder of what is fetched."""
    beside = {f"{name}/{s.name}": s for name, bundle in bundles.items() for s in (bundle.he_image, bundle.alignment)}
    return dict(files) | beside


def hub_encoders(chosen: list[str | dict]) -> list[str]:
    """Return the names of the encoders whose weights come from the hub."""
    found = []
    for encoder in chosen:
        try:
            entry = encoders.entry_of(encoder)
        except InputError:
            continue  # the preflight says it, with everything else
        if entry is not None and entry.weights.startswith("hub:"):
            found.append(entry.name)
    return found


def patience_of(settings: Mapping[str, Any]) -> Patience:
    """Return how long the config says to go on."""
    return Patience(settings["tries"], settings["timeout_s"])


def by_hand(path: Path) -> str:
    """Say where a file that was fetched by hand belongs."""
    return f"Or fetch it by hand and put it there: {path}"


def record_of(path: Path) -> Path:
    """Return the path of a file's record."""
    return path.with_name(f"{path.name}.json")


def read_record(path: Path) -> dict:
    """Return a file's record, empty where there is none."""
    try:
        found = read_json(record_of(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def digests(path: Path) -> dict[str, str]:
    """Return SHA-256 and MD5 of a file, in hexadecimal, in one reading."""
    made = [hashlib.new(name, usedforsecurity=False) for name in KNOWN]
    with open(path, "rb") as handle:
        while piece := handle.read(1 << 22):
            for one in made:
                one.update(piece)
    return {name: one.hexdigest() for name, one in zip(KNOWN, made, strict=True)}


def obtain(source: Source, folder: Path, patience: Patience) -> Path:
    """Return the path of a whole and checked file in ``folder``: as it lies there, or fetched.

    The first time its SHA-256 is recorded beside it; every later time the file must agree with that.

    Raises
    ------
    InputError
        It cannot be fetched, or does not have the bytes that config or record say.
    """
    path = folder / source.name
    if path.is_file():
        _take(source, path, patience)
        return path
    part, note = http.part_of(path)
    told = http.download(source.url, path, source.bytes, patience, by_hand(path))
    found = _facts(part)
    remedy = (
        "What came was thrown away. Run again; where it says the same, the published file is another than it "
        f"was: correct the config, or remove {record_of(path)}"
    )
    try:
        _agree(source.url, found, source, read_record(path), remedy)
    except InputError:
        remove(part)
        remove(note)
        raise
    _write_record(path, source, found, told, fetched=True)
    os.replace(part, path)
    remove(note)
    return path


def _facts(path: Path) -> dict:
    return {"bytes": path.stat().st_size} | digests(path)


def _agree(what: str | Path, found: Mapping, source: Source, record: Mapping, remedy: str) -> None:
    """Raise :class:`InputError` where a file differs from what the config, or else its record, says of it."""
    for key in ("bytes", *KNOWN):
        said = getattr(source, key)
        wanted, by = (said, "the config") if said is not None else (record.get(key), "its record")
        if wanted is not None and str(wanted).lower() != str(found[key]).lower():
            raise InputError(what, f"{key} is {found[key]}, {by} says {wanted}", remedy)


def _write_record(path: Path, source: Source, found: Mapping, told: Told, fetched: bool) -> None:
    known = {"url": source.url, "fetched": fetched, "etag": told.etag, "modified": told.modified}
    write_json(record_of(path), dict(found) | known | {"recorded": datetime.now(UTC).isoformat(timespec="seconds")})


def _take(source: Source, path: Path, patience: Patience) -> None:
    """Check a file that lies there: against config and record, else at least its size against the server's."""
    record = read_record(path)
    told = Told()
    if source.bytes is None and not record:
        try:
            told = http.ask(source.url, Patience(1, min(patience.timeout_s, 10.0)))
        except InputError as error:
            log.warning(f"WARNING {path}: taken as it lies there; its size could not be asked for ({error.problem})")
    found = _facts(path)
    remedy = f"Copy it again; or remove it and {record_of(path).name}: then it is fetched"
    _agree(path, found, source, record, remedy)
    if told.size not in (None, found["bytes"]):
        raise InputError(path, f"bytes is {found['bytes']}, the server says {told.size}", remedy)
    log.info(f"{path}: it lies there, {found['bytes']:,} bytes, SHA-256 {found['sha256'][:12]}…; taken")
    if not record:
        _write_record(path, source, found, told, fetched=False)


def link(path: Path, target: Path) -> None:
    """Make ``target`` the same file as ``path``: a hard link, or a symbolic one where the disk has none."""
    with atomic_write(target) as tmp_path:
        try:
            os.link(path, tmp_path)
        except OSError:
            tmp_path.symlink_to(path.resolve())


def fetch_file(source: Source, folder: Path, target: Path, patience: Patience) -> None:
    """Obtain a file and link it to where the workflow wants it."""
    link(obtain(source, folder / DOWNLOADS, patience), target)


def fetch_bundle(bundle: Bundle, folder: Path, target: Path, archives: str, patience: Patience) -> None:
    """Put the files that the workflow reads of a bundle into ``target``.

    Parameters
    ----------
    archives
        ``members``: read them out of the published archive by ranges, where the server serves them and the config
        names no checksum of the archive; ``drop``: fetch the archive and remove it once it is unpacked; ``keep``.
        An archive that lies there is used in any case; one that was put there by hand is never removed.
    """
    path = folder / DOWNLOADS / bundle.outs.name
    told = None
    if archives == "members" and not path.is_file() and not (bundle.outs.sha256 or bundle.outs.md5):
        told = http.ask(bundle.outs.url, patience, by_hand(path))
    if told is not None and told.ranges:
        _unpack_remote(bundle.outs, path, told, target, patience)
        return
    obtain(bundle.outs, folder / DOWNLOADS, patience)
    with open(path, "rb") as handle:
        unpack(handle, path, target)
    if archives != "keep" and read_record(path).get("fetched"):
        path.unlink()
        log.info(f"{path}: unpacked and removed; its record stays")


def _unpack_remote(source: Source, path: Path, told: Told, target: Path, patience: Patience) -> None:
    """Unpack from the server, and record what came."""
    if source.bytes is not None and told.size != source.bytes:
        raise InputError(
            source.url,
            f"the server has {told.size:,} bytes, the config says {source.bytes:,}",
            "Correct bytes in the config, or the URL",
        )
    with remote(source, told, patience, path) as handle:
        members = unpack(handle, source.url, target)
    record = read_record(path)
    known = {name: told["crc32"] for name, told in record.get("members", {}).items()}
    if known and known != {name: told["crc32"] for name, told in members.items()}:
        for name in members:
            remove(target / name)
        raise InputError(
            source.url,
            "its files are others than those that were fetched first",
            f"To take the new ones, remove {record_of(path)}",
        )
    _write_record(path, source, {"bytes": told.size, "members": members}, told, fetched=True)


def remote(source: Source, told: Told, patience: Patience, path: Path) -> io.BufferedReader:
    """Open a file on its server for reading."""
    return io.BufferedReader(http.RemoteFile(source.url, told, patience, by_hand(path)), 1 << 16)


def wanted_members(archive: zipfile.ZipFile, what: str | Path) -> dict[str, zipfile.ZipInfo]:
    """Return the members of a bundle's archive that the workflow reads, by file name.

    Raises
    ------
    InputError
        A path in the archive leaves its folder, a wanted file is missing, there twice, no plain file or encrypted.
    """
    infos = archive.infolist()
    strange = next((i.filename for i in infos if _leaves(i.filename)), None)
    if strange is not None:
        raise InputError(what, f"holds a path that leaves its folder ({strange})", "Do not trust this archive")
    specs = [PurePosixPath(i.filename) for i in infos if PurePosixPath(i.filename).name == run_inputs.BUNDLE_FILES[0]]
    if len(specs) != 1:
        raise InputError(
            what, f"{len(specs)} files {run_inputs.BUNDLE_FILES[0]} in it", "Name the archive of one bundle"
        )
    found = {}
    for name in run_inputs.BUNDLE_FILES:
        wanted = str(specs[0].with_name(name))
        members = [info for info in infos if info.filename == wanted]
        if len(members) != 1:
            raise InputError(what, f"{len(members)} files {wanted} in it", "Name the archive of a whole bundle")
        kind = stat.S_IFMT(members[0].external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or members[0].flag_bits & 1:
            raise InputError(what, f"{wanted} is a link, no plain file, or encrypted", "Do not trust this archive")
        found[name] = members[0]
    return found


def _leaves(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name


def unpack(handle: IO[bytes], what: str | Path, target: Path) -> dict[str, dict]:
    """Write the wanted members of an archive into ``target``; return size and CRC-32 of each.

    Raises
    ------
    InputError
        The archive is broken or cannot be trusted, or its files do not fit on the disk.
    """
    try:
        with zipfile.ZipFile(handle) as archive:
            members = wanted_members(archive, what)
            total = sum(info.file_size for info in members.values())
            http.check_room(target, total, f"unpacking {what}")
            with http.progress(total, PurePosixPath(str(what)).name) as advance:
                for name, info in members.items():
                    _extract(archive, info, target / name, advance)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno in http.NO_ROOM:
            raise InputError(target, f"no room left ({brief(error)})", "Free some, then run again") from None
        remedy = "Remove it and its record, then it is fetched again"
        raise InputError(what, f"cannot be unpacked ({brief(error)})", remedy) from None
    return {name: {"bytes": i.file_size, "crc32": f"{i.CRC:08x}"} for name, i in members.items()}


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, advance: Callable[[int], None]) -> None:
    """Write one member; its CRC-32 is compared as it is read."""
    with atomic_write(path) as tmp_path, archive.open(info) as member, open(tmp_path, "wb") as handle:
        while piece := member.read(http.PIECE):
            handle.write(piece)
            advance(len(piece))
        if handle.tell() != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename} has {handle.tell()} bytes, not {info.file_size}")
