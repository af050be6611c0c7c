"""Files that are whole or not there: written aside, then renamed."""

import glob
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DAY = 86_400


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes it on success and vanishes on failure.

    The temporary name keeps the suffix (writers choose the format by it) and holds host and process, so that two runs
    that write the same file do not meet. What a process that was killed left beside the file is removed with it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = path.with_name(f".{path.stem}.{os.uname().nodename}-{os.getpid()}.part{path.suffix}")
    remove(tmp_path)
    try:
        yield tmp_path
        if path.is_dir():
            remove(path)
        os.replace(tmp_path, path)
    finally:
        remove(tmp_path)
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*-*.part{path.suffix}"):
        if _abandoned(left):
            remove(left)


def _abandoned(part: Path) -> bool:
    """Tell whether nobody writes a temporary file any more: its process is gone, or it has lain there for a day."""
    host, _, process = part.name.rpartition(".part")[0].rpartition("-")
    if host.endswith(f".{os.uname().nodename}") and process.isdigit():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
    try:
        return time.time() - part.stat().st_mtime > DAY
    except FileNotFoundError:
        return False


def remove(path: str | Path) -> None:
    """Remove a file or a folder, if it is there."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: str | Path, data: Any) -> None:
    """Write indented JSON. NaN and infinity are refused: they are no JSON."""
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(data: Any) -> str:
    """Return the SHA-256 of a JSON-like value in canonical form, in hexadecimal."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
