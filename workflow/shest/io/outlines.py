"""``outlines.parquet``: outlines of nuclei in H&E px, one row a unit."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from shest.core.files import atomic_write


def write_outlines(path: str | Path, ids: np.ndarray, polygons: np.ndarray) -> None:
    """Write the nuclei's outer rings as Parquet: cell_id, x, y (lists, H&E px), one row a cell."""
    rings = shapely.get_exterior_ring(polygons)
    points, owner = shapely.get_coordinates(rings, return_index=True)
    start = pa.array(np.searchsorted(owner, np.arange(len(rings) + 1)), pa.int64())
    lists = [pa.LargeListArray.from_arrays(start, pa.array(points[:, axis])) for axis in range(2)]
    table = pa.table({"cell_id": pa.array(ids, pa.large_string()), "x": lists[0], "y": lists[1]})
    with atomic_write(path) as tmp_path:
        pq.write_table(table, tmp_path, compression="zstd", use_dictionary=False)


def number_ids(n: int) -> np.ndarray:
    """Return names for nuclei that have none, (n,) str: numbers from 1 that sort as they count."""
    width = len(str(n))
    return np.array([f"{number:0{width}d}" for number in range(1, n + 1)], dtype=str)


def read_polygons(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read what :func:`write_outlines` wrote as cell_id, (n,) str, and shapely polygons, (n,)."""
    ids, points, start = read_outlines(path)
    if not len(ids):
        return ids, np.empty(0, dtype=object)
    owner = np.repeat(np.arange(len(ids)), np.diff(start))
    return ids, shapely.polygons(shapely.linearrings(points, indices=owner))


def read_outlines(path: str | Path, ids: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read what :func:`write_outlines` wrote.

    Parameters
    ----------
    ids
        The cells that are wanted, in their order; by default all.

    Returns
    -------
    cell_id : (n,) str
    points : float64 (v, 2), x and y of all vertices in H&E px, one outline after the other
    start : int64 (n + 1,), where each outline begins

    Raises
    ------
    ValueError
        A cell that is wanted has no outline.
    """
    table = pq.read_table(path)
    if ids is not None:
        rows = pd.Index(table["cell_id"].to_numpy()).get_indexer(np.asarray(ids, dtype=object))
        if (rows < 0).any():
            raise ValueError(f"{path} has no outlines of {int((rows < 0).sum()):,} cells that are wanted")
        table = table.take(rows)
    return _arrays(table)


def iter_outlines(path: str | Path, rows: int = 65_536) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield some cells after the other, as :func:`read_outlines` returns all: memory does not grow with the file."""
    for batch in pq.ParquetFile(path).iter_batches(rows):
        yield _arrays(pa.Table.from_batches([batch]))


def _arrays(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = table.combine_chunks()
    x, y = (table[name].combine_chunks() for name in ("x", "y"))
    start = np.asarray(x.offsets, dtype=np.int64)
    points = np.stack([column.values.to_numpy()[start[0] : start[-1]] for column in (x, y)], axis=1)
    return np.asarray(table["cell_id"], dtype=str), points, start - start[0]
