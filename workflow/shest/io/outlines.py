"""``outlines.parquet``: outlines of nuclei in H&E px, one row a unit."""

from pathlib import Path

import numpy as np
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


def read_outlines(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read what :func:`write_outlines` wrote.

    Returns
    -------
    cell_id : (n,) str
    points : float64 (v, 2), x and y of all vertices in H&E px, one outline after the other
    start : int64 (n + 1,), where each outline begins
    """
    table = pq.read_table(path).combine_chunks()
    x, y = (table[name].combine_chunks() for name in ("x", "y"))
    start = np.asarray(x.offsets, dtype=np.int64)
    points = np.stack([column.values.to_numpy()[start[0] : start[-1]] for column in (x, y)], axis=1)
    return np.asarray(table["cell_id"], dtype=str), points, start - start[0]
