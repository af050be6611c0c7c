"""A simulated section measured by Visium: the folder that Space Ranger writes, its spots sums over simulated cells."""

import json
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse

from shest.core.files import sha256, write_json
from shest.simulate.spec import VISIUM_FILES as FILES
from shest.simulate.spec import Slide, as_dict

DIAMETER_UM, ROW_UM, COLUMN_UM = 55.0, 50.0 * 3**0.5, 50.0
HIRES_PX = 2000


def lay_array(shape: tuple[int, int], mpp: float) -> pd.DataFrame:
    """Lay Visium's array over a picture (height, width): barcode, array_row, array_col, x, y (px of the centres)."""
    rows = int((shape[0] * mpp - DIAMETER_UM) // ROW_UM) + 1
    columns = int((shape[1] * mpp - DIAMETER_UM) // COLUMN_UM) + 1
    row, column = (grid.ravel() for grid in np.mgrid[:rows, :columns])
    used = (row + column) % 2 == 0
    row, column = row[used], column[used]
    um = np.column_stack([column * COLUMN_UM, row * ROW_UM]) + DIAMETER_UM / 2
    barcodes = ["".join("ACGT"[(n >> 2 * k) & 3] for k in range(15, -1, -1)) + "-1" for n in range(len(row))]
    x, y = (um / mpp).T
    return pd.DataFrame({"barcode": barcodes, "array_row": row, "array_col": column, "x": x, "y": y})


def write_folder(
    folder: Path,
    spec: Slide,
    picture: np.ndarray,
    centres_um: np.ndarray,
    cell_type: np.ndarray,
    observed: np.ndarray,
    expected: np.ndarray,
    symbols: np.ndarray,
    ensembl: np.ndarray,
) -> dict:
    """Write everything but the H&E; return the truth's summary, which is written last.

    Parameters
    ----------
    picture
        (h, w, 3) uint8.
    centres_um, cell_type
        (n, 2) from the picture's corner, and (n,) of the cells.
    observed, expected
        (n, genes) counts of the cells, and what they were drawn from.
    symbols, ensembl
        (genes,).
    """
    spots = lay_array(picture.shape[:2], spec.mpp)
    away = np.linalg.norm(spots[["x", "y"]].to_numpy()[:, None] * spec.mpp - centres_um[None], axis=2)
    member = sparse.csr_matrix(away <= DIAMETER_UM / 2, dtype=np.float32)
    spots["in_tissue"] = np.asarray(member.sum(axis=1)).ravel() > 0
    inside = member[spots["in_tissue"].to_numpy()]
    (folder / "spatial").mkdir(parents=True)
    (folder / "truth").mkdir()
    barcodes = spots.loc[spots["in_tissue"], "barcode"].to_numpy()
    _write_matrix(folder / FILES[0], barcodes, sparse.csr_matrix(inside @ observed), symbols, ensembl)
    names = {"x": "pxl_col_in_fullres", "y": "pxl_row_in_fullres"}
    order = ["barcode", "in_tissue", "array_row", "array_col", *reversed(names.values())]
    table = spots.rename(columns=names).astype({"in_tissue": int}).round({name: 0 for name in names.values()})
    table.astype({name: int for name in names.values()})[order].to_csv(folder / FILES[1], index=False)
    _write_pictures(folder, picture, spec.mpp)
    kinds = sorted(set(cell_type))
    shares = inside @ (cell_type[:, None] == np.array(kinds)).astype(np.float32)
    obs = pd.DataFrame(shares, columns=[f"cells:{kind}" for kind in kinds], index=barcodes)
    truth = ad.AnnData(sparse.csr_matrix(inside @ expected), obs=obs, var=pd.DataFrame(index=symbols))
    truth.write_h5ad(folder / FILES[-1], compression="gzip")
    summary = {
        "settings": as_dict(spec),
        "he_shape": list(picture.shape[:2]),
        "mpp": [spec.mpp, spec.mpp],
        "spots": len(spots),
        "types": {kind: int((cell_type == kind).sum()) for kind in kinds},
        "defects": {},
        "sha256": {str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()},
    }
    write_json(folder / "truth/truth.json", summary)
    return summary


def _write_matrix(
    path: Path, barcodes: np.ndarray, counts: sparse.csr_matrix, symbols: np.ndarray, ensembl: np.ndarray
) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = barcodes.astype("S")
        group["shape"] = np.array(counts.shape[::-1], np.int32)
        counts.sort_indices()
        for name, kind in (("data", np.int32), ("indices", np.int64), ("indptr", np.int64)):
            group.create_dataset(name, data=getattr(counts, name).astype(kind), compression="gzip")
        features = group.create_group("features")
        features["_all_tag_keys"] = np.array([b"genome"])
        for name, values in (("id", ensembl), ("name", symbols)):
            features[name] = np.asarray(values).astype("S")
        features["feature_type"] = np.full(len(symbols), b"Gene Expression")
        features["genome"] = np.full(len(symbols), b"GRCh38")


def _write_pictures(folder: Path, picture: np.ndarray, mpp: float) -> None:
    factor = min(1.0, HIRES_PX / max(picture.shape[:2]))
    height, width = (round(side * factor) for side in picture.shape[:2])
    Image.fromarray(picture).resize((width, height)).save(folder / FILES[3])
    scales = {
        "spot_diameter_fullres": 65.0 / mpp,  # Space Ranger's spot has 65 µm
        "tissue_hires_scalef": factor,
        "fiducial_diameter_fullres": 105.0 / mpp,
        "tissue_lowres_scalef": min(1.0, 600 / max(picture.shape[:2])),
    }
    (folder / FILES[2]).write_text(json.dumps(scales))
