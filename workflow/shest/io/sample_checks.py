"""Checks of a sample's files: what is wrong with a bundle, spots or a plain slide, before it is read whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shest.core.errors import Findings
from shest.io import geojson, slide, spots
from shest.io.geojson import NUCLEI_REMEDY
from shest.io.header import FEW_INSIDE, LEAST_INSIDE, MPP_RANGE, SampleHeader, share_inside
from shest.io.image import AGAIN, read_he
from shest.io.spot_arrays import PLATFORMS
from shest.io.xenium import (
    COPY,
    CellArchive,
    CountMatrix,
    NucleusOwners,
    read_alignment,
    read_cells,
    read_matrix,
    read_nuclei,
    read_specs,
    read_zarr,
    version_of,
)
from shest.io.xenium_files import CELLS, MATRIX, NUCLEI, SPECS, ZARR

LATEST = (4,)
SPOTS_INSIDE = 0.95  # share of the measured spots on the image: below, it is not the whole one


def check_sample(row: Mapping[str, Any], findings: Findings) -> SampleHeader:
    """Read what the files of a sample say of it, and note everything that is wrong with them.

    Parameters
    ----------
    row
        Row of the sheet with resolved paths: ``platform``, ``path``; ``he_image`` and ``alignment`` of a bundle (None
        where it is yet to be found), ``nuclei`` of a plain slide; ``mpp`` of an image without an alignment. Of spots
        ``he_image``; ``alignment`` is the spot selection of a legacy section.
    """
    if row["platform"] == "slide":
        return check_slide(row["path"], row.get("nuclei"), row.get("mpp"), findings)
    if row["platform"] in PLATFORMS:
        return check_spots(row, findings)
    header = check_bundle(row["path"], row["he_image"], row["alignment"], findings)
    if row["alignment"] is None and header.he_shape is not None:
        header.mpp = findings.attempt(row["he_image"], slide.SET_MPP, slide.read_mpp, row["he_image"], row.get("mpp"))
    return header


def check_slide(
    path: str | Path, nuclei: str | Path | None, mpp: str | float | None, findings: Findings
) -> SampleHeader:
    """Check a plain slide: its image, the size of its pixels, and the outlines of its nuclei where they are given."""
    header = SampleHeader()
    pixels = findings.attempt(path, AGAIN, slide.read_image, path)
    if pixels is not None:
        header.he_shape = (int(pixels.shape[1]), int(pixels.shape[2]))
        header.mpp = findings.attempt(path, slide.SET_MPP, slide.read_mpp, path, mpp)
    if not nuclei:
        return header
    if header.he_shape is None or header.mpp is None:  # sizes and places would be said against what is not known
        findings.attempt(nuclei, NUCLEI_REMEDY, geojson.read, nuclei, NUCLEI_REMEDY)
        return header
    outlines = findings.attempt(nuclei, NUCLEI_REMEDY, slide.read_nuclei, nuclei, header.he_shape, header.mpp)
    if outlines is not None:
        header.cell_ids, header.share_inside = outlines.cell_id, outlines.inside
        header.nuclei = header.cells_with_nucleus = int(outlines.drawn.sum())
        _warn_of_outlines(nuclei, outlines, findings)
    return header


def _warn_of_outlines(path: str | Path, outlines: slide.Nuclei, findings: Findings) -> None:
    """Note outlines that were repaired, that have no area, and ids that name no single cell."""
    empty = int((~outlines.drawn).sum())
    if empty:
        findings.warn(path, f"{empty:,} outlines without an area", "Their cells are left out as no_nucleus")
    if outlines.repaired:
        findings.warn(path, f"{outlines.repaired:,} outlines cross themselves", "They are repaired")
    if not outlines.named:
        findings.warn(path, "its features have no ids, or share them", "Cells are numbered in the order of the file")


def check_spots(row: Mapping[str, Any], findings: Findings) -> SampleHeader:
    """Check a section in spots: counts, places, scale factors and image, each by itself and against the others."""
    header, visium = SampleHeader(), row["platform"] == "visium"
    pixels = findings.attempt(row["he_image"], AGAIN, slide.read_image, row["he_image"])
    if pixels is not None:
        header.he_shape = (int(pixels.shape[1]), int(pixels.shape[2]))
    found = findings.attempt(row["path"], spots.FOLDER_REMEDY if visium else spots.COUNTS_REMEDY, spots.read_spots, row)
    if found is None:
        return header
    header.cell_ids, header.genes, header.values = found.spot_id[found.measured], found.genes, found.counts.nnz
    mpp = findings.attempt(row["path"], slide.SET_MPP, spots.settle_mpp, found, row.get("mpp"), row["path"])
    header.mpp = None if mpp is None else (mpp, mpp)
    if found.unplaced:
        findings.warn(row["path"], f"{found.unplaced:,} rows of counts of spots without a place", "They are left out")
    if header.he_shape is None:
        return header
    if visium:
        folder, image = Path(row["path"]), row["he_image"]
        findings.attempt(image, spots.FULL_IMAGE, spots.check_image, folder, image, header.he_shape)
    header.share_inside = share_inside(found.xy[found.measured], header.he_shape)
    number = int(found.measured.sum())
    if header.share_inside < SPOTS_INSIDE:
        findings.problem(
            row["he_image"],
            f"{round(number * (1 - header.share_inside)):,} of {number:,} spots lie outside of its "
            f"{header.he_shape[1]:,} by {header.he_shape[0]:,} px: cropped, or another size",
            spots.FULL_IMAGE if visium else "Name the image that the pixels of the spot selection are of",
        )
    return header


def check_bundle(
    bundle: str | Path, he_image: str | Path, alignment: str | Path | None, findings: Findings
) -> SampleHeader:
    """Check the files of a Xenium bundle, each by itself and against the others; ``alignment``: None for none yet."""
    bundle, header = Path(bundle), SampleHeader()
    specs = findings.attempt(bundle / SPECS, COPY, read_specs, bundle)
    if specs is None and not (bundle / SPECS).is_file():
        return header  # no bundle: what it lacks is not worth listing
    cells = findings.attempt(bundle / CELLS, COPY, read_cells, bundle)
    matrix = findings.attempt(bundle / MATRIX, COPY, read_matrix, bundle)
    archive = findings.attempt(bundle / ZARR, COPY, read_zarr, bundle)
    nuclei = findings.attempt(bundle / NUCLEI, COPY, read_nuclei, bundle)
    affine = None if alignment is None else findings.attempt(alignment, COPY, read_alignment, alignment)
    pixels = findings.attempt(he_image, AGAIN, read_he, he_image)
    if specs is not None:
        header.version = version_of(specs)
        _check_version(bundle, header.version, archive, nuclei, findings)
    if matrix is not None:
        header.cell_ids, header.genes, header.values = matrix
    if nuclei is not None:
        header.nuclei, header.cells_with_nucleus = len(nuclei.cell_ids), len(set(nuclei.cell_ids))
    if pixels is not None:
        header.he_shape = (int(pixels.shape[1]), int(pixels.shape[2]))
    if cells is not None:
        _check_ids(bundle, cells["cell_id"].to_numpy(str), matrix, archive, nuclei, findings)
    if not any(part is None for part in (affine, specs, pixels, cells)):
        to_morphology_px = cells[["x_centroid", "y_centroid"]].to_numpy(float) / specs["pixel_size"]
        header.mpp = tuple(float(v) for v in np.linalg.norm(affine[:2, :2], axis=0) * specs["pixel_size"])
        _check_alignment(alignment, affine, to_morphology_px, header, findings)
    return header


def _check_version(
    bundle: Path,
    version: tuple[int, ...] | None,
    archive: CellArchive | None,
    nuclei: NucleusOwners | None,
    findings: Findings,
) -> None:
    """Note a version that cannot be read, and files that belong to another version than the one named."""
    layout = archive.layout if archive else None
    name = ".".join(map(str, version)) if version else None
    if version is None and layout is not None:
        findings.warn(
            bundle / SPECS,
            "names no version of the analysis software",
            f"It is read by the layout of {ZARR} ({layout})",
        )
    if version is not None and version[0] > LATEST[0]:
        findings.warn(
            bundle / SPECS,
            f"Xenium Onboard Analysis {name} is newer than {LATEST[0]}.x, the latest known",
            "It is read as that; look at the overlay of nuclei in registration.png",
        )
    newer = layout == "polygon_sets"
    if version is not None and layout is not None and newer != (version >= (2,)):
        findings.problem(
            bundle / ZARR,
            f"has the layout of version {'2.0 or later' if newer else '1.x'}, but {SPECS} says {name}",
            "Copy both files again from one run of the instrument",
        )
    elif newer and nuclei is not None and nuclei.labels is None:
        findings.problem(
            bundle / NUCLEI,
            "no column label_id: nuclei of one cell cannot be told apart (an early version 2.0.0)",
            "Reprocess the run with Xenium Ranger 2.0 or later",
        )


def _check_ids(
    bundle: Path,
    reference: np.ndarray,
    matrix: CountMatrix | None,
    archive: CellArchive | None,
    nuclei: NucleusOwners | None,
    findings: Findings,
) -> None:
    """Note files whose cells are not those of ``cells.parquet`` (``reference``, (n,) str) in the same order."""
    remedy = "The files are not of one run: copy all of them again"
    alike = True
    for name, part in ((MATRIX, matrix), (ZARR, archive)):
        if part is not None and part.cell_ids is not None and not np.array_equal(part.cell_ids, reference):
            findings.problem(bundle / name, f"{_difference(part.cell_ids, reference)} {CELLS}", remedy)
            alike &= name != ZARR
    if nuclei is None:
        return
    strange = ~np.isin(nuclei.cell_ids, reference)
    if strange.any():
        findings.problem(
            bundle / NUCLEI,
            f"{int(strange.sum()):,} nuclei of cells that are not in {CELLS} ({nuclei.cell_ids[strange][0]})",
            remedy,
        )
    elif alike and archive is not None and archive.owner is not None and nuclei.labels is not None:
        owner, label = archive.owner, nuclei.labels
        counted = label.min() >= 1 and label.max() <= len(owner)
        if not counted or not np.array_equal(reference[owner[label - 1]], nuclei.cell_ids):
            findings.problem(bundle / NUCLEI, f"nuclei do not belong to the cells that {ZARR} says", remedy)


def _difference(ids: np.ndarray, reference: np.ndarray) -> str:
    """Say how two lists of cell ids differ, as the start of a sentence that ends with the name of the second."""
    if len(ids) == len(reference) and set(ids) == set(reference):
        return "names the cells in another order than"
    alien = int((~np.isin(ids, reference)).sum())
    return f"{len(ids):,} cells, {alien:,} of them not among the {len(reference):,} of"


def _check_alignment(
    path: str | Path, affine: np.ndarray, cells: np.ndarray, header: SampleHeader, findings: Findings
) -> None:
    """Note an alignment that puts the cells, (n, 2) in morphology px, beside the H&E, or gives it an odd scale."""

    def share(matrix: np.ndarray) -> float:
        return share_inside(cells @ matrix[:2, :2].T + matrix[:2, 2], header.he_shape)

    header.share_inside = inside = share(np.linalg.inv(affine))
    inverted = share(affine)
    remedy = "Check that it is the alignment of this bundle and this H&E"
    if inverted > max(inside, 0.5):
        remedy = f"Its inverse puts {inverted:.0%} there: export it from H&E pixels to Xenium pixels"
    if inside < LEAST_INSIDE:
        findings.problem(path, f"maps the H&E away from the cells: {inside:.0%} of them lie on it", remedy)
    elif inside < FEW_INSIDE:
        findings.warn(path, f"only {inside:.0%} of the cells lie on the H&E", remedy)
    if not all(MPP_RANGE[0] <= v <= MPP_RANGE[1] for v in header.mpp):
        findings.warn(
            path,
            f"makes an H&E pixel {header.mpp[0]:.3g} by {header.mpp[1]:.3g} µm",
            "A 40x scan has about 0.25 µm; check alignment and image",
        )
