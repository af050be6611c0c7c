"""Bytes over HTTP: resumed, tried again, and checked; what is half there never carries the file's name.

Proxies are those of the usual variables (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), certificates those of the system
(SSL_CERT_FILE changes them). A transfer is resumed only where the server can say that the file is still the same one:
RFC 9110, sections 13.1.5 (If-Range) and 14 (Range).
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from shest import __version__
from shest.core import console
from shest.core.errors import InputError, brief
from shest.core.files import read_json, write_json
from shest.run import estimate

log = logging.getLogger("shest")
PIECE = 1 << 20
PASSING = {408, 425, 429, 500, 502, 503, 504}  # states of a server that may be over in a while
LEAST_RATE = 1024  # bytes/s; a connection that gives less over the whole timeout is taken for dead
LONGEST_PAUSE, LONGEST_WAIT = 60.0, 600.0  # s: of our own accord; when the server asks for it
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
MEANINGS = {
    401: "Access needs a licence or a token",
    403: "Access needs a licence or a token, or a proxy refuses it",
    404: "Correct the URL",
    407: "The proxy wants a name and a password: put them into HTTPS_PROXY",
    410: "Correct the URL",
}


class Passing(Exception):
    """A failure that may be over in a while; ``wait``: the pause in s asked for; ``afresh``: what came is worthless."""

    def __init__(self, said: str, wait: float | None = None, afresh: bool = False) -> None:
        super().__init__(said)
        self.wait, self.afresh = wait, afresh


@dataclass(frozen=True)
class Patience:
    """How long to go on: attempts in a row that bring nothing, s of silence, s of the first pause (it doubles)."""

    tries: int = 8
    timeout_s: float = 60.0
    pause_s: float = 2.0


@dataclass(frozen=True)
class Told:
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

    def same_as(self, other: "Told") -> bool:
        """Tell whether both are the same state of the file, as far as it can be told."""
        pairs = ((self.size, other.size), (self.etag, other.etag), (self.modified, other.modified))
        return all(a == b for a, b in pairs if a is not None and b is not None)


@dataclass
class Stream:
    """An open body: from which byte of the file it starts, and what the server said."""

    body: http.client.HTTPResponse
    start: int
    told: Told
    patience: Patience

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes; raise :class:`Passing` where it breaks off or all but stands still."""
        began, came = time.monotonic(), 0
        while True:
            piece = _passing(lambda: self.body.read1(PIECE))
            if not piece:
                return
            came += len(piece)
            now = time.monotonic()
            if now - began >= self.patience.timeout_s:
                if came < LEAST_RATE * (now - began):
                    raise Passing(f"only {came:,} bytes in {now - began:.0f} s")
                began, came = now, 0
            yield piece


def _passing(function: Callable[[], Any]) -> Any:
    """Call; failures of a connection become :class:`Passing`."""
    try:
        return function()
    except (OSError, http.client.HTTPException) as error:
        raise Passing(brief(getattr(error, "reason", None) or error)) from None


def open_at(url: str, start: int, told: Told, patience: Patience, by_hand: str = "", end: int | None = None) -> Stream:
    """Ask for a file from byte ``start`` on.

    Parameters
    ----------
    told
        What is known of the file: where it has changed since, the whole of it comes instead.
    by_hand
        What a person can do where the file cannot be fetched.
    end
        Last byte wanted; None: to the end.

    Raises
    ------
    Passing
        The attempt failed, and another one may not.
    InputError
        It failed for good.
    """
    headers = {"User-Agent": f"shest/{__version__}", "Accept-Encoding": "identity"}
    if start or end is not None:
        headers["Range"] = f"bytes={start}-{'' if end is None else end}"
        if told.validator:
            headers["If-Range"] = told.validator
    try:
        opener = urllib.request.build_opener()  # the common one would keep the proxies of its first use
        body = opener.open(urllib.request.Request(url, headers=headers), timeout=patience.timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in PASSING or (error.code == 416 and start):
            said = f"the server answers {error.code} {error.reason}"
            raise Passing(said, _wait(error.headers), afresh=error.code == 416) from None
        meaning = MEANINGS.get(error.code, "Look at the address in a browser")
        raise InputError(url, f"the server answers {error.code} {error.reason}", f"{meaning}. {by_hand}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLCertVerificationError):
            remedy = f"Where a proxy opens connections, set SSL_CERT_FILE to its certificate. {by_hand}"
            raise InputError(url, f"its certificate is not trusted ({brief(reason)})", remedy) from None
        raise Passing(brief(reason)) from None
    return Stream(body, *_answer(body), patience)


def _wait(headers: Any) -> float | None:
    asked = (headers or {}).get("Retry-After", "")
    return min(float(asked), LONGEST_WAIT) if asked and asked.isdecimal() else None


def _answer(body: http.client.HTTPResponse) -> tuple[int, Told]:
    """Return from which byte the answer starts, and what it says of the file."""
    said = re.match(r"bytes (\d+)-\d+/(\d+)$", body.headers.get("Content-Range", ""))
    length = body.headers.get("Content-Length")
    validators = body.headers.get("ETag"), body.headers.get("Last-Modified")
    if body.status == 206 and said:
        return int(said.group(1)), Told(int(said.group(2)), *validators, True)
    return 0, Told(int(length) if length and body.status == 200 else None, *validators, False)


def insist(what: str, attempt: Callable[[], Any], patience: Patience, by_hand: str, done: Callable[[], int]) -> Any:
    """Attempt until it works, or until ``patience.tries`` attempts in a row brought nothing.

    Parameters
    ----------
    done
        Bytes that are there; an attempt after which they are more does not count as in vain.
    """
    vain = 0
    while True:
        before = done()
        try:
            return attempt()
        except Passing as error:
            vain = 0 if done() > before else vain + 1
            if vain >= patience.tries:
                raise InputError(
                    what,
                    f"cannot be fetched: {vain} attempts in a row brought nothing, the last one: {error}",
                    f"Look at the network and at HTTPS_PROXY, then run again: what came is kept. {by_hand}",
                ) from None
            pause = error.wait if error.wait is not None else min(patience.pause_s * 2**vain, LONGEST_PAUSE)
            log.info(f"{what}: {error}; trying again in {pause:.0f} s")
            time.sleep(pause)


def ask(url: str, patience: Patience, by_hand: str = "") -> Told:
    """Ask for size, validators and ranges of a file, by its first byte (not every server answers HEAD).

    Raises
    ------
    InputError
        The server cannot be reached, or does not give the file.
    """

    def attempt() -> Told:
        stream = open_at(url, 0, Told(), patience, by_hand, end=0)
        stream.body.close()
        return stream.told

    return insist(url, attempt, patience, by_hand, lambda: 0)


def part_of(target: Path) -> tuple[Path, Path]:
    """Return where the bytes of a file wait until it is whole, and the note of what they are of."""
    return target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")


def _noted(note: Path, url: str) -> Told:
    """Return what the note says; nothing where it is of another address or no note."""
    try:
        data = read_json(note)
        return Told(**data["told"]) if data["url"] == url else Told()
    except (OSError, ValueError, KeyError, TypeError):
        return Told()


def download(url: str, target: Path, expected: int | None, patience: Patience, by_hand: str = "") -> Told:
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
    with _alone(part, target) as handle:

        def attempt() -> Told:
            try:
                return _go_on(url, handle, note, expected, patience, by_hand)
            except Passing as error:
                if error.afresh:
                    handle.truncate(0)
                    note.unlink(missing_ok=True)
                raise

        return insist(url, attempt, patience, by_hand, lambda: handle.seek(0, io.SEEK_END))


@contextmanager
def _alone(part: Path, target: Path) -> Iterator[IO[bytes]]:
    """Open the part for this process alone."""
    with open(part, "ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(target, "another process is fetching this file", "Wait for it, then run again") from None
        except OSError:
            pass  # a file system without locks
        yield handle


def _go_on(url: str, handle: IO[bytes], note: Path, expected: int | None, patience: Patience, by_hand: str) -> Told:
    """One attempt: from where the part ends, or from the start where that cannot be trusted."""
    known = _noted(note, url)
    start = handle.seek(0, io.SEEK_END) if known.validator else 0
    if known.size is not None and start >= known.size:
        if start == known.size:
            return known
        start = 0
    stream = open_at(url, start, known if start else Told(), patience, by_hand)
    with stream.body:
        told = stream.told
        if start and stream.start == start and told.same_as(known):
            log.info(f"{url}: going on at byte {start:,}")
        elif stream.start == 0:
            start = 0
            handle.truncate(0)
            write_json(note, {"url": url, "told": asdict(told)})
        else:
            raise Passing("the file has changed, or another range came than was asked for", wait=0, afresh=True)
        if expected is not None and told.size not in (None, expected):
            raise InputError(
                url,
                f"the server has {told.size:,} bytes, the config says {expected:,}",
                "Correct bytes in the config, or the URL",
            )
        check_room(note.parent, (told.size or expected or 0) - start, url)
        return _write(url, handle, stream, start)


def _write(url: str, handle: IO[bytes], stream: Stream, start: int) -> Told:
    """Append the body to the part; raise :class:`Passing` where it ends too early."""
    size, came = stream.told.size, start
    with progress((size or start) - start, url.rpartition("/")[2]) as advance:
        for piece in stream.pieces():
            _append(handle, piece)
            came += len(piece)
            advance(len(piece))
        if size is not None and came < size:
            raise Passing(f"the connection ended at byte {came:,} of {size:,}")
        if size is not None and came > size:
            raise Passing(f"{came:,} bytes came of {size:,}", afresh=True)
    return Told(came, stream.told.etag, stream.told.modified, stream.told.ranges)


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Track bytes, shown in MB, or in kB where they are few; yield the function that adds some."""
    unit, scale = ("MB", 10**6) if total >= 10**7 else ("kB", 10**3)
    came = 0
    with console.track(total // scale, what, unit) as advance:

        def add(count: int) -> None:
            nonlocal came
            advance((came + count) // scale - came // scale)
            came += count

        yield add


def _append(handle: IO[bytes], piece: bytes) -> None:
    try:
        handle.write(piece)
        handle.flush()
    except OSError as error:
        if error.errno in NO_ROOM:
            raise InputError(handle.name, f"no room left ({brief(error)})", "Free some, then run again") from None
        raise


def check_room(folder: Path, wanted: int, what: str) -> None:
    """Raise :class:`InputError` where ``wanted`` bytes do not fit on a folder's disk."""
    free = estimate.free_bytes(folder)
    if wanted > free:
        raise InputError(
            folder,
            f"{what} needs {estimate.say_bytes(wanted)}, and {estimate.say_bytes(free)} are free",
            "Free some, or set fetch.dir to a larger disk",
        )


class RemoteFile(io.RawIOBase):
    """A file on a server, read where one likes by ranges; for a server that has said that it serves them.

    Sequential reads share one connection. A connection that breaks is opened again where it broke, and a file that
    has changed meanwhile is an error.
    """

    def __init__(self, url: str, told: Told, patience: Patience, by_hand: str = "") -> None:
        self.url, self.told, self.patience, self.by_hand = url, told, patience, by_hand
        self._place, self._stream, self._rest = 0, None, b""
        self._came = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.told.size}[whence]
        if base + offset < 0:
            raise ValueError(f"no byte {base + offset}")
        if base + offset != self._place:
            self._drop()
            self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        if self._place >= self.told.size:
            return 0
        piece = insist(self.url, self._next, self.patience, self.by_hand, lambda: self._came)
        taken = piece[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = piece[len(taken) :]
        self._place += len(taken)
        self._came += len(taken)
        return len(taken)

    def _next(self) -> bytes:
        if self._rest:
            return self._rest
        if self._stream is None:
            opened = open_at(self.url, self._place, self.told, self.patience, self.by_hand, end=self.told.size - 1)
            if not opened.told.ranges or opened.start != self._place or not opened.told.same_as(self.told):
                opened.body.close()
                raise InputError(self.url, "the file has changed while it was read", "Run again")
            self._stream, self._pieces = opened, opened.pieces()
        try:
            piece = next(self._pieces, b"")
        except Passing:
            self._drop()
            raise
        if not piece:
            self._drop()
            raise Passing(f"the connection ended at byte {self._place:,}")
        return piece

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.body.close()
        self._stream, self._rest = None, b""

    def close(self) -> None:
        self._drop()
        super().close()
