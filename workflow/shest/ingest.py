"""From a Xenium bundle to a SpatialData store: counts, nucleus outlines, and the H&E in chunks."""

import json
from pathlib import Path

import dask.array as da
import numpy as np
import spatialdata_io
import tifffile
from spatialdata import SpatialData
from spatialdata.models import Image2DModel
from spatialdata.transformations import Affine

from shest.errors import InputError
from shest.files import replacing
from shest.store import IMAGE, NUCLEI, TABLE

CHUNKS = (3, 512, 512)
PYRAMID = (4, 4)  # further scales of the stored image, for pictures and viewers
SPECS = "experiment.xenium"


def read_specs(bundle: str | Path) -> dict:
    """Read ``experiment.xenium``; raise :class:`InputError` where it is missing, broken or lacks a pixel size."""
    path = Path(bundle) / SPECS
    try:
        specs = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(bundle, f"no Xenium bundle: {SPECS} is not there",
                         "Name the folder that holds experiment.xenium") from None  # fmt: skip
    except ValueError as error:
        raise InputError(path, f"no JSON ({error})", "Copy the file from the instrument's output again") from None
    if not isinstance(specs, dict) or not float(specs.get("pixel_size") or 0) > 0:
        raise InputError(path, "pixel_size is missing or not above 0", "Copy the file from the instrument again")
    return specs


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
        raise InputError(path, f"no table of numbers ({error})", remedy) from None
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise InputError(path, f"not 3 by 3 finite numbers but {matrix.shape}", remedy)
    if not np.allclose(matrix[2], (0, 0, 1)):
        raise InputError(path, f"not affine: the last line is {matrix[2].tolist()}", remedy)
    sizes = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    if sizes[1] < 1e-6 or sizes[0] / sizes[1] > 2:
        raise InputError(path, "a degenerate affine: it flattens or shears the image", remedy)
    return matrix


def read_he(path: str | Path) -> da.Array:
    """Open an H&E TIFF lazily, tile by tile, as (3, height, width) uint8."""
    try:
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series[0]
            axes, dtype, shape = series.axes, series.dtype, series.shape
            _check_extent(path, tiff)
        pixels = da.from_zarr(tifffile.imread(path, aszarr=True, level=0))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(path, "the H&E image is not there",
                         "Put it beside the bundle's files or name it in the sheet's he_image") from None  # fmt: skip
    except Exception as error:
        raise InputError(path, f"no TIFF that can be read ({error})", "Export or copy the image again") from None
    colour = axes[-1] if axes.endswith(("S", "C")) else axes[0]
    if len(axes) != 3 or colour not in "SC" or dtype != np.uint8:
        raise InputError(path, f"axes {axes}, type {dtype}, shape {shape}: no 8-bit RGB image",
                         "Export the H&E as 8-bit RGB OME-TIFF")  # fmt: skip
    if axes.endswith(colour):
        pixels = da.moveaxis(pixels, -1, 0)
    if pixels.shape[0] not in (3, 4):
        raise InputError(path, f"{pixels.shape[0]} channels", "Export the H&E as 8-bit RGB OME-TIFF")
    return pixels[:3].rechunk(CHUNKS)


def _check_extent(path: str | Path, tiff: tifffile.TiffFile) -> None:
    """Refuse a file that ends before its last tile."""
    page = tiff.series[0].levels[0].keyframe
    end = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    size = Path(path).stat().st_size
    if end > size:
        raise InputError(path, f"truncated: its last tile ends at byte {end:,} of {size:,}", "Copy the file again")


def read_bundle(bundle: str | Path, he_image: str | Path, alignment: str | Path) -> tuple[SpatialData, dict]:
    """Read what the workflow needs of a Xenium bundle.

    Returns
    -------
    sdata : SpatialData
        ``he_image`` (lazy), ``nucleus_boundaries`` (µm), ``table`` (counts of Gene Expression features).
    facts : dict
        Pixel size, alignment, shapes and counts, for ``ingest.json``.
    """
    specs, matrix, pixels = read_specs(bundle), read_alignment(alignment), read_he(he_image)
    try:
        sdata = spatialdata_io.xenium(
            Path(bundle),
            transcripts=False,
            morphology_focus=False,
            morphology_mip=False,
            cells_labels=False,
            nucleus_labels=False,
            cells_boundaries=False,
            aligned_images=False,
        )
    except Exception as error:
        raise InputError(bundle, f"the bundle cannot be read ({type(error).__name__}: {error})",
                         "Copy its files again; they must come from one run of the instrument") from error  # fmt: skip
    if NUCLEI not in sdata.shapes:
        raise InputError(bundle, "no nucleus outlines that can be told apart (an early 2.0.0 layout)",
                         "Reprocess the run with Xenium Ranger 2.0 or later")  # fmt: skip
    sdata.images[IMAGE] = Image2DModel.parse(
        pixels,
        dims=("c", "y", "x"),
        c_coords=("r", "g", "b"),
        chunks=CHUNKS,
        scale_factors=list(PYRAMID) if min(pixels.shape[1:]) > 4 * CHUNKS[1] else None,
        transformations={"global": Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))},
    )
    table = sdata.tables[TABLE]
    facts = {
        "platform": "xenium",
        "cells": int(table.n_obs),
        "genes": int(table.n_vars),
        "nuclei": len(sdata.shapes[NUCLEI]),
        "he_shape": [int(n) for n in pixels.shape[1:]],
        "pixel_size_um": float(specs["pixel_size"]),
        "he_to_morphology": matrix.tolist(),
        "panel": specs.get("panel_name"),
        "analysis_version": specs.get("analysis_sw_version"),
    }
    return sdata, facts


def write_store(sdata: SpatialData, path: str | Path) -> None:
    """Write the store aside and put it in place when it is whole."""
    with replacing(path) as aside:
        sdata.write(aside)
