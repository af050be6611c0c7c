"""Reader of a Xenium bundle: what is in its files.

Layouts by version of Xenium Onboard Analysis (XOA), as the reader of spatialdata-io knows them: up to 1.2 cell ids are
integers; from 1.3 they are strings, and ``cells.zarr.zip`` holds ``seg_mask_value``; from 2.0 it holds
``polygon_sets``, and the outlines of nuclei carry ``label_id``, since a cell can own several.
"""

import json
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import zarr

from shest.core.errors import InputError, did_you_mean, one_line
from shest.io.genes import Genes
from shest.io.xenium_files import CELLS, MATRIX, NUCLEI, SPECS, ZARR

GENE = "Gene Expression"
COPY = "Copy the file from the instrument's output again"


def read_specs(bundle: str | Path) -> dict:
    """Read ``experiment.xenium``; raise :class:`InputError` where it is missing, broken or lacks a pixel size."""
    path = Path(bundle) / SPECS
    try:
        specs = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            bundle, f"no Xenium bundle: {SPECS} is not there", "Name the folder that holds experiment.xenium"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"no JSON ({one_line(error)})", COPY) from None
    size = specs.get("pixel_size") if isinstance(specs, dict) else None
    if not isinstance(size, int | float) or not 0 < size < 100:
        raise InputError(path, "pixel_size is missing or no size in µm", COPY)
    return specs


def version_of(specs: dict) -> tuple[int, ...] | None:
    """Return the version of the software that wrote the bundle, Xenium Ranger's before the instrument's, or None."""
    ranger = specs.get("xenium_ranger")
    text = ranger.get("version") if isinstance(ranger, dict) and ranger else specs.get("analysis_sw_version")
    match = re.match(r"[xX]enium-(\d+)\.(\d+)\.(\d+)", text) if isinstance(text, str) else None
    return tuple(map(int, match.groups())) if match else None


def read_alignment(path: str | Path) -> np.ndarray:
    """Read the 3 x 3 affine from H&E pixels to Xenium morphology pixels.

    Raises
    ------
    InputError
        The file is missing (the reader would take the identity without a word), is no 3 x 3 table of numbers,
        is not affine, or flattens the plane.
    """
    remedy = "Export the alignment from Xenium Explorer again: three lines of three numbers, the last 0,0,1"
    try:
        matrix = np.loadtxt(path, delimiter=",", dtype=np.float64, ndmin=2)
    except FileNotFoundError:
        found = "Correct the path, or let it be found (register.method: estimate; column alignment empty)"
        raise InputError(path, "the alignment of the H&E is not there", found) from None
    except (ValueError, OSError) as error:
        raise InputError(path, f"no table of numbers ({one_line(error)})", remedy) from None
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise InputError(path, f"not 3 by 3 finite numbers but {matrix.shape}", remedy)
    if not np.allclose(matrix[2], (0, 0, 1)):
        raise InputError(path, f"not affine: the last line is {matrix[2].tolist()}", remedy)
    sizes = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    if sizes[1] < 1e-6 or sizes[0] / sizes[1] > 2:
        raise InputError(path, "a degenerate affine: it flattens or shears the image", remedy)
    return matrix


def read_table(path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read columns of a parquet file.

    Raises
    ------
    InputError
        The file is missing or broken, lacks a column, or has no rows.
    """
    try:
        known = pq.read_schema(path).names
        lacking = [c for c in columns if c not in known]
        if lacking:
            raise InputError(path, f"no column {', '.join(lacking)}", f"{did_you_mean(lacking[0], known)} {COPY}")
        table = pq.read_table(path, columns=[*columns, *(c for c in optional if c in known)]).to_pandas()
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(path, "not there", COPY) from None
    except Exception as error:
        raise InputError(path, f"truncated or no parquet file ({one_line(error)})", COPY) from None
    if table.empty:
        raise InputError(path, "no rows", COPY)
    return table


def as_text(ids: Any) -> np.ndarray:
    """Return cell ids as (n,) str; older bundles hold bytes or integers."""
    ids = np.asarray(ids)
    if ids.dtype.kind == "O" and len(ids) and isinstance(ids[0], bytes):
        return np.array([i.decode() for i in ids])
    return np.char.decode(ids) if ids.dtype.kind == "S" else ids.astype(str)


def read_cells(bundle: Path) -> pd.DataFrame:
    """Read id and centroid (µm) of each cell from ``cells.parquet``."""
    path = bundle / CELLS
    cells = read_table(path, ("cell_id", "x_centroid", "y_centroid", "cell_area"))
    cells["cell_id"] = as_text(cells["cell_id"])
    if cells["cell_id"].duplicated().any():
        raise InputError(path, f"{int(cells['cell_id'].duplicated().sum()):,} cell ids stand there twice", COPY)
    centroids = cells[["x_centroid", "y_centroid"]].to_numpy(float)
    if not np.isfinite(centroids).all() or np.abs(centroids).max() > 1e6:
        raise InputError(path, "centroids that are no place on a slide", COPY)
    return cells


class CountMatrix(NamedTuple):
    """Header of the count matrix: cell ids (n,) str, Gene Expression features, number of values above 0."""

    cell_ids: np.ndarray
    genes: Genes
    values: int


def read_matrix(bundle: Path) -> CountMatrix:
    """Read the header of ``cell_feature_matrix.h5``; raise :class:`InputError` where it is no matrix of genes."""
    path = bundle / MATRIX
    if not path.is_file():
        raise InputError(path, "not there", COPY)
    try:
        with h5py.File(path) as file:
            group = file["matrix"]
            ids = as_text(group["barcodes"][:])
            kinds, names = as_text(group["features/feature_type"][:]), as_text(group["features/name"][:])
            numbers, _ = as_text(group["features/id"][:]), group["features/genome"][-1:]
            shape, pointers = tuple(group["shape"][:].tolist()), group["indptr"]
            values, last = len(group["data"]), int(pointers[-1])
            agree = (
                shape == (len(names), len(ids))
                and len(kinds) == len(names) == len(numbers)
                and len(pointers) == len(ids) + 1
            )
            agree = agree and values == last == len(group["indices"])
    except Exception as error:
        raise InputError(path, f"truncated or no 10x count matrix ({one_line(error)})", COPY) from None
    if not agree:
        raise InputError(path, f"its parts do not fit each other ({len(ids):,} cells, shape {shape})", COPY)
    genes = names[kinds == GENE]
    if not len(genes):
        types = ", ".join(sorted(set(kinds.tolist()))[:6])
        raise InputError(
            path,
            f"no features of type Gene Expression (there are: {types})",
            "Use the bundle of an RNA panel; other features are no genes",
        )
    if len(set(genes)) < len(genes):
        twice = pd.Index(genes)[pd.Index(genes).duplicated()].unique()[:3]
        raise InputError(path, f"genes stand there twice: {', '.join(twice)}", COPY)
    return CountMatrix(ids, Genes.of(genes, numbers[kinds == GENE]), values)


class CellArchive(NamedTuple):
    """Header of ``cells.zarr.zip``.

    Attributes
    ----------
    layout
        ``polygon_sets`` (2.0 and later), ``seg_mask_value`` (1.3 to 1.x) or ``integers`` (before).
    cell_ids
        (n,) str, or None before 1.3, when the file did not name cells by their ids.
    owner
        (m,) int, row of the cell that owns each nucleus, or None before 2.0.
    """

    layout: str
    cell_ids: np.ndarray | None
    owner: np.ndarray | None


def read_zarr(bundle: Path) -> CellArchive:
    """Read the header of ``cells.zarr.zip``; raise :class:`InputError` where it is missing or broken."""
    path = bundle / ZARR
    if not path.is_file():
        raise InputError(path, "not there (the reader needs it in any case)", COPY)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_archive(archive)
        store = zarr.storage.ZipStore(path, read_only=True)
        group = zarr.open_group(store, mode="r")
        raw, owner = group["cell_id"][:], None
        layout = next((name for name in ("polygon_sets", "seg_mask_value") if name in group), "integers")
        if layout == "polygon_sets":
            owner = group["polygon_sets/0/cell_index"][:].astype(np.int64)
        store.close()
        ids = encode_ids(raw) if raw.ndim == 2 else None
        if ids is None and layout != "integers":
            raise ValueError("cell_id has one column")
        if owner is not None and len(owner) and not 0 <= owner.min() <= owner.max() < len(ids):
            raise ValueError("nuclei of cells that are not there")
    except Exception as error:
        raise InputError(path, f"truncated or no archive of cells ({one_line(error)})", COPY) from None
    return CellArchive(layout, ids, owner)


def _check_archive(archive: zipfile.ZipFile) -> None:
    """Compare the checksums of all members but the masks, which the workflow does not read."""
    for name in archive.namelist():
        if not name.startswith("masks/"):
            with archive.open(name) as member:
                while member.read(1 << 20):
                    pass


def encode_ids(raw: np.ndarray) -> np.ndarray:
    """Spell cell ids (n, 2) uint32, prefix and suffix, as the other files do: 8 letters a to p, dash, suffix."""
    shifts = np.arange(28, -4, -4, dtype=np.uint32)
    letters = ((raw[:, :1].astype(np.uint32) >> shifts) & 15).astype(np.uint8) + ord("a")
    prefix = np.ascontiguousarray(letters).view("S8").ravel().astype(str)
    return np.char.add(np.char.add(prefix, "-"), raw[:, 1].astype(str))


class NucleusOwners(NamedTuple):
    """Of each outline: its cell's id (m,) str, its number (m,) int from 1, or None before 2.0; centre (m, 2), µm."""

    cell_ids: np.ndarray
    labels: np.ndarray | None
    centres: np.ndarray


def read_nuclei(bundle: Path) -> NucleusOwners:
    """Read whose each nucleus is and where it lies; raise :class:`InputError` where the outlines cannot be used."""
    path = bundle / NUCLEI
    rows = read_table(path, ("cell_id", "vertex_x", "vertex_y"), optional=("label_id",))
    vertices = rows[["vertex_x", "vertex_y"]].to_numpy(np.float32)
    if not np.isfinite(vertices).all() or np.abs(vertices).max() > 1e6:
        raise InputError(path, "vertices that are no place on a slide", COPY)
    key = rows["label_id" if "label_id" in rows else "cell_id"].to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    if len(starts) != len(pd.unique(key)):
        raise InputError(path, "rows of one outline do not stand together", COPY)
    labels = rows["label_id"].to_numpy()[starts].astype(np.int64) if "label_id" in rows else None
    number = np.diff(np.append(starts, len(rows)))[:, None]
    centres = np.add.reduceat(vertices, starts, dtype=float) / number  # vertices stand evenly round an outline
    return NucleusOwners(as_text(rows["cell_id"].to_numpy()[starts]), labels, centres)
