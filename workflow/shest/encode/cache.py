"""The embedding cache: which file holds the embedding of which cell and view. NumPy only.

A part is a ``.npy`` file of float16 rows, named by what it depends on: the encoder's fingerprint, the digest of
the tile shard and the view. The identity view of a shard is one part with a row for each of its cells; further
views are encoded for some cells only, and such a part has a second file with the rows of the shard it holds.
Parts are written aside and renamed, rows first, so that a part that is there is whole; several runs and users
can share a cache.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from shest.core.errors import InputError
from shest.core.files import atomic_write, read_json

IDENTITY = 0
VIEWS = 8


def part_path(cache: str | Path, fingerprint: str, shard: str, view: int, rows: np.ndarray | None = None) -> Path:
    """Return where a part lies.

    Parameters
    ----------
    cache : folder
    fingerprint : of the encoder
    shard : SHA-256 of the tile shard
    view : 0 to 7
    rows : the shard's cells that the part holds, ascending; None for all
    """
    name = f"{shard[:32]}.v{view}"
    if rows is not None:
        name += "." + hashlib.sha256(np.asarray(rows, np.int32).tobytes()).hexdigest()[:12]
    return Path(cache) / fingerprint[:32] / f"{name}.npy"


def rows_path(part: Path) -> Path:
    """Return the file beside a part that says which cells of the shard it holds."""
    return part.with_suffix(".rows.npy")


def write_part(part: Path, embeddings: np.ndarray, rows: np.ndarray | None) -> None:
    """Write a part; its rows first, the embeddings last, each aside and renamed."""
    if rows is not None:
        _save(rows_path(part), np.asarray(rows, np.int32))
    _save(part, np.asarray(embeddings, np.float16))


def _save(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as tmp_path:
        np.save(tmp_path, array, allow_pickle=False)


def missing_rows(cache: str | Path, fingerprint: str, shard: str, view: int, rows: np.ndarray) -> np.ndarray:
    """Return those of the shard's ``rows`` that no part of this view holds yet, ascending."""
    if part_path(cache, fingerprint, shard, view).is_file():
        return np.empty(0, np.int32)
    present = [np.load(rows_path(part)) for part in _parts(cache, fingerprint, shard, view)]
    return np.setdiff1d(np.asarray(rows, np.int32), np.concatenate([np.empty(0, np.int32), *present]))


def _parts(cache: str | Path, fingerprint: str, shard: str, view: int) -> list[Path]:
    """Return the partial parts of a view that are whole."""
    whole = part_path(cache, fingerprint, shard, view)
    paths = sorted(whole.parent.glob(f"{whole.stem}.*.npy"))
    return [path for path in paths if not path.name.endswith(".rows.npy") and rows_path(path).is_file()]


def parts_for(cache: str | Path, fingerprint: str, shard: str, view: int, rows: np.ndarray | None) -> list[Path]:
    """Return the parts that together hold ``rows`` (None: all cells) of a shard's view.

    Raises
    ------
    InputError
        Some are missing.
    """
    whole = part_path(cache, fingerprint, shard, view)
    if whole.is_file():
        return [whole]
    if rows is None or len(missing_rows(cache, fingerprint, shard, view, rows)):
        raise InputError(cache, f"the cache lacks view {view} of shard {shard[:12]}", "Run the embedding again")
    wanted = np.asarray(rows, np.int32)
    return [part for part in _parts(cache, fingerprint, shard, view) if np.isin(np.load(rows_path(part)), wanted).any()]


class Embeddings:
    """Embeddings of cells and views, read from memory-mapped cache parts when asked for.

    Parameters
    ----------
    indices
        Paths of ``embeddings.json`` files: of one or several samples, of one encoder.
    cells
        (n,) the cells in the order in which they are asked for: (sample, cell_id).
    """

    def __init__(self, indices: Iterable[str | Path], cells: Sequence[tuple[str, str]]) -> None:
        position = {cell: i for i, cell in enumerate(cells)}
        self._files: list[np.ndarray] = []
        self._file = np.full((len(cells), VIEWS), -1, np.int32)
        self._row = np.zeros((len(cells), VIEWS), np.int32)
        self.fingerprint, self.dim, self.orientation_invariant = "", 0, False
        for path in indices:
            self._add(path, read_json(path), position)

    def _add(self, path: str | Path, index: dict, position: dict[tuple[str, str], int]) -> None:
        if self.fingerprint not in ("", index["fingerprint"]):
            raise InputError(path, "encoded by another encoder than the other samples", "Run the embedding again")
        self.fingerprint, self.dim = index["fingerprint"], index["dim"]
        self.orientation_invariant = index["orientation_invariant"]
        for shard in index["shards"]:
            where = np.array([position.get((index["sample"], cell), -1) for cell in shard["cells"]], np.int64)
            if (where < 0).all():
                continue
            for part in shard["parts"]:
                self._map(path, Path(index["cache"]) / part["file"], part["view"], where)

    def _map(self, index: str | Path, file: Path, view: int, where: np.ndarray) -> None:
        try:
            data = np.load(file, mmap_mode="r", allow_pickle=False)
            rows = np.load(rows_path(file)) if rows_path(file).is_file() else np.arange(len(data))
        except (OSError, ValueError) as error:
            raise InputError(
                file, f"this cache part is not there or broken ({error})", f"Delete it and {index}, then run again"
            ) from None
        cells = where[rows]
        wanted = np.flatnonzero(cells >= 0)
        self._file[cells[wanted], view] = len(self._files)
        self._row[cells[wanted], view] = wanted
        self._files.append(data)

    def __len__(self) -> int:
        return len(self._file)

    def take(self, cells: np.ndarray, views: np.ndarray | int = IDENTITY) -> np.ndarray:
        """Read embeddings.

        Parameters
        ----------
        cells : (k,) positions in the list of cells
        views : (k,) or one number, 0 to 7

        Returns
        -------
        (k, dim) float16
        """
        cells = np.asarray(cells, np.int64)
        views = np.zeros_like(cells) if self.orientation_invariant else np.broadcast_to(views, cells.shape)
        files, rows = self._file[cells, views], self._row[cells, views]
        if (files < 0).any():
            raise KeyError(f"{int((files < 0).sum())} of these cells and views have no embedding")
        out = np.empty((len(cells), self.dim), np.float16)
        order = np.lexsort((rows, files))
        cuts = np.flatnonzero(np.diff(files[order])) + 1
        for group in np.split(order, cuts) if len(order) else []:
            out[group] = self._files[files[group[0]]][rows[group]]
        return out
