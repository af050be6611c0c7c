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
from urllib.parse import unquote, urlsplit

from shest.core.errors import InputError, one_line
from shest.core.files import atomic_write, read_json, remove, write_json
from shest.fetch import http
from shest.fetch.http import Remote, RemoteFile, RemoteInfo, RetryPolicy
from shest.io.xenium_files import ALIGNMENT, BUNDLE_FILES, HE_IMAGE, SPECS

log = logging.getLogger("shest")
DOWNLOADS = "downloads"
CHECKSUMS = ("sha256", "md5")
PUBLISHED = {"outs": "outs.zip", "he_image": HE_IMAGE, "alignment": ALIGNMENT}
"""Files of a published bundle, by the ends of their names."""


def published_name(url: str) -> str:
    """Return the last part of an address: the name that its file was published under."""
    return unquote(PurePosixPath(urlsplit(url).path).name)


def published_parts(entry: Mapping[str, Any]) -> dict[str, dict]:
    """Return address and known bytes of each file of a published bundle; one without an address has no ``url``."""
    start = entry.get("url")
    return {
        part: ({"url": f"{start}_{ending}"} if start else {}) | entry.get(part, {})
        for part, ending in PUBLISHED.items()
    }


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


def hub_encoders(encoders: list[dict]) -> list[str]:
    """Return the names of the encoders whose weights come from the hub."""
    return [encoder["name"] for encoder in encoders if str(encoder.get("weights")).startswith("hub:")]


def policy_of(settings: Mapping[str, Any]) -> RetryPolicy:
    """Return how long the config says to go on."""
    return RetryPolicy(settings["tries"], settings["timeout_s"])


def manual_hint(path: Path) -> str:
    """Say where a file that was fetched by hand belongs."""
    return f"Or fetch it by hand and put it there: {path}"


def record_of(path: Path) -> Path:
    """Return the path of a file's record."""
    return path.with_name(f"{path.name}.json")


def read_record(path: Path) -> dict:
    """Return a file's record, empty where there is none."""
    try:
        record = read_json(record_of(path))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(path: Path, source: Source, facts: Mapping, info: RemoteInfo, fetched: bool) -> None:
    known = {"url": source.url, "fetched": fetched, "etag": info.etag, "modified": info.modified}
    write_json(record_of(path), dict(facts) | known | {"recorded": datetime.now(UTC).isoformat(timespec="seconds")})


def _facts(path: Path) -> dict[str, Any]:
    """Return size, SHA-256 and MD5 of a file, in one reading."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in CHECKSUMS}
    with open(path, "rb") as handle:
        while piece := handle.read(1 << 22):
            for value in hashes.values():
                value.update(piece)
        return {"bytes": handle.tell()} | {name: value.hexdigest() for name, value in hashes.items()}


def fetch_or_reuse(source: Source, folder: Path, policy: RetryPolicy) -> Path:
    """Return the path of a whole and checked file in ``folder``: as it lies there, or fetched.

    The first time its SHA-256 is recorded beside it; every later time the file must agree with that.

    Raises
    ------
    InputError
        It cannot be fetched, or does not have the bytes that config or record say.
    """
    path = folder / source.name
    if path.is_file():
        _verify_existing(source, path, policy)
        return path
    part, note = http.part_of(path)
    info = http.download(Remote(source.url, policy, manual_hint(path)), path, source.bytes)
    facts = _facts(part)
    remedy = (
        "What came was thrown away. Run again; where it says the same, the published file is another than it "
        f"was: correct the config, or remove {record_of(path)}"
    )
    try:
        _verify_checksums(source.url, facts, source, read_record(path), remedy)
    except InputError:
        remove(part)
        remove(note)
        raise
    _write_record(path, source, facts, info, fetched=True)
    os.replace(part, path)
    remove(note)
    return path


def _verify_checksums(what: str | Path, facts: Mapping, source: Source, record: Mapping, remedy: str) -> None:
    """Raise :class:`InputError` where a file differs from what the config, or else its record, says of it."""
    for key in ("bytes", *CHECKSUMS):
        configured = getattr(source, key)
        wanted, by = (record.get(key), "its record") if configured is None else (configured, "the config")
        if wanted is not None and str(wanted).lower() != str(facts[key]).lower():
            raise InputError(what, f"{key} is {facts[key]}, {by} says {wanted}", remedy)


def _verify_existing(source: Source, path: Path, policy: RetryPolicy) -> None:
    """Check a file that lies there: against config and record, else at least its size against the server's."""
    record, info = read_record(path), http.UNKNOWN
    if source.bytes is None and not record:
        try:
            info = http.probe(Remote(source.url, RetryPolicy(1, min(policy.timeout_s, 10.0))))
        except InputError as error:
            log.warning(f"WARNING {path}: taken as it lies there; its size could not be asked for ({error.problem})")
    facts = _facts(path)
    remedy = f"Copy it again; or remove it and {record_of(path).name}: then it is fetched"
    _verify_checksums(path, facts, source, record, remedy)
    if info.size not in (None, facts["bytes"]):
        raise InputError(path, f"bytes is {facts['bytes']}, the server says {info.size}", remedy)
    log.info(f"{path}: it lies there, {facts['bytes']:,} bytes, SHA-256 {facts['sha256'][:12]}…; taken")
    if not record:
        _write_record(path, source, facts, info, fetched=False)


def link(path: Path, target: Path) -> None:
    """Make ``target`` the same file as ``path``: a hard link, or a symbolic one where the disk has none."""
    with atomic_write(target) as tmp_path:
        try:
            os.link(path, tmp_path)
        except OSError:
            tmp_path.symlink_to(path.resolve())


def fetch_file(source: Source, folder: Path, target: Path, policy: RetryPolicy) -> None:
    """Fetch a file, or take it as it lies there, and link it to where the workflow wants it."""
    link(fetch_or_reuse(source, folder / DOWNLOADS, policy), target)


def fetch_bundle(bundle: Bundle, folder: Path, target: Path, archives: str, policy: RetryPolicy) -> None:
    """Put the files that the workflow reads of a bundle into ``target``.

    Parameters
    ----------
    archives
        ``members``: read them out of the published archive by ranges, where the server serves them and the config
        names no checksum of the archive; ``drop``: fetch the archive and remove it once it is unpacked; ``keep``.
        An archive that lies there is used in any case; one that was put there by hand is never removed.
    """
    path = folder / DOWNLOADS / bundle.outs.name
    if not path.is_file() and by_members(bundle, archives):
        remote = Remote(bundle.outs.url, policy, manual_hint(path))
        info = http.probe(remote)
        if info.ranges:
            _unpack_remote(bundle.outs, remote, info, path, target)
            return
    fetch_or_reuse(bundle.outs, folder / DOWNLOADS, policy)
    with open(path, "rb") as handle:
        unpack(handle, path, target)
    if archives != "keep" and read_record(path).get("fetched"):
        path.unlink()
        log.info(f"{path}: unpacked and removed; its record stays")


def by_members(bundle: Bundle, archives: str) -> bool:
    """Tell whether single files are read out of a bundle's archive, where its server serves ranges."""
    return archives == "members" and not (bundle.outs.sha256 or bundle.outs.md5)


def _unpack_remote(source: Source, remote: Remote, info: RemoteInfo, path: Path, target: Path) -> None:
    """Unpack from the server, and record what came."""
    http.check_size(source.url, info, source.bytes)
    with buffered(remote, info) as handle:
        members = unpack(handle, source.url, target)
    recorded = {name: member["crc32"] for name, member in read_record(path).get("members", {}).items()}
    if recorded and recorded != {name: member["crc32"] for name, member in members.items()}:
        for name in members:
            remove(target / name)
        raise InputError(
            source.url,
            "its files are others than those that were fetched first",
            f"To take the new ones, remove {record_of(path)}",
        )
    _write_record(path, source, {"bytes": info.size, "members": members}, info, fetched=True)


def buffered(remote: Remote, info: RemoteInfo) -> io.BufferedReader:
    """Open a file on its server for reading."""
    return io.BufferedReader(RemoteFile(remote, info), 1 << 16)


def wanted_members(archive: zipfile.ZipFile, what: str | Path) -> dict[str, zipfile.ZipInfo]:
    """Return the members of a bundle's archive that the workflow reads, by file name.

    Raises
    ------
    InputError
        A path in the archive leaves its folder, a wanted file is missing, there twice, no plain file or encrypted.
    """
    infos = archive.infolist()
    strange = next((info.filename for info in infos if _leaves(info.filename)), None)
    if strange is not None:
        raise InputError(what, f"holds a path that leaves its folder ({strange})", "Do not trust this archive")
    specs = [path for info in infos if (path := PurePosixPath(info.filename)).name == SPECS]
    if len(specs) != 1:
        raise InputError(what, f"{len(specs)} files {SPECS} in it", "Name the archive of one bundle")
    members = {}
    for name in BUNDLE_FILES:
        wanted = str(specs[0].with_name(name))
        matches = [info for info in infos if info.filename == wanted]
        if len(matches) != 1:
            raise InputError(what, f"{len(matches)} files {wanted} in it", "Name the archive of a whole bundle")
        members[name] = matches[0]
        if stat.S_IFMT(members[name].external_attr >> 16) not in (0, stat.S_IFREG) or members[name].flag_bits & 1:
            raise InputError(what, f"{wanted} is a link, no plain file, or encrypted", "Do not trust this archive")
    return members


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
            raise InputError(target, f"no room left ({one_line(error)})", "Free some, then run again") from None
        remedy = "Remove it and its record, then it is fetched again"
        raise InputError(what, f"cannot be unpacked ({one_line(error)})", remedy) from None
    return {name: {"bytes": i.file_size, "crc32": f"{i.CRC:08x}"} for name, i in members.items()}


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, advance: Callable[[int], None]) -> None:
    """Write one member; its CRC-32 is compared as it is read."""
    with atomic_write(path) as tmp_path, archive.open(info) as member, open(tmp_path, "wb") as handle:
        while piece := member.read(http.PIECE):
            handle.write(piece)
            advance(len(piece))
        if handle.tell() != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename} has {handle.tell()} bytes, not {info.file_size}")
