"""Spots and where they lie on the H&E: legacy Spatial Transcriptomics, and Visium as Space Ranger writes it.

Neither says how large a pixel of the H&E is. Both arrays have a known pitch: the affine that brings the array's places
to the pixels, fitted to all spots, tells it.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata.utils import make_index_unique
from scipy import sparse

from shest.core.errors import InputError, one_line
from shest.io.genes import Genes
from shest.io.header import MPP_RANGE
from shest.io.spot_arrays import DIAMETER_UM, MATRIX_FOLDER, POSITIONS, SCALES, SPOT_MATRIX, STEP_UM

HIRES = "tissue_hires_image.png"
POSITION_COLUMNS = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
SELECTION_COLUMNS = ("x", "y", "pixel_x", "pixel_y")
FULL_IMAGE = "Name the image that Space Ranger was given, in full size"
FOLDER_REMEDY = "Copy the folder of Space Ranger again, with its folder spatial"
SELECTION_REMEDY = "Name the spot selection of this section (columns x, y, pixel_x, pixel_y) in column alignment"
COUNTS_REMEDY = "Name a table of counts, spots (10x13) by genes, TSV, may be .gz"
OFF_GRID = 0.5  # of a step: a fit whose spots lie further off, by the median, is none
ODD_MPP = 0.1  # relative difference between the sheet's mpp and the array's


@dataclass
class Spots:
    """The spots of a section.

    Attributes
    ----------
    spot_id
        (n,) str: barcode, or array column and row (``10x13``).
    xy
        (n, 2) centres, x and y in px of the H&E's full size.
    array
        (n, 2) int: array row and column.
    on_tissue
        (n,) bool: what Space Ranger, or the selection, says.
    measured
        (n,) bool: whether there are counts of it in the file.
    counts
        (n, genes) CSR float32, in the order of the spots; empty rows of those that were not measured.
    genes
        Their genes.
    diameter_um
        Of a spot.
    to_px
        2 x 3 affine from µm along the array (column, row) to H&E px; None where too few spots tell it.
    unplaced
        Rows of counts of spots that have no place.
    """

    spot_id: np.ndarray
    xy: np.ndarray
    array: np.ndarray
    on_tissue: np.ndarray
    measured: np.ndarray
    counts: sparse.csr_matrix
    genes: Genes
    diameter_um: float
    to_px: np.ndarray | None
    unplaced: int = 0

    @property
    def mpp(self) -> float | None:
        """µm per H&E px, by the array's pitch."""
        return None if self.to_px is None else float(abs(np.linalg.det(self.to_px[:, :2])) ** -0.5)


def read_spots(row: Mapping[str, Any]) -> Spots:
    """Read the spots of a sample; ``row`` of the sheet: platform, path and, of ``st``, alignment (its selection).

    Raises
    ------
    InputError
        A file is missing or none that such a sample has, or spots and counts do not belong together.
    """
    if row["platform"] == "st":
        return _join(*read_selection(row["alignment"]), *read_table(row["path"]), "st", row["path"])
    folder = Path(row["path"])
    read_scales(folder)
    return _join(*read_positions(folder), *read_matrix(folder), "visium", folder)


def _join(
    places: pd.DataFrame,
    where: Path,
    ids: np.ndarray,
    counts: sparse.csr_matrix,
    genes: Genes,
    platform: str,
    path: str | Path,
) -> Spots:
    """Bring places and counts together by the spots' ids."""
    twice = places.index[places.index.duplicated()]
    if len(twice):
        raise InputError(where, f"spot {twice[0]} stands there twice", "Correct the file")
    row = pd.Index(ids).get_indexer(places.index)
    measured = row >= 0
    if not measured.any():
        raise InputError(
            where,
            f"none of its {len(places):,} spots ({places.index[0]}) has counts ({ids[0] if len(ids) else 'none'})",
            f"Check that it is of the same section as {path}",
        )
    order = sparse.csr_matrix(
        (np.ones(measured.sum(), np.float32), (np.flatnonzero(measured), row[measured])), (len(places), len(ids))
    )
    array, xy = places[["row", "column"]].to_numpy(np.int64), places[["x", "y"]].to_numpy(float)
    return Spots(
        places.index.to_numpy(str),
        xy,
        array,
        places["on_tissue"].to_numpy(bool),
        measured,
        sparse.csr_matrix(order @ counts),
        genes,
        DIAMETER_UM[platform],
        fit_array(array, xy, STEP_UM[platform], where),
        len(ids) - int(measured.sum()),
    )


def fit_array(array: np.ndarray, xy: np.ndarray, step: tuple[float, float], where: str | Path) -> np.ndarray | None:
    """Fit the affine from the array to the H&E by least squares.

    Parameters
    ----------
    array
        (n, 2) row and column.
    xy
        (n, 2) px.
    step
        µm from a column, and a row, to the next.

    Returns
    -------
    (2, 3) from µm to px; None where the spots are too few or on a line.

    Raises
    ------
    InputError
        The spots lie on no such array.
    """
    um = array[:, ::-1] * np.array(step)
    known = np.column_stack([um, np.ones(len(um))])
    if len(um) < 3 or np.linalg.matrix_rank(known - [*um.mean(axis=0), 0]) < 3:
        return None
    fit = np.linalg.lstsq(known, xy, rcond=None)[0].T
    off = float(np.median(np.linalg.norm(known @ fit.T - xy, axis=1)))
    px_of_step = min(np.linalg.norm(fit[:, :2], axis=0) * np.array(step))
    if not off < OFF_GRID * px_of_step:
        raise InputError(
            where, "its pixel coordinates do not follow its array coordinates", "Check that its columns are not swapped"
        )
    return fit


def read_selection(path: str | Path) -> tuple[pd.DataFrame, Path]:
    """Read the spot selection of a legacy section: x, y, row, column, on_tissue by id (``10x13``); and its path.

    Files with a column ``selected`` say 0 for spots beside the tissue.
    """
    path = Path(path)
    try:
        table = pd.read_csv(path, sep="\t")
    except FileNotFoundError:
        raise InputError(path, "the spot selection is not there", SELECTION_REMEDY) from None
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise InputError(path, f"no table that can be read ({one_line(error)})", SELECTION_REMEDY) from None
    lacking = [name for name in SELECTION_COLUMNS if name not in table]
    if lacking:
        raise InputError(path, f"no column {', '.join(lacking)}", SELECTION_REMEDY)
    values = table[list(SELECTION_COLUMNS)].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    if not len(values) or not np.isfinite(values).all():
        raise InputError(path, "coordinates that are no numbers, or no rows", SELECTION_REMEDY)
    column, row = np.rint(values[:, :2]).astype(np.int64).T
    places = pd.DataFrame({"x": values[:, 2], "y": values[:, 3], "row": row, "column": column})
    places["on_tissue"] = (table["selected"] != 0).to_numpy() if "selected" in table else True
    places.index = [f"{c}x{r}" for c, r in zip(column, row, strict=True)]
    return places, path


def read_table(path: str | Path) -> tuple[np.ndarray, sparse.csr_matrix, Genes]:
    """Read a legacy table of counts, spots by genes, TSV, gzipped or not: ids (n,), counts (n, g), genes."""
    try:
        table = pd.read_csv(path, sep="\t", index_col=0)
        values = table.to_numpy(np.float32)
    except FileNotFoundError:
        raise InputError(path, "the table of counts is not there", COUNTS_REMEDY) from None
    except (OSError, EOFError, ValueError, zlib.error, pd.errors.ParserError) as error:
        raise InputError(path, f"no table of counts that can be read ({one_line(error)})", COUNTS_REMEDY) from None
    if not values.size:
        raise InputError(path, "no spots or no genes", COUNTS_REMEDY)
    _check_counts(path, values)
    genes = Genes.of(make_index_unique(table.columns.astype(str)), table.columns)
    return table.index.astype(str).to_numpy(), sparse.csr_matrix(values), genes


def _check_counts(path: str | Path, values: np.ndarray) -> None:
    if not (np.isfinite(values).all() and (values >= 0).all() and np.array_equal(values, np.rint(values))):
        raise InputError(path, "its values are no counts", "Give the raw counts, not normalised ones")


def matrix_path(folder: Path) -> Path:
    """Return the filtered matrix of a Space Ranger folder: an .h5 or a folder, whatever stands before its name.

    Raises
    ------
    InputError
        There is none, or several.
    """
    for pattern in (f"*{SPOT_MATRIX}", MATRIX_FOLDER):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                folder, f"{len(found)} files *{SPOT_MATRIX}", "Leave that of this section alone in the folder"
            )
    raise InputError(folder, f"no matrix: neither {SPOT_MATRIX} nor a folder {MATRIX_FOLDER}", FOLDER_REMEDY)


def read_matrix(folder: Path) -> tuple[np.ndarray, sparse.csr_matrix, Genes]:
    """Read the filtered matrix: barcodes (n,), counts (n, g), genes of type Gene Expression."""
    import scanpy

    path = matrix_path(folder)
    try:
        read = scanpy.read_10x_h5 if path.suffix == ".h5" else scanpy.read_10x_mtx
        table = read(path)
        counts = sparse.csr_matrix(table.X, dtype=np.float32)
    except Exception as error:  # of HDF5, gzip, the matrix market and pandas alike
        raise InputError(path, f"no matrix that can be read ({one_line(error)})", FOLDER_REMEDY) from None
    if not all(counts.shape):
        raise InputError(path, "no spots or no genes", FOLDER_REMEDY)
    _check_counts(path, counts.data)
    genes = Genes.of(make_index_unique(table.var_names), list(table.var["gene_ids"]))
    return table.obs_names.to_numpy(str), counts, genes


def read_positions(folder: Path) -> tuple[pd.DataFrame, Path]:
    """Read the positions of a Space Ranger folder, with a header (from 2.0 on) or without; as :func:`read_selection`.

    Raises
    ------
    InputError
        There are none, they cannot be read, or the folder is one of Visium HD.
    """
    found = [folder / "spatial" / name for name in POSITIONS if (folder / "spatial" / name).is_file()]
    if not found:
        if (folder / "binned_outputs").is_dir() or (folder / "spatial/tissue_positions.parquet").is_file():
            raise InputError(folder, "a folder of Visium HD, which is not read", "Give a folder of Visium")
        raise InputError(
            folder / "spatial", f"no positions of the spots: neither {' nor '.join(POSITIONS)}", FOLDER_REMEDY
        )
    path = found[0]
    try:
        table = pd.read_csv(path, header=None, dtype=str)
        if table.iloc[0, 0] == POSITION_COLUMNS[0]:
            table = table.rename(columns=table.iloc[0]).iloc[1:]
        else:
            table.columns = POSITION_COLUMNS
        values = table[POSITION_COLUMNS[1:]].astype(float).to_numpy()
    except (OSError, ValueError, KeyError, IndexError, pd.errors.ParserError) as error:
        raise InputError(path, f"no positions that can be read ({one_line(error)})", FOLDER_REMEDY) from None
    if not len(values) or not np.isfinite(values).all():
        raise InputError(path, "positions that are no numbers, or no rows", FOLDER_REMEDY)
    columns = {"x": values[:, 4], "y": values[:, 3], "row": values[:, 1], "column": values[:, 2]}
    places = pd.DataFrame(columns | {"on_tissue": values[:, 0] != 0}, index=table["barcode"].to_numpy(str))
    return places, path


def read_scales(folder: Path) -> dict[str, float]:
    """Read the scale factors of a Space Ranger folder.

    Raises
    ------
    InputError
        They are not there, cannot be read, or lack the one of the large picture.
    """
    path = folder / "spatial" / SCALES
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "Name the folder that Space Ranger wrote (outs)")
    try:
        scales = json.loads(path.read_text(encoding="utf-8"))
        return {name: float(scales[name]) for name in ("tissue_hires_scalef", "spot_diameter_fullres")}
    except FileNotFoundError:
        raise InputError(path, "the scale factors are not there", FOLDER_REMEDY) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(path, f"no scale factors that can be read ({one_line(error)})", FOLDER_REMEDY) from None


def check_image(folder: Path, he_image: str | Path, shape: tuple[int, int]) -> None:
    """Refuse an image that is not the one of the scale factors, where Space Ranger's own picture of it is there.

    Raises
    ------
    InputError
        Scaled by the factor, the image is not as large as that picture: it is cropped, or another size.
    """
    picture = folder / "spatial" / HIRES
    if not picture.is_file():
        return
    from PIL import Image

    try:
        with Image.open(picture) as opened:
            width, height = opened.size
    except OSError as error:
        raise InputError(picture, f"no picture that can be read ({one_line(error)})", FOLDER_REMEDY) from None
    wanted = np.array(shape) * read_scales(folder)["tissue_hires_scalef"]
    if (np.abs(wanted - (height, width)) > np.maximum(0.01 * np.array([height, width]), 2)).any():
        raise InputError(
            he_image,
            f"{shape[1]:,} by {shape[0]:,} px: not the image of the scale factors, by which {HIRES} would be "
            f"{wanted[1]:.0f} by {wanted[0]:.0f} px and not {width} by {height}: cropped, or another size",
            FULL_IMAGE,
        )


def settle_mpp(spots: Spots, given: str | float | None, path: str | Path) -> float:
    """Return µm per H&E px: the sheet's, which the array must not contradict, else the array's.

    Raises
    ------
    InputError
        Neither tells it, they contradict each other, or it is none that an H&E has.
    """
    found = spots.mpp
    if given is None and found is None:
        raise InputError(path, "too few spots to tell the size of an H&E pixel by", "Give it in column mpp, in µm")
    mpp = float(given) if given is not None else found
    if given is not None and found is not None and abs(mpp / found - 1) > ODD_MPP:
        raise InputError(
            path,
            f"mpp {mpp:g} in the sheet, but by the array's pitch a pixel is {found:.3g} µm",
            "Leave column mpp empty, or name the image that the spots' pixels are of",
        )
    if not MPP_RANGE[0] / 2 <= mpp <= 10 * MPP_RANGE[1]:
        raise InputError(path, f"a pixel of {mpp:.3g} µm, which no H&E has", "Check the image and the positions")
    return mpp
