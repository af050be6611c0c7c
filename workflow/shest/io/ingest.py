"""From a bundle, a section in spots or a plain slide to a SpatialData store: counts, outlines, the H&E in chunks."""

import errno
import json
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import geopandas
import numpy as np
import pandas as pd
import shapely
import spatialdata_io
from anndata import AnnData
from scipy import sparse
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel, TableModel
from spatialdata.transformations import Affine, Identity
from xarray import DataArray, DataTree

from shest.core.errors import InputError, one_line
from shest.core.files import atomic_write, remove, write_json
from shest.core.provenance import versions
from shest.io import slide, spots, xenium, xenium_files
from shest.io.genes import Genes
from shest.io.image import CHUNKS, read_he
from shest.io.store import IMAGE, NUCLEI, SPOTS, TABLE, stored_bytes

PYRAMID = (4, 4)  # further scales of the stored image, for pictures and viewers
ASSUMED = {"polygon_sets": "xenium-4.0.0", "seg_mask_value": "xenium-1.9.0", "integers": "xenium-1.0.0"}
"""The version that a bundle without one is read as, by the layout of its cells."""


def read_bundle(bundle: str | Path, he_image: str | Path, alignment: str | Path) -> tuple[SpatialData, dict]:
    """Read what the workflow needs of a Xenium bundle whose files :func:`shest.io.sample_checks.check_bundle` passed.

    Returns
    -------
    sdata : SpatialData
        ``he_image`` (lazy), ``nucleus_boundaries`` (µm), ``table`` (counts of Gene Expression features).
    facts : dict
        Pixel size, alignment, shapes and counts, for ``ingest.json``.

    Raises
    ------
    InputError
        A file cannot be read, or the counts are none.
    """
    specs, matrix, pixels = xenium.read_specs(bundle), xenium.read_alignment(alignment), read_he(he_image)
    try:
        with _readable(Path(bundle), specs) as folder:
            sdata = spatialdata_io.xenium(
                folder,
                transcripts=False,
                morphology_focus=False,
                morphology_mip=False,
                cells_labels=False,
                nucleus_labels=False,
                cells_boundaries=False,
                aligned_images=False,
            )
        _check_values(bundle, sdata)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            bundle,
            f"the bundle cannot be read ({one_line(error)})",
            "Copy its files again; they must come from one run of the instrument",
        ) from error
    sdata.images[IMAGE] = _image(pixels, matrix)
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


def _image(pixels: da.Array, matrix: np.ndarray) -> DataArray | DataTree:
    """Make the stored image: chunks, a pyramid where it is large, and its affine (3 x 3) to the global frame."""
    return Image2DModel.parse(
        pixels,
        dims=("c", "y", "x"),
        c_coords=("r", "g", "b"),
        chunks=CHUNKS,
        scale_factors=list(PYRAMID) if min(pixels.shape[1:]) > 4 * CHUNKS[1] else None,
        transformations={"global": Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))},
    )


def read_slide(path: str | Path, outlines: str | Path | None, mpp: str | None) -> tuple[SpatialData, dict]:
    """Read a plain slide and the outlines of its nuclei into what a bundle is read into.

    The frame that takes the place of Xenium's is µm from the slide's first pixel. The table has every cell and no
    genes; a cell whose outline has no area is in the table and not among the nuclei. Without outlines there is the
    image alone.

    Parameters
    ----------
    path, outlines
        The slide, and a GeoJSON file or None.
    mpp
        µm per px, or None for what the file says.

    Returns
    -------
    As :func:`read_bundle`.

    Raises
    ------
    InputError
        The slide or the outlines cannot be used.
    """
    pixels, sizes = slide.read_image(path), slide.read_mpp(path, mpp)
    to_um = np.diag([*sizes, 1.0])
    facts = {
        "platform": "slide",
        "cells": 0,
        "genes": 0,
        "nuclei": 0,
        "he_shape": [int(n) for n in pixels.shape[1:]],
        "pixel_size_um": 1.0,
        "he_to_morphology": to_um.tolist(),
        "mpp_from": "file" if mpp is None else "sheet",
    }
    if outlines is None:
        return SpatialData(images={IMAGE: _image(pixels, to_um)}), facts
    nuclei = slide.read_nuclei(outlines, pixels.shape[1:], sizes)
    in_um = shapely.transform(nuclei.outline[nuclei.drawn], lambda xy: xy * np.array(sizes))
    frame = geopandas.GeoDataFrame({"cell_id": nuclei.cell_id[nuclei.drawn]}, geometry=in_um)
    obs = pd.DataFrame({"cell_id": nuclei.cell_id, "region": pd.Categorical([NUCLEI] * len(nuclei.cell_id))})
    cells = AnnData(sparse.csr_matrix((len(obs), 0), dtype=np.float32), obs=obs.set_index(obs["cell_id"].to_numpy()))
    sdata = SpatialData(
        images={IMAGE: _image(pixels, to_um)},
        shapes={NUCLEI: ShapesModel.parse(frame, transformations={"global": Identity()})},
        tables={TABLE: TableModel.parse(cells, region=NUCLEI, region_key="region", instance_key="cell_id")},
    )
    facts |= {
        "cells": len(nuclei.cell_id),
        "nuclei": int(nuclei.drawn.sum()),
        "ids_from": "file" if nuclei.named else "order",
        "repaired_outlines": nuclei.repaired,
    }
    return sdata, facts


def read_spot_sample(row: Mapping[str, Any], he_image: str | Path, mpp: str | float | None) -> tuple[SpatialData, dict]:
    """Read a section measured in spots; the frame of µm is from the H&E's first pixel, along its axes.

    Parameters
    ----------
    row
        Of the sheet, see :func:`shest.io.spots.read_spots`.
    he_image
        Of full size.
    mpp
        µm per px, or None for what the array's pitch says.

    Returns
    -------
    As :func:`read_bundle`; ``spots`` (circles, µm) in the place of nuclei, and a row of the table each.

    Raises
    ------
    InputError
        A file cannot be used.
    """
    found, pixels = spots.read_spots(row), slide.read_image(he_image)
    size = spots.settle_mpp(found, mpp, row["path"])
    to_um = np.diag([size, size, 1.0])
    obs = pd.DataFrame({"spot_id": found.spot_id, "measured": found.measured, "on_tissue": found.on_tissue})
    obs = obs.assign(array_row=found.array[:, 0], array_col=found.array[:, 1], x=found.xy[:, 0], y=found.xy[:, 1])
    sdata = spot_sdata(obs, found.counts, found.genes, found.xy * size, found.diameter_um)
    sdata.images[IMAGE] = _image(pixels, to_um)
    facts = {
        "platform": row["platform"],
        "spots": len(found.spot_id),
        "spots_without_counts": int((~found.measured).sum()),
        "counts_without_place": found.unplaced,
        "genes": len(found.genes),
        "diameter_um": found.diameter_um,
        "he_shape": [int(n) for n in pixels.shape[1:]],
        "pixel_size_um": 1.0,
        "he_to_morphology": to_um.tolist(),
        "mpp_from": "array" if mpp is None else "sheet",
    }
    return sdata, facts


def spot_sdata(
    obs: pd.DataFrame, counts: sparse.csr_matrix, genes: Genes, centres_um: np.ndarray, diameter_um: float
) -> SpatialData:
    """Bring spots into a store's elements: ``spots`` (circles, µm) and ``table``; ``obs``: spot_id and what is known.

    Parameters as of :class:`shest.io.spots.Spots`; ``centres_um``: (n, 2).
    """
    obs = obs.assign(region=pd.Categorical([SPOTS] * len(obs)))
    var = pd.DataFrame({"gene_ids": genes.ids}, index=pd.Index(genes.symbols, dtype=object))
    table = AnnData(counts.astype(np.float32), obs=obs.set_index(obs["spot_id"].to_numpy()), var=var)
    circles = ShapesModel.parse(
        centres_um, geometry=0, radius=diameter_um / 2, index=obs["spot_id"], transformations={"global": Identity()}
    )
    return SpatialData(
        shapes={SPOTS: circles},
        tables={TABLE: TableModel.parse(table, region=SPOTS, region_key="region", instance_key="spot_id")},
    )


@contextmanager
def _readable(bundle: Path, specs: dict) -> Iterator[Path]:
    """Yield the bundle, or where it names no version, a folder of links to its files with one that fits its layout.

    Without a version the reader takes the numbers of nuclei for the ids of their cells.
    """
    if xenium.version_of(specs) is not None:
        yield bundle
        return
    with tempfile.TemporaryDirectory(prefix="shest-") as folder:
        tmp_path = Path(folder)
        for name in (xenium_files.CELLS, xenium_files.NUCLEI, xenium_files.MATRIX, xenium_files.ZARR):
            (tmp_path / name).symlink_to((bundle / name).resolve())
        layout = xenium.read_zarr(bundle).layout
        specs = {k: v for k, v in specs.items() if k != "xenium_ranger"} | {"analysis_sw_version": ASSUMED[layout]}
        (tmp_path / xenium_files.SPECS).write_text(json.dumps(specs))
        yield tmp_path


def _check_values(bundle: str | Path, sdata: SpatialData) -> None:
    """Refuse counts that are none."""
    values = sdata.tables[TABLE].X.data
    if not (np.isfinite(values).all() and np.array_equal(values, np.rint(values)) and (values >= 0).all()):
        raise InputError(Path(bundle) / xenium_files.MATRIX, "its values are no counts", xenium.COPY)


def write_sample(sdata: SpatialData, facts: dict, store: str | Path, record: str | Path, threads: int) -> None:
    """Write the store, then ``ingest.json``, which says that the store is whole and how large its parts are."""
    remove(record)
    write_store(sdata, store, threads)
    write_json(record, facts | {"stored_bytes": stored_bytes(store), "versions": versions()})


def write_store(sdata: SpatialData, path: str | Path, threads: int = 1) -> None:
    """Write the store aside with ``threads`` threads and put it in place when it is whole.

    The threads are this function's own: after a failure those still at work are waited for, or they would write into
    the folder that is being removed.

    Raises
    ------
    InputError
        The disk is full, or the H&E, which is decoded only now, has a tile that cannot be decoded.
    """
    try:
        with (
            atomic_write(path) as tmp_path,
            ThreadPoolExecutor(threads) as pool,
            dask.config.set(scheduler="threads", pool=pool),
        ):
            sdata.write(tmp_path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(path, "no space left on the disk", "Free some, or set results elsewhere") from error
        raise _undecodable(path, error) from error
    except Exception as error:
        raise _undecodable(path, error) from error


def _undecodable(path: str | Path, error: Exception) -> InputError:
    return InputError(
        path,
        f"the store cannot be written ({one_line(error)})",
        "If the H&E opens in no viewer either, copy it again; else see the log",
    )
