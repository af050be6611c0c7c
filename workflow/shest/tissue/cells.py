"""Which cells go on: each cell's nucleus, its size in µm, the grey of its window, and why a cell is left out.

The outlines come in H&E px, wherever they were found: a Xenium bundle's, mapped by the registration, or those
of a plain slide.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import shapely

from shest.tiles.blocks import each_block, make_blocks, mean_grey
from shest.tiles.quadruple import window_origin, window_shape

REASONS = ("kept", "no_nucleus", "outside_image", "too_small", "too_large", "window_off_image", "bare_glass")
COLUMNS = ["cell_id", "x", "y", "width_um", "height_um", "mean_grey", "kept", "reason"]


def single_polygons(outlines: np.ndarray) -> np.ndarray:
    """Return each outline as one polygon: the largest part of several; None where there is no area to speak of."""
    outlines = np.asarray(outlines, dtype=object)
    usable = ~(shapely.is_missing(outlines) | shapely.is_empty(outlines))
    usable[usable] = np.isfinite(shapely.bounds(outlines[usable])).all(axis=1)
    parts, owner = shapely.get_parts(outlines[usable], return_index=True)
    flat = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    parts, owner = parts[flat], np.flatnonzero(usable)[owner[flat]]
    order = np.lexsort((-shapely.area(parts), owner))
    single = np.full(len(outlines), None, dtype=object)
    owners, first = np.unique(owner[order], return_index=True)
    single[owners] = parts[order][first]
    return single


def nucleus_of_each_cell(cell_ids: np.ndarray, outlines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose each cell's nucleus: of several the largest by area, of equal ones the first.

    Parameters
    ----------
    cell_ids
        (m,): the cell of each nucleus.
    outlines
        (m,) shapely geometries.

    Returns
    -------
    The cells that have a nucleus, (n,), sorted, and their nuclei, (n,) polygons.
    """
    polygons = single_polygons(outlines)
    drawn = np.flatnonzero(~shapely.is_missing(polygons))
    ids = np.asarray(cell_ids)[drawn]
    order = np.lexsort((-shapely.area(polygons[drawn]), ids))
    found, first = np.unique(ids[order], return_index=True)
    return found, polygons[drawn[order[first]]]


def measure(polygons: np.ndarray, mpp_x: float, mpp_y: float) -> pd.DataFrame:
    """Return centroid (x, y in H&E px) and bounding box (width_um, height_um, in the H&E's frame) of polygons."""
    centre = shapely.get_coordinates(shapely.centroid(polygons)).reshape(-1, 2)
    bounds = shapely.bounds(polygons).reshape(-1, 4)
    return pd.DataFrame(
        {
            "x": centre[:, 0],
            "y": centre[:, 1],
            "width_um": (bounds[:, 2] - bounds[:, 0]) * mpp_x,
            "height_um": (bounds[:, 3] - bounds[:, 1]) * mpp_y,
        }
    )


def window_inside(origins: np.ndarray, window: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Tell which windows lie wholly inside an image of ``shape`` (height, width)."""
    x, y = origins.T
    return (x >= 0) & (y >= 0) & (x + window[1] <= shape[1]) & (y + window[0] <= shape[0])


def grey_by_block(image: object, block_px: int, threads: int) -> Callable[..., np.ndarray]:
    """Return the function that :func:`cell_table` asks for grey values: one that reads ``image`` by block."""

    def grey(table: pd.DataFrame, origins: np.ndarray, window: tuple[int, int]) -> np.ndarray:
        blocks = make_blocks(table["x"].to_numpy(), table["y"].to_numpy(), origins, window, block_px)
        parts = each_block(
            blocks, image, lambda block, pixels: mean_grey(block, pixels, origins, window), threads, "grey values"
        )
        values = np.full(len(table), np.nan)
        for block, part in zip(blocks, parts, strict=True):
            values[block.cells] = part
        return values

    return grey


def cell_table(
    all_ids: np.ndarray,
    ids: np.ndarray,
    polygons: np.ndarray,
    shape: tuple[int, int],
    mpp: tuple[float, float],
    limits: dict,
    window_um: float,
    grey: Callable[..., np.ndarray],
) -> pd.DataFrame:
    """Judge every cell.

    Parameters
    ----------
    all_ids
        Every cell of the sample.
    ids, polygons
        Cells that have a nucleus, and its polygon in H&E px (:func:`nucleus_of_each_cell`).
    shape
        Height and width of the image, px.
    mpp
        µm per px along x and y.
    limits
        ``min_um``, ``max_um`` (bounding box, both sides) and ``max_mean_grey``.
    window_um
        Side of the window, µm.
    grey
        Called with the rows (x, y) whose window lies inside, their origins (n, 2) and the window (h, w); returns
        mean grey values (n,).

    Returns
    -------
    One row a cell, sorted by cell_id: cell_id, x, y (px), width_um, height_um, mean_grey (where the window lies
    inside the image), kept, reason (the first of :data:`REASONS` that applies, in the order of the paper's steps).
    """
    table = measure(polygons, *mpp).assign(cell_id=ids).set_index("cell_id")
    table = table.reindex(np.unique(np.asarray(all_ids)))
    window = window_shape(window_um, *mpp)
    there = table["x"].notna().to_numpy()
    origins = np.zeros((len(table), 2), np.int64)
    origins[there] = np.stack(window_origin(*table.loc[there, ["x", "y"]].to_numpy().T, *window), axis=1)
    inside = there & window_inside(origins, window, shape)
    table["mean_grey"] = np.nan
    table.loc[inside, "mean_grey"] = grey(table[inside], origins[inside], window)
    table["reason"] = _reasons(table, inside, shape, limits)
    table["kept"] = table["reason"] == "kept"
    return table.rename_axis("cell_id").reset_index()[COLUMNS]


def _reasons(table: pd.DataFrame, inside: np.ndarray, shape: tuple[int, int], limits: dict) -> np.ndarray:
    """Return the first reason that applies to each cell. Pixel centres are at integers: the image ends at −0.5."""
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    sides = table[["width_um", "height_um"]].to_numpy()
    return np.select(
        [
            np.isnan(x),
            (x < -0.5) | (y < -0.5) | (x >= shape[1] - 0.5) | (y >= shape[0] - 0.5),
            (sides < limits["min_um"]).any(axis=1),
            (sides > limits["max_um"]).any(axis=1),
            ~inside,
            table["mean_grey"].to_numpy() > limits["max_mean_grey"],
        ],
        REASONS[1:],
        default=REASONS[0],
    )


def counts(table: pd.DataFrame) -> dict[str, int]:
    """Return the number of cells for each reason, every reason named."""
    found = table["reason"].value_counts()
    return {reason: int(found.get(reason, 0)) for reason in REASONS}
