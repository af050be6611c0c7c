"""Which spots go on; and pseudo-spots, a grid laid over cells that were measured one by one."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import sparse

from shest.io.spot_arrays import SHARE
from shest.tissue.segment.regions import FOLD, TISSUE, Regions

REASONS = ("kept", "outside", "off_tissue", "no_counts", "little_tissue")
"""Centre beyond the image; left out by Space Ranger or the selection; without a count; too little tissue around it."""
COLUMNS = ["spot_id", "x", "y", "diameter_um", "array_row", "array_col", "tissue", "kept", "reason"]


def tissue_share(regions: Regions, xy: np.ndarray, side_px: tuple[float, float]) -> np.ndarray:
    """Return the share of tissue in squares around places, (n,); folded tissue is tissue, glass and pen are none.

    Parameters
    ----------
    regions
        What the parts of the slide are.
    xy
        (n, 2) H&E px.
    side_px
        Width and height of the squares, full-size px; what lies beyond the image is no tissue.
    """
    tissue = np.isin(regions.kinds, (TISSUE, FOLD))
    sums = np.zeros((tissue.shape[0] + 1, tissue.shape[1] + 1))
    sums[1:, 1:] = tissue.cumsum(axis=0).cumsum(axis=1)
    factor = np.array(regions.factor[::-1])
    low = np.rint((xy + 0.5 - np.array(side_px) / 2) / factor).astype(np.int64)
    side = np.maximum(np.rint(np.array(side_px) / factor).astype(np.int64), 1)
    (left, top), (right, bottom) = (np.clip(edge, 0, tissue.shape[::-1]).T for edge in (low, low + side))
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return inside / side.prod()


def spot_table(
    places: pd.DataFrame,
    regions: Regions,
    shape: tuple[int, int],
    mpp: tuple[float, float],
    side_um: float,
    min_tissue: float,
) -> pd.DataFrame:
    """Judge every spot.

    Parameters
    ----------
    places
        spot_id, x, y (H&E px), diameter_um, array_row, array_col, on_tissue (bool), total (of its counts); further
        columns go along.
    regions
        What the parts of the slide are.
    shape
        Height and width of the image, px.
    mpp
        µm per px along x and y.
    side_um
        Side of the square in which there must be tissue.
    min_tissue
        Its least share.

    Returns
    -------
    One row a spot, in the order of ``places``: :data:`COLUMNS` (reason: the first of :data:`REASONS` that applies),
    then the further columns.
    """
    xy = places[["x", "y"]].to_numpy(float)
    table = places.assign(tissue=tissue_share(regions, xy, (side_um / mpp[0], side_um / mpp[1])))
    table["reason"] = np.select(
        [
            ((xy < -0.5) | (xy >= np.array(shape[::-1]) - 0.5)).any(axis=1),
            ~places["on_tissue"],
            places["total"] <= 0,
            table["tissue"] < min_tissue,
        ],
        REASONS[1:],
        default=REASONS[0],
    )
    table["kept"] = table["reason"] == REASONS[0]
    further = [name for name in places if name not in (*COLUMNS, "on_tissue", "total")]
    return table[[*COLUMNS, *further]].reset_index(drop=True)


def reasons(table: pd.DataFrame) -> dict[str, int]:
    """Return the number of spots for each reason, every reason named."""
    found = table["reason"].value_counts()
    return {reason: int(found.get(reason, 0)) for reason in REASONS}


def lay_grid(xy_um: np.ndarray, diameter_um: float, pitch_um: float) -> tuple[pd.DataFrame, np.ndarray]:
    """Lay a square grid of spots over cells; where it begins does not depend on the cells.

    Parameters
    ----------
    xy_um
        (n, 2) centroids of cells.
    diameter_um, pitch_um
        Of a spot; from one centre to the next, at least the diameter, so that no cell is in two.

    Returns
    -------
    spots
        spot_id (column and row: ``3x14``), array_row, array_col, x_um, y_um (centres); all of the rectangle that the
        cells span, by row, then column.
    spot_of
        (n,) int: the spot that each cell lies in; -1 between spots.
    """
    place = np.floor(xy_um / pitch_um).astype(np.int64)
    low, high = place.min(axis=0), place.max(axis=0) + 1
    columns, rows = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    columns, rows = columns.ravel(), rows.ravel()
    spots = pd.DataFrame(
        {
            "spot_id": [f"{c}x{r}" for c, r in zip(columns, rows, strict=True)],
            "array_row": rows,
            "array_col": columns,
            "x_um": (columns + 0.5) * pitch_um,
            "y_um": (rows + 0.5) * pitch_um,
        }
    )
    away = np.linalg.norm(xy_um - (place + 0.5) * pitch_um, axis=1)
    number = (place[:, 1] - low[1]) * (high[0] - low[0]) + place[:, 0] - low[0]
    return spots, np.where(away <= diameter_um / 2, number, -1)


def membership(spot_of: np.ndarray, spots: int) -> sparse.csr_matrix:
    """Return the matrix that sums cells over spots, (spots, n) CSR of 0 and 1; ``spot_of``: -1 for none."""
    cells = np.flatnonzero(spot_of >= 0)
    return sparse.csr_matrix((np.ones(len(cells), np.float32), (spot_of[cells], cells)), (spots, len(spot_of)))


def composition(spot_of: np.ndarray, spots: int, labels: pd.Series) -> Mapping[str, np.ndarray]:
    """Return the share of each type among the labelled cells of each spot, (spots,); NaN where none is labelled.

    ``labels``: (n,) type of each cell, missing where it has none.
    """
    values, labelled = labels.to_numpy(object), labels.notna().to_numpy() & (spot_of >= 0)
    total = np.bincount(spot_of[labelled], minlength=spots)
    shares = {}
    for name in sorted(set(values[labelled])):
        which = np.flatnonzero(labelled)[values[labelled] == name]
        of_type = np.bincount(spot_of[which], minlength=spots)
        shares[f"{SHARE}{name}"] = np.where(total > 0, of_type / np.maximum(total, 1), np.nan)
    return shares
