"""The files of a Xenium Onboard Analysis 3.0 bundle, written so that equal content is equal bytes."""

import json
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from numcodecs import Blosc
from scipy import sparse

from shest.simulate.geometry import label_image
from shest.simulate.spec import PIXEL_SIZE

SOFTWARE = "xenium-3.0.0.15"
METHOD = "Segmented by nucleus expansion of 5.0um"
CHUNK = 1024
COMPRESSOR = Blosc(cname="lz4", clevel=5, shuffle=Blosc.SHUFFLE)


@dataclass(frozen=True)
class Bundle:
    """Content of a bundle; coordinates in µm of the Xenium frame.

    ``cells``: cell_id, x_centroid, y_centroid, cell_area, nucleus_area (NaN without nucleus), nucleus_count, nucleus
    centroid (nucleus_x, nucleus_y), control_probe_counts, sorted by cell_id · ``prefix`` (n,) uint32 ·
    ``nuclei`` (m, k, 2) outlines and ``owner`` (m,) rows of ``cells`` · ``outlines`` (n, k, 2) of the cells ·
    ``counts`` (n, genes + probes) CSR · ``symbols``, ``ensembl`` (genes,) · ``frame``: height, width of the
    morphology image in px.
    """

    name: str
    cells: pd.DataFrame
    prefix: np.ndarray
    nuclei: np.ndarray
    owner: np.ndarray
    outlines: np.ndarray
    counts: sparse.csr_matrix
    symbols: np.ndarray
    ensembl: np.ndarray
    frame: tuple[int, int]


def write_bundle(folder: Path, bundle: Bundle) -> None:
    """Write everything but the H&E into ``folder``."""
    (folder / "morphology_focus").mkdir(parents=True, exist_ok=True)
    _write_specs(folder / "experiment.xenium", bundle)
    _write_cells(folder / "cells.parquet", bundle)
    ids = bundle.cells.cell_id.to_numpy()
    _write_boundaries(folder / "nucleus_boundaries.parquet", ids[bundle.owner], bundle.nuclei)
    _write_boundaries(folder / "cell_boundaries.parquet", ids, bundle.outlines)
    write_matrix(folder / "cell_feature_matrix.h5", bundle)
    _write_zarr(folder / "cells.zarr.zip", bundle)
    _write_morphology(folder / "morphology_focus" / "morphology_focus_0000.ome.tif", bundle)


def _write_specs(path: Path, bundle: Bundle) -> None:
    per_cell = float(np.median(bundle.cells.transcript_counts))
    specs = {
        "major_version": 6,
        "minor_version": 0,
        "patch_version": 0,
        "run_name": bundle.name,
        "run_start_time": "2025-01-01T00:00:00Z",
        "region_name": bundle.name,
        "preservation_method": "FFPE",
        "num_cells": len(bundle.cells),
        "transcripts_per_cell": per_cell,
        "panel_name": "simulated",
        "panel_organism": "Human",
        "panel_num_targets_predesigned": len(bundle.symbols),
        "panel_num_targets_custom": 0,
        "pixel_size": PIXEL_SIZE,
        "z_step_size": 3.0,
        "instrument_sw_version": "3.0.0",
        "analysis_sw_version": SOFTWARE,
        "images": {"morphology_focus_filepath": "morphology_focus/morphology_focus_0000.ome.tif"},
        "xenium_explorer_files": {"cells_zarr_filepath": "cells.zarr.zip"},
    }
    path.write_text(json.dumps(specs, indent=2) + "\n")


def _write_cells(path: Path, bundle: Bundle) -> None:
    table = bundle.cells
    zero = np.zeros(len(table), np.int64)
    columns = {
        "cell_id": table.cell_id,
        "x_centroid": table.x_centroid,
        "y_centroid": table.y_centroid,
        "transcript_counts": table.transcript_counts,
        "control_probe_counts": table.control_probe_counts,
        "genomic_control_counts": zero,
        "control_codeword_counts": zero,
        "unassigned_codeword_counts": zero,
        "deprecated_codeword_counts": zero,
        "total_counts": table.transcript_counts + table.control_probe_counts,
        "cell_area": table.cell_area,
        "nucleus_area": table.nucleus_area,
        "nucleus_count": table.nucleus_count,
        "segmentation_method": np.full(len(table), METHOD),
    }
    write_parquet(path, pd.DataFrame(columns))


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table without the index; equal tables are equal bytes."""
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), path, compression="zstd")


def _write_boundaries(path: Path, ids: np.ndarray, polygons: np.ndarray) -> None:
    """One row a vertex, the first repeated at the end; ``label_id`` counts the polygons from 1."""
    closed = np.concatenate([polygons, polygons[:, :1]], axis=1)
    n, k, _ = closed.shape
    table = pd.DataFrame(
        {
            "cell_id": np.repeat(ids, k),
            "vertex_x": closed[..., 0].ravel().astype(np.float32),
            "vertex_y": closed[..., 1].ravel().astype(np.float32),
            "label_id": np.repeat(np.arange(1, n + 1, dtype=np.uint32), k),
        }
    )
    write_parquet(path, table)


def write_matrix(path: Path, bundle: Bundle) -> None:
    """Write the 10x layout: a CSC matrix features × cells, that is a CSR of cells × features, and the features."""
    counts = bundle.counts
    probes = counts.shape[1] - len(bundle.symbols)
    controls = np.array([f"NegControlProbe_{i:05d}" for i in range(probes)])
    kind = ["Gene Expression"] * len(bundle.symbols) + ["Negative Control Probe"] * probes
    with h5py.File(path, "w") as file:
        file.attrs["filetype"] = "matrix"
        file.attrs["version"] = 2
        file.attrs["software_version"] = SOFTWARE
        group = file.create_group("matrix")
        group["barcodes"] = bundle.cells.cell_id.to_numpy().astype("S")
        group["shape"] = np.array(counts.shape[::-1], np.int32)
        for name, values in (
            ("data", counts.data.astype(np.int32)),
            ("indices", counts.indices.astype(np.int64)),
            ("indptr", counts.indptr.astype(np.int64)),
        ):
            group.create_dataset(name, data=values, compression="gzip", compression_opts=4)
        features = group.create_group("features")
        features["_all_tag_keys"] = np.array([b"genome"])
        features["feature_type"] = np.array(kind, "S")
        features["genome"] = np.full(len(kind), b"Unknown")
        features["id"] = np.concatenate([bundle.ensembl, controls]).astype("S")
        features["name"] = np.concatenate([bundle.symbols, controls]).astype("S")


class _ZarrZip:
    """A Zarr v2 hierarchy in an uncompressed zip without time stamps."""

    def __init__(self, path: Path) -> None:
        self.zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)

    def add(self, name: str, content: bytes) -> None:
        info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
        info.external_attr = 0o644 << 16
        self.zip.writestr(info, content)

    def json(self, name: str, data: dict) -> None:
        self.add(name, json.dumps(data, indent=4).encode())

    def group(self, name: str, attributes: dict | None = None) -> None:
        prefix = f"{name}/" if name else ""
        self.json(f"{prefix}.zattrs", attributes or {})
        self.json(f"{prefix}.zgroup", {"zarr_format": 2})

    def array(self, name: str, values: np.ndarray, chunks: tuple[int, ...] | None = None, **attributes) -> None:
        """Add an array; blocks of zeros are left out, as fill values."""
        chunks = chunks or tuple(max(n, 1) for n in values.shape)
        kind = values.dtype.newbyteorder("<").str
        meta = {
            "shape": list(values.shape),
            "chunks": list(chunks),
            "dtype": kind,
            "order": "C",
            "filters": None,
            "fill_value": 0 if values.dtype.kind in "ui" else 0.0,
            "dimension_separator": ".",
            "compressor": COMPRESSOR.get_config(),
            "zarr_format": 2,
        }
        self.json(f"{name}/.zarray", meta)
        self.json(f"{name}/.zattrs", attributes)
        for index in np.ndindex(*(-(-n // c) for n, c in zip(values.shape, chunks, strict=True))):
            part = values[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunks, strict=True))]
            if part.any():
                block = np.zeros(chunks, kind)
                block[tuple(slice(0, n) for n in part.shape)] = part
                self.add(f"{name}/{'.'.join(map(str, index))}", bytes(COMPRESSOR.encode(block)))


def _write_zarr(path: Path, bundle: Bundle) -> None:
    table = bundle.cells
    columns = {
        "cell_centroid_x": table.x_centroid,
        "cell_centroid_y": table.y_centroid,
        "cell_area": table.cell_area,
        "nucleus_centroid_x": table.nucleus_x,
        "nucleus_centroid_y": table.nucleus_y,
        "nucleus_area": table.nucleus_area,
        "z_level": np.zeros(len(table)),
        "nucleus_count": table.nucleus_count,
    }
    store = _ZarrZip(path)
    with store.zip:
        store.group(
            "",
            {
                "name": "CellSegmentationDataset",
                "major_version": 6,
                "minor_version": 0,
                "number_cells": len(table),
                "polygon_set_names": ["nucleus", "cell"],
                "segmentation_methods": [METHOD],
                "spatial_units": "microns",
            },
        )
        store.array("cell_id", np.stack([bundle.prefix, np.ones_like(bundle.prefix)], axis=1))
        summary = np.column_stack([np.asarray(v, float) for v in columns.values()])
        store.array("cell_summary", summary, column_names=list(columns))
        store.group("masks")
        for number, polygons in enumerate((bundle.nuclei, bundle.outlines)):
            store.array(f"masks/{number}", label_image(polygons / PIXEL_SIZE, bundle.frame), (CHUNK, CHUNK))
        store.group("polygon_sets")
        for number, (polygons, owner) in enumerate(
            ((bundle.nuclei, bundle.owner), (bundle.outlines, np.arange(len(table))))
        ):
            closed = np.concatenate([polygons, polygons[:, :1]], axis=1).astype(np.float32)
            store.group(f"polygon_sets/{number}")
            store.array(f"polygon_sets/{number}/cell_index", owner.astype(np.uint32))
            store.array(f"polygon_sets/{number}/method", np.zeros(len(owner), np.uint32))
            store.array(f"polygon_sets/{number}/num_vertices", np.full(len(owner), closed.shape[1], np.int32))
            store.array(f"polygon_sets/{number}/vertices", closed.reshape(len(closed), -1))


def _ome(name: str, what: str, pixel: float) -> dict:
    """Metadata of an OME-TIFF whose UUID follows from its content's name."""
    return {
        "axes": what,
        "Name": name,
        "UUID": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, name)}",
        "PhysicalSizeX": pixel,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel,
        "PhysicalSizeYUnit": "µm",
    }


def write_he(path: Path, picture: np.ndarray, mpp: float, quality: int = 90) -> None:
    """Write the H&E (h, w, 3) as a tiled, pyramidal JPEG OME-TIFF."""
    levels = [picture]
    while max(levels[-1].shape[:2]) > 1024:
        levels.append(_half(levels[-1]))
    options = {"tile": (512, 512), "photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": quality}}
    with tifffile.TiffWriter(path, bigtiff=picture.nbytes > 2**31, ome=True) as tiff:
        tiff.write(levels[0], subifds=len(levels) - 1, metadata=_ome(path.name, "YXS", mpp), **options)
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, **options)


def _half(picture: np.ndarray) -> np.ndarray:
    """Halve a picture by the mean of 2 × 2 pixels."""
    h, w = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    p = picture[:h, :w].astype(np.uint16)
    return ((p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2] + 2) // 4).astype(np.uint8)


def _write_morphology(path: Path, bundle: Bundle, shrink: int = 4) -> None:
    """Write a small stand-in for the DAPI image: nuclei bright on dark."""
    scale = PIXEL_SIZE * shrink
    shape = tuple(-(-n // shrink) for n in bundle.frame)
    image = np.where(label_image(bundle.nuclei / scale, shape) > 0, 3000, 120).astype(np.uint16)
    metadata = _ome(f"{bundle.name}/{path.name}", "YX", scale)
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(image, tile=(256, 256), compression="zlib", metadata=metadata)
