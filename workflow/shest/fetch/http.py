"""Bytes over HTTP: resumed, tried again, and checked; what is half there never carries the file's name.

Proxies are those of the usual variables (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), certificates those of the system
(SSL_CERT_FILE changes them). A transfer is resumed only where the server can say that the file is still the same one:
RFC 9110, sections 13.1.5 (If-Range) and 14 (Range).

No installed library can take its place, for none sends If-Range: a file that changes between two attempts would be
glued together of both. Besides: pooch begins every attempt at byte 0; huggingface_hub's ``http_get`` refuses more than
50 GB; fsspec and smart_open read ranges without a second attempt; ``Retry`` of urllib3 (and so of requests) repeats
requests, not bodies that break off, and neither reads SSL_CERT_FILE together with the variables of proxies; curl's
``--continue-at`` is Range alone.
"""

import errno
import fcntl
import http.client
import io
import logging
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from shest import __version__
from shest.core import console, disk
from shest.core.errors import InputError, one_line
from shest.core.files import read_json, write_json
from shest.core.units import format_bytes

T = TypeVar("T")
log = logging.getLogger("shest")
PIECE = 1 << 20
LEAST_RATE = 1024  # bytes/s; a connection that gives less over the whole timeout is taken for dead
LONGEST_PAUSE, LONGEST_WAIT = 60.0, 600.0  # s: of our own accord; when the server asks for it
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
BROKEN = (OSError, http.client.HTTPException)
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
STATUS_HINTS = {
    401: "Access needs a licence or a token",
    403: "Access needs a licence or a token, or a proxy refuses it",
    404: "Correct the URL",
    407: "The proxy wants a name and a password: put them into HTTPS_PROXY",
    410: "Correct the URL",
}


class TransientError(Exception):
    """A failure that may be over in a while; ``wait``: the pause in s asked for; ``afresh``: what came is worthless."""

    def __init__(self, message: str, wait: float | None = None, afresh: bool = False) -> None:
        super().__init__(message)
        self.wait, self.afresh = wait, afresh


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on: attempts in a row that bring nothing, s of silence, s of the first pause (it doubles)."""

    tries: int = 8
    timeout_s: float = 60.0
    pause_s: float = 2.0


@dataclass(frozen=True)
class Remote:
    """A file on a server: its address, how long to go on, what a person can do where it cannot be fetched."""

    url: str
    policy: RetryPolicy
    hint: str = ""


@dataclass(frozen=True)
class RemoteInfo:
    """What a server says of a file: its bytes (None: unsaid), its validators, whether it serves ranges."""

    size: int | None = None
    etag: str | None = None
    modified: str | None = None
    ranges: bool = False

    @property
    def validator(self) -> str | None:
        """What If-Range may carry: a strong tag, else the date."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.modified

    def same_as(self, other: "RemoteInfo") -> bool:
        """Tell whether both are the same state of the file, as far as it can be told."""
        pairs = ((self.size, other.size), (self.etag, other.etag), (self.modified, other.modified))
        return all(a == b for a, b in pairs if a is not None and b is not None)


UNKNOWN = RemoteInfo()


@dataclass
class Stream:
    """An open body: from which byte of the file it starts, what the server said, s after which it is too slow."""

    body: http.client.HTTPResponse
    start: int
    info: RemoteInfo
    timeout_s: float
    _since: float = field(default_factory=time.monotonic)
    _received: int = 0

    def read(self, size: int) -> bytes:
        """Read what has come; raise :class:`TransientError` where the body breaks off or all but stands still."""
        try:
            piece = self.body.read1(size)
        except BROKEN as error:
            raise TransientError(one_line(error)) from None
        self._received += len(piece)
        seconds = time.monotonic() - self._since
        if piece and seconds >= self.timeout_s:
            if self._received < LEAST_RATE * seconds:
                raise TransientError(f"only {self._received:,} bytes in {seconds:.0f} s")
            self._since, self._received = time.monotonic(), 0
        return piece


def open_range(remote: Remote, start: int = 0, known: RemoteInfo = UNKNOWN, end: int | None = None) -> Stream:
    """Ask for a file from byte ``start`` on.

    Parameters
    ----------
    known
        What is known of the file: where it has changed since, the whole of it comes instead.
    end
        Last byte wanted; None: to the end.

    Raises
    ------
    TransientError
        The attempt failed, and another one may not.
    InputError
        It failed for good.
    """
    headers = {"User-Agent": f"shest/{__version__}", "Accept-Encoding": "identity"}
    if start or end is not None:
        headers["Range"] = f"bytes={start}-{'' if end is None else end}"
        if known.validator:
            headers["If-Range"] = known.validator
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        opener = urllib.request.build_opener()  # the common one would keep the proxies of its first use
        body = opener.open(request, timeout=remote.policy.timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        problem = f"the server answers {error.code} {error.reason}"
        if error.code in TRANSIENT_STATUS or (error.code == 416 and start):
            raise TransientError(problem, _wait(error.headers), afresh=error.code == 416) from None
        hint = STATUS_HINTS.get(error.code, "Look at the address in a browser")
        raise InputError(remote.url, problem, f"{hint}. {remote.hint}") from None
    except BROKEN as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLCertVerificationError):
            remedy = f"Where a proxy opens connections, set SSL_CERT_FILE to its certificate. {remote.hint}"
            raise InputError(remote.url, f"its certificate is not trusted ({one_line(reason)})", remedy) from None
        raise TransientError(one_line(reason)) from None
    return Stream(body, *_parse(body), remote.policy.timeout_s)


def _wait(headers: Any) -> float | None:
    wanted = (headers or {}).get("Retry-After", "")
    return min(float(wanted), LONGEST_WAIT) if wanted and wanted.isdecimal() else None


def _parse(body: http.client.HTTPResponse) -> tuple[int, RemoteInfo]:
    """Return from which byte the answer starts, and what it says of the file."""
    part = re.match(r"bytes (\d+)-\d+/(\d+)$", body.headers.get("Content-Range", ""))
    length = body.headers.get("Content-Length")
    validators = body.headers.get("ETag"), body.headers.get("Last-Modified")
    if body.status == 206 and part:
        return int(part.group(1)), RemoteInfo(int(part.group(2)), *validators, True)
    return 0, RemoteInfo(int(length) if length and body.status == 200 else None, *validators, False)


def retry(remote: Remote, attempt: Callable[[], T], received: Callable[[], int] = lambda: 0) -> T:
    """Attempt until it works, or until ``policy.tries`` attempts in a row brought nothing.

    Parameters
    ----------
    received
        Bytes that are there; an attempt after which they are more does not count as in vain.
    """
    policy, vain = remote.policy, 0
    while True:
        before = received()
        try:
            return attempt()
        except TransientError as error:
            vain = 0 if received() > before else vain + 1
            if vain >= policy.tries:
                raise InputError(
                    remote.url,
                    f"cannot be fetched: {vain} attempts in a row brought nothing, the last one: {error}",
                    f"Look at the network and at HTTPS_PROXY, then run again: what came is kept. {remote.hint}",
                ) from None
            pause = error.wait if error.wait is not None else min(policy.pause_s * 2**vain, LONGEST_PAUSE)
            log.info(f"{remote.url}: {error}; trying again in {pause:.0f} s")
            time.sleep(pause)


def probe(remote: Remote) -> RemoteInfo:
    """Ask for size, validators and ranges of a file, by its first byte (not every server answers HEAD)."""

    def attempt() -> RemoteInfo:
        stream = open_range(remote, end=0)
        stream.body.close()
        return stream.info

    return retry(remote, attempt)


def check_size(url: str, info: RemoteInfo, expected: int | None) -> None:
    """Raise :class:`InputError` where the server has another size than the config says."""
    if None not in (info.size, expected) and info.size != expected:
        raise InputError(
            url,
            f"the server has {info.size:,} bytes, the config says {expected:,}",
            "Correct bytes in the config, or the URL",
        )


def check_room(folder: Path, wanted: int, what: str) -> None:
    """Raise :class:`InputError` where ``wanted`` bytes do not fit on a folder's disk."""
    free = disk.free_bytes(folder)
    if wanted > free:
        raise InputError(
            folder,
            f"{what} needs {format_bytes(wanted)}, and {format_bytes(free)} are free",
            "Free some, or set fetch.dir to a larger disk",
        )


def part_of(target: Path) -> tuple[Path, Path]:
    """Return where the bytes of a file wait until it is whole, and the note of what they are of."""
    return target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")


def _read_note(note: Path, url: str) -> RemoteInfo:
    """Return what the note says; nothing where it is of another address or no note."""
    try:
        data = read_json(note)
        return RemoteInfo(**data["info"]) if data["url"] == url else UNKNOWN
    except (OSError, ValueError, KeyError, TypeError):
        return UNKNOWN


def download(remote: Remote, target: Path, expected: int | None = None) -> RemoteInfo:
    """Fetch a file to its ``.part``, which is then as long as the server said.

    Parameters
    ----------
    expected
        Bytes that it must have; None: what the server says.

    Raises
    ------
    InputError
        It cannot be fetched, is of another size than expected, does not fit on the disk, or another process fetches it.
    """
    part, note = part_of(target)
    part.parent.mkdir(parents=True, exist_ok=True)
    with _locked(part, target) as handle:

        def attempt() -> RemoteInfo:
            try:
                return _resume(remote, handle, note, expected)
            except TransientError as error:
                if error.afresh:
                    handle.truncate(0)
                    note.unlink(missing_ok=True)
                raise

        return retry(remote, attempt, received=lambda: handle.seek(0, io.SEEK_END))


@contextmanager
def _locked(part: Path, target: Path) -> Iterator[IO[bytes]]:
    """Open the part for this process alone."""
    with open(part, "ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(target, "another process is fetching this file", "Wait for it, then run again") from None
        except OSError:
            pass  # a file system without locks
        yield handle


def _resume(remote: Remote, handle: IO[bytes], note: Path, expected: int | None) -> RemoteInfo:
    """One attempt: from where the part ends, or from the start where that cannot be trusted."""
    known = _read_note(note, remote.url)
    start = handle.seek(0, io.SEEK_END) if known.validator else 0
    if start == known.size:
        return known
    stream = open_range(remote, start, known if start else UNKNOWN)
    with stream.body:
        info = stream.info
        if start and stream.start == start and info.same_as(known):
            log.info(f"{remote.url}: going on at byte {start:,}")
        elif stream.start == 0:
            start = 0
            handle.truncate(0)
            write_json(note, {"url": remote.url, "info": asdict(info)})
        else:
            raise TransientError("the file has changed, or another range came than was asked for", wait=0, afresh=True)
        check_size(remote.url, info, expected)
        check_room(note.parent, (info.size or expected or 0) - start, remote.url)
        size = _write(handle, stream, start, remote.url.rpartition("/")[2])
    return RemoteInfo(size, info.etag, info.modified, info.ranges)


def _write(handle: IO[bytes], stream: Stream, start: int, what: str) -> int:
    """Append the body to the part, return its size; raise :class:`TransientError` where it is not what was said."""
    size, end = stream.info.size, start
    with progress((size or start) - start, what) as advance:
        while piece := stream.read(PIECE):
            _append(handle, piece)
            end += len(piece)
            advance(len(piece))
    if size is not None and end < size:
        raise TransientError(f"the connection ended at byte {end:,} of {size:,}")
    if size is not None and end > size:
        raise TransientError(f"{end:,} bytes came of {size:,}", afresh=True)
    return end


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Track bytes, shown in MB, or in kB where they are few; yield the function that adds some."""
    unit, scale = ("MB", 10**6) if total >= 10**7 else ("kB", 10**3)
    done = 0
    with console.track(total // scale, what, unit) as advance:

        def add(count: int) -> None:
            nonlocal done
            advance((done + count) // scale - done // scale)
            done += count

        yield add


def _append(handle: IO[bytes], piece: bytes) -> None:
    try:
        handle.write(piece)
        handle.flush()
    except OSError as error:
        if error.errno in NO_ROOM:
            raise InputError(handle.name, f"no room left ({one_line(error)})", "Free some, then run again") from None
        raise


class RemoteFile(io.RawIOBase):
    """A file on a server, read where one likes by ranges; for a server that has said that it serves them.

    Sequential reads share one connection. A connection that breaks is opened again where it broke, and a file that
    has changed meanwhile is an error.
    """

    def __init__(self, remote: Remote, info: RemoteInfo) -> None:
        self.remote, self.info = remote, info
        self._position, self._stream = 0, None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.info.size}[whence] + offset
        if position < 0:
            raise ValueError(f"no byte {position}")
        if position != self._position:
            self._drop()
            self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self.info.size:
            return 0
        piece = retry(self.remote, lambda: self._read(len(buffer)))
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _read(self, size: int) -> bytes:
        if self._stream is None:
            self._stream = open_range(self.remote, self._position, self.info, end=self.info.size - 1)
            info = self._stream.info
            if not info.ranges or self._stream.start != self._position or not info.same_as(self.info):
                self._drop()
                raise InputError(self.remote.url, "the file has changed while it was read", "Run again")
        try:
            if piece := self._stream.read(size):
                return piece
            raise TransientError(f"the connection ended at byte {self._position:,}")
        except TransientError:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.body.close()
        self._stream = None

    def close(self) -> None:
        self._drop()
        super().close()
