"""Heads of a Xenium bundle's files: what is in them, and everything that is wrong with them.

Layouts by version of Xenium Onboard Analysis (XOA), as the reader of spatialdata-io knows them: up to 1.2 cell ids are
integers; from 1.3 they are strings, and ``cells.zarr.zip`` holds ``seg_mask_value``; from 2.0 it holds
``polygon_sets``, and the outlines of nuclei carry ``label_id``, since a cell can own several.
"""

import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import tifffile
import zarr

from shest.core.errors import Findings, InputError, brief, nearest

SPECS, CELLS, NUCLEI = "experiment.xenium", "cells.parquet", "nucleus_boundaries.parquet"
MATRIX, ZARR = "cell_feature_matrix.h5", "cells.zarr.zip"
COPY = "Copy the file from the instrument's output again"
CHUNKS = (3, 512, 512)
LATEST = (4,)
LEAST_INSIDE, FEW_INSIDE = 0.2, 0.8  # share of the cells on the H&E: below the first wrong, below the second odd
MPP_RANGE = (0.1, 1.2)  # µm per H&E pixel: 80x to 8x


@dataclass
class Heads:
    """What the heads of a bundle's files say; None or empty where a file could not be read.

    Attributes
    ----------
    version
        Of the analysis software, or None where ``experiment.xenium`` names none.
    cell_ids
        (n,) str, in the order of the count matrix.
    genes
        Symbols of the features of type Gene Expression.
    share_inside
        Share of the cells whose centroid the alignment puts on the H&E.
    """

    version: tuple[int, ...] | None = None
    cell_ids: np.ndarray | None = None
    genes: list[str] = field(default_factory=list)
    values: int = 0
    nuclei: int | None = None
    cells_with_nucleus: int | None = None
    he_shape: tuple[int, int] | None = None
    pixel_size_um: float | None = None
    mpp: tuple[float, float] | None = None
    share_inside: float | None = None


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
        raise InputError(path, f"no JSON ({brief(error)})", COPY) from None
    size = specs.get("pixel_size") if isinstance(specs, dict) else None
    if not isinstance(size, int | float) or not 0 < size < 100:
        raise InputError(path, "pixel_size is missing or no size in µm", COPY)
    return specs


def version_of(specs: dict) -> tuple[int, ...] | None:
    """Return the version of the software that wrote the bundle, Xenium Ranger's before the instrument's, or None."""
    ranger = specs.get("xenium_ranger")
    text = ranger.get("version") if isinstance(ranger, dict) and ranger else specs.get("analysis_sw_version")
    found = re.match(r"[xX]enium-(\d+)\.(\d+)\.(\d+)", text) if isinstance(text, str) else None
    return tuple(map(int, found.groups())) if found else None


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
        raise InputError(path, "the alignment of the H&E is not there", remedy) from None
    except (ValueError, OSError) as error:
        raise InputError(path, f"no table of numbers ({brief(error)})", remedy) from None
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise InputError(path, f"not 3 by 3 finite numbers but {matrix.shape}", remedy)
    if not np.allclose(matrix[2], (0, 0, 1)):
        raise InputError(path, f"not affine: the last line is {matrix[2].tolist()}", remedy)
    sizes = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    if sizes[1] < 1e-6 or sizes[0] / sizes[1] > 2:
        raise InputError(path, "a degenerate affine: it flattens or shears the image", remedy)
    return matrix


def read_he(path: str | Path, number: int = 0) -> da.Array:
    """Open an H&E TIFF lazily, tile by tile, as (3, height, width) uint8.

    Parameters
    ----------
    number
        Of the image (series) in the file.

    Raises
    ------
    InputError
        The file is missing, no TIFF, no 8-bit RGB image, ends before its last tile, or a tile cannot be decoded.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series[number]
            axes, dtype, shape = series.axes, series.dtype, series.shape
            _check_extent(path, series)
        pixels = da.from_zarr(tifffile.imread(path, aszarr=True, series=number, level=0))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(
            path, "the H&E image is not there", "Put it beside the bundle's files or name it in the sheet's he_image"
        ) from None
    except Exception as error:
        raise InputError(path, f"no TIFF that can be read ({brief(error)})", "Export or copy the image again") from None
    colour = axes[-1] if axes.endswith(("S", "C")) else axes[0]
    if len(axes) != 3 or colour not in "SC" or dtype != np.uint8:
        raise InputError(
            path,
            f"axes {axes}, type {dtype}, shape {shape}: no 8-bit RGB image",
            "Export the H&E as 8-bit RGB OME-TIFF",
        )
    if axes.endswith(colour):
        pixels = da.moveaxis(pixels, -1, 0)
    if pixels.shape[0] not in (3, 4):
        raise InputError(path, f"{pixels.shape[0]} channels", "Export the H&E as 8-bit RGB OME-TIFF")
    _try_tile(path, pixels)
    return pixels[:3].rechunk(CHUNKS)


def _check_extent(path: str | Path, series: tifffile.TiffPageSeries) -> None:
    """Refuse a file that ends before its last tile."""
    page = series.levels[0].keyframe
    end = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    size = Path(path).stat().st_size
    if end > size:
        raise InputError(path, f"truncated: its last tile ends at byte {end:,} of {size:,}", "Copy the file again")


def _try_tile(path: str | Path, pixels: da.Array) -> None:
    """Refuse an image whose middle tile cannot be decoded: another codec, or a broken file."""
    _, y, x = (n // 2 for n in pixels.shape)
    try:
        pixels[:, y : y + 1, x : x + 1].compute(scheduler="synchronous")
    except Exception as error:
        raise InputError(
            path, f"its middle tile cannot be decoded ({brief(error)})", "Export or copy the image again"
        ) from None


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
            raise InputError(path, f"no column {', '.join(lacking)}", f"{nearest(lacking[0], known)} {COPY}")
        found = pq.read_table(path, columns=[*columns, *(c for c in optional if c in known)]).to_pandas()
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(path, "not there", COPY) from None
    except Exception as error:
        raise InputError(path, f"truncated or no parquet file ({brief(error)})", COPY) from None
    if found.empty:
        raise InputError(path, "no rows", COPY)
    return found


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
    place = cells[["x_centroid", "y_centroid"]].to_numpy(float)
    if not np.isfinite(place).all() or np.abs(place).max() > 1e6:
        raise InputError(path, "centroids that are no place on a slide", COPY)
    return cells


def read_matrix(bundle: Path) -> tuple[np.ndarray, list[str], int]:
    """Read the head of ``cell_feature_matrix.h5``: cell ids, symbols of Gene Expression features, number of values."""
    path = bundle / MATRIX
    if not path.is_file():
        raise InputError(path, "not there", COPY)
    try:
        with h5py.File(path) as file:
            group = file["matrix"]
            ids = as_text(group["barcodes"][:])
            kinds, names = as_text(group["features/feature_type"][:]), as_text(group["features/name"][:])
            group["features/id"][-1:], group["features/genome"][-1:]
            shape, pointers = tuple(group["shape"][:].tolist()), group["indptr"]
            values, last = len(group["data"]), int(pointers[-1])
            agree = shape == (len(names), len(ids)) and len(kinds) == len(names) and len(pointers) == len(ids) + 1
            agree = agree and values == last == len(group["indices"])
    except Exception as error:
        raise InputError(path, f"truncated or no 10x count matrix ({brief(error)})", COPY) from None
    if not agree:
        raise InputError(path, f"its parts do not fit each other ({len(ids):,} cells, shape {shape})", COPY)
    genes = names[kinds == "Gene Expression"]
    if not len(genes):
        said = ", ".join(sorted(set(kinds.tolist()))[:6])
        raise InputError(
            path,
            f"no features of type Gene Expression (there are: {said})",
            "Use the bundle of an RNA panel; other features are no genes",
        )
    if len(set(genes)) < len(genes):
        twice = pd.Index(genes)[pd.Index(genes).duplicated()].unique()[:3]
        raise InputError(path, f"genes stand there twice: {', '.join(twice)}", COPY)
    return ids, genes.tolist(), values


def read_zarr(bundle: Path) -> tuple[str, np.ndarray | None, np.ndarray | None]:
    """Read the head of ``cells.zarr.zip``.

    Returns
    -------
    layout : str, ``polygon_sets`` (2.0 and later), ``seg_mask_value`` (1.3 to 1.x) or ``integers`` (before)
    ids : (n,) str, or None before 1.3, when the file did not name cells by their ids
    owner : (m,) int, row of the cell that owns each nucleus, or None before 2.0
    """
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
        raise InputError(path, f"truncated or no archive of cells ({brief(error)})", COPY) from None
    return layout, ids, owner


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


def read_nuclei(bundle: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read which cell each nucleus belongs to.

    Returns
    -------
    owner : (m,) str, cell id of each outline
    label : (m,) int, number of each outline from 1, or None before 2.0
    """
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
    return as_text(rows["cell_id"].to_numpy()[starts]), labels


def check(bundle: str | Path, he_image: str | Path, alignment: str | Path, found: Findings) -> Heads:
    """Read the heads of a bundle's files and note everything that is wrong with them."""
    bundle, heads = Path(bundle), Heads()
    specs = found.attempt(bundle / SPECS, COPY, read_specs, bundle)
    if specs is None and not (bundle / SPECS).is_file():
        return heads  # no bundle: what it lacks is not worth listing
    cells = found.attempt(bundle / CELLS, COPY, read_cells, bundle)
    matrix = found.attempt(bundle / MATRIX, COPY, read_matrix, bundle)
    archive = found.attempt(bundle / ZARR, COPY, read_zarr, bundle)
    nuclei = found.attempt(bundle / NUCLEI, COPY, read_nuclei, bundle)
    affine = found.attempt(alignment, COPY, read_alignment, alignment)
    pixels = found.attempt(he_image, "Export or copy the image again", read_he, he_image)
    if specs is not None:
        heads.version, heads.pixel_size_um = version_of(specs), float(specs["pixel_size"])
        _check_version(bundle, heads.version, archive, nuclei, found)
    if matrix is not None:
        heads.cell_ids, heads.genes, heads.values = matrix
    if nuclei is not None:
        heads.nuclei, heads.cells_with_nucleus = len(nuclei[0]), len(set(nuclei[0]))
    if pixels is not None:
        heads.he_shape = (int(pixels.shape[1]), int(pixels.shape[2]))
    _check_ids(bundle, cells, matrix, archive, nuclei, found)
    if not any(part is None for part in (affine, specs, pixels, cells)):
        _check_place(alignment, affine, heads, cells[["x_centroid", "y_centroid"]].to_numpy(float), found)
    return heads


def _check_version(bundle: Path, version: tuple | None, archive: tuple | None, nuclei: tuple | None, found: Findings):
    """Note a version that cannot be read, and files that belong to another version than the one named."""
    layout = archive[0] if archive else None
    name = ".".join(map(str, version)) if version else None
    if version is None and layout is not None:
        found.warn(
            bundle / SPECS,
            "names no version of the analysis software",
            f"It is read by the layout of {ZARR} ({layout})",
        )
    if version is not None and version[0] > LATEST[0]:
        found.warn(
            bundle / SPECS,
            f"Xenium Onboard Analysis {name} is newer than {LATEST[0]}.x, the latest known",
            "It is read as that; look at the overlay of nuclei in registration.png",
        )
    newer = layout == "polygon_sets"
    if version is not None and layout is not None and newer != (version >= (2,)):
        found.problem(
            bundle / ZARR,
            f"has the layout of version {'2.0 or later' if newer else '1.x'}, but {SPECS} says {name}",
            "Copy both files again from one run of the instrument",
        )
    elif newer and nuclei is not None and nuclei[1] is None:
        found.problem(
            bundle / NUCLEI,
            "no column label_id: nuclei of one cell cannot be told apart (an early version 2.0.0)",
            "Reprocess the run with Xenium Ranger 2.0 or later",
        )


def _check_ids(bundle, cells, matrix, archive, nuclei, found: Findings) -> None:
    """Note files whose cells are not the same ones in the same order."""
    remedy = "The files are not of one run: copy all of them again"
    if cells is None:
        return
    reference = cells["cell_id"].to_numpy(str)
    alike = True
    for name, ids in ((MATRIX, matrix[0] if matrix else None), (ZARR, archive[1] if archive else None)):
        if ids is not None and not np.array_equal(ids, reference):
            found.problem(bundle / name, f"{_difference(ids, reference)} {CELLS}", remedy)
            alike &= name != ZARR
    if nuclei is None:
        return
    strange = ~np.isin(nuclei[0], reference)
    if strange.any():
        found.problem(
            bundle / NUCLEI,
            f"{int(strange.sum()):,} nuclei of cells that are not in {CELLS} ({nuclei[0][strange][0]})",
            remedy,
        )
    elif alike and archive and archive[2] is not None and nuclei[1] is not None:
        owner, label = archive[2], nuclei[1]
        counted = label.min() >= 1 and label.max() <= len(owner)
        if not counted or not np.array_equal(reference[owner[label - 1]], nuclei[0]):
            found.problem(bundle / NUCLEI, f"nuclei do not belong to the cells that {ZARR} says", remedy)


def _difference(ids: np.ndarray, reference: np.ndarray) -> str:
    """Say how two lists of cell ids differ, as the start of a sentence that ends with the name of the second."""
    if len(ids) == len(reference) and set(ids) == set(reference):
        return "names the cells in another order than"
    alien = int((~np.isin(ids, reference)).sum())
    return f"{len(ids):,} cells, {alien:,} of them not among the {len(reference):,} of"


def place(affine: np.ndarray, pixel_size_um: float, points: np.ndarray) -> np.ndarray:
    """Return the H&E pixels (n, 2) of points (n, 2) in µm: the inverse affine of µm over the pixel size."""
    inverse = np.linalg.inv(affine)
    return points / pixel_size_um @ inverse[:2, :2].T + inverse[:2, 2]


def share_inside(pixels: np.ndarray, shape: tuple[int, int]) -> float:
    """Return the share of points (n, 2), x and y in px, that lie on an image (height, width)."""
    return float(((pixels >= -0.5) & (pixels < np.array(shape[::-1]) - 0.5)).all(axis=1).mean())


def _check_place(alignment, affine: np.ndarray, heads: Heads, points: np.ndarray, found: Findings) -> None:
    """Note an alignment that puts the cells beside the H&E, or that gives it an odd scale."""
    heads.mpp = tuple(float(v) for v in np.linalg.norm(affine[:2, :2], axis=0) * heads.pixel_size_um)
    heads.share_inside = inside = share_inside(place(affine, heads.pixel_size_um, points), heads.he_shape)
    turned = share_inside(place(np.linalg.inv(affine), heads.pixel_size_um, points), heads.he_shape)
    remedy = "Check that it is the alignment of this bundle and this H&E"
    if turned > max(inside, 0.5):
        remedy = f"Its inverse puts {turned:.0%} there: export it from H&E pixels to Xenium pixels"
    if inside < LEAST_INSIDE:
        found.problem(alignment, f"maps the H&E away from the cells: {inside:.0%} of them lie on it", remedy)
    elif inside < FEW_INSIDE:
        found.warn(alignment, f"only {inside:.0%} of the cells lie on the H&E", remedy)
    if not all(MPP_RANGE[0] <= v <= MPP_RANGE[1] for v in heads.mpp):
        found.warn(
            alignment,
            f"makes an H&E pixel {heads.mpp[0]:.3g} by {heads.mpp[1]:.3g} µm",
            "A 40x scan has about 0.25 µm; check alignment and image",
        )
