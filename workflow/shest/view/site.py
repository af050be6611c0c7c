"""Files of a page that opens by double click: classic scripts that hold data, named by what is in them.

From ``file://`` a browser runs classic scripts and shows images, and refuses everything else: ``fetch``, workers,
modules, textures and exports of image files. So data are scripts that call ``shest(value)``, the H&E's tiles too: a
picture of the view can then be saved. Of two builds, only what changed is written.
"""

import base64
import hashlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from shest.core.files import atomic_write

TYPES = {"|u1": "Uint8", "<u2": "Uint16", "<u4": "Uint32", "<i2": "Int16", "<f4": "Float32"}
DIGITS = 16  # of a name: two contents of one site do not meet


class Site:
    """A folder of files named by their content.

    Attributes
    ----------
    written
        Number of files that were not there before.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder, self.written = Path(folder), 0
        self._kept: set[Path] = set()

    def add(self, name: str, content: bytes, suffix: str = ".js") -> str:
        """Write a file unless it is there, and return its path in the site: ``{name}-{digest}{suffix}``."""
        digest = hashlib.sha256(content).hexdigest()[:DIGITS]
        return self._put(f"{name}-{digest}{suffix}", content)

    def add_tile(self, content: bytes) -> str:
        """Write a file unless it is there, and return its name: ``tiles/{first two digits}/{name}.js`` holds it.

        Spread over folders, since file systems (and people who open one) do not like thousands of files in one.
        """
        digest = hashlib.sha256(content).hexdigest()[:DIGITS]
        self._put(f"tiles/{digest[:2]}/{digest}.js", content)
        return digest

    def _put(self, relative: str, content: bytes) -> str:
        path = self.folder / relative
        if path not in self._kept and not (path.is_file() and path.stat().st_size == len(content)):
            with atomic_write(path) as tmp_path:
                tmp_path.write_bytes(content)
            self.written += 1
        self._kept.add(path)
        return relative

    def sweep(self) -> int:
        """Remove what an earlier build left and this one did not add; return how many files."""
        named = re.compile(rf"(^|-)[0-9a-f]{{{DIGITS}}}\.")
        found = {path for path in self.folder.rglob("*.*") if named.search(path.name) and path.is_file()}
        for path in found - self._kept:
            path.unlink()
        return len(found - self._kept)


def script(value: Any) -> bytes:
    """Return the script that hands over a JSON-like value: ASCII, and without ``<``, whatever text is in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"shest({text});\n".encode("ascii")


def pack(array: np.ndarray) -> dict[str, str]:
    """Return an array as JSON holds it: the name of its typed array, its bytes (little-endian) by zlib and base64."""
    array = np.ascontiguousarray(array)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return {"type": TYPES[array.dtype.str], "data": _deflated(array.tobytes())}


def pack_json(value: Any) -> dict[str, str]:
    """Return a large JSON-like value likewise."""
    return {"type": "json", "data": _deflated(json.dumps(value, separators=(",", ":")).encode())}


def _deflated(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 6)).decode("ascii")
