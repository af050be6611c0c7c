"""Which found nucleus belongs to which cell of a bundle, whose counts are kept by cell."""

import numpy as np
import shapely

from shest.tissue.alignment import partners

NEAR_UM = 3.0
TIES = ("inside", "near", "shared", "none")
INSIDE, NEAR, SHARED, NONE = range(4)


def tie(cells: np.ndarray, found: np.ndarray, mpp: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Give each cell a found nucleus, and each found nucleus to one cell at most.

    A cell takes the found nucleus whose outline holds the centroid of its own; where several cells would take one, the
    nearest does. Of the cells and nuclei that are left, those are tied that are each other's nearest within 3 µm.

    Parameters
    ----------
    cells
        (n,) polygons: the nuclei of the bundle's cells, H&E px.
    found
        (m,) polygons, H&E px.
    mpp
        µm per px along x and y.

    Returns
    -------
    partner : (n,) int64, position in ``found``, −1 for none
    how : (n,) uint8, position in :data:`TIES`; ``shared``: its centroid lies in a nucleus that another cell took
    """
    partner, how = np.full(len(cells), -1, np.int64), np.full(len(cells), NONE, np.uint8)
    if not len(cells) or not len(found):
        return partner, how
    centres = [shapely.get_coordinates(shapely.centroid(shapes)) for shapes in (cells, found)]
    cell, nucleus = shapely.STRtree(found).query(shapely.points(centres[0]), predicate="within")
    away = np.linalg.norm((centres[0][cell] - centres[1][nucleus]) * mpp, axis=1)
    free = np.ones(len(found), dtype=bool)
    for k in np.lexsort((nucleus, cell, away)):
        if free[nucleus[k]] and partner[cell[k]] < 0:
            partner[cell[k]], how[cell[k]], free[nucleus[k]] = nucleus[k], INSIDE, False
    how[cell[partner[cell] < 0]] = SHARED
    left, others = np.flatnonzero(how == NONE), np.flatnonzero(free)
    mutual, there = partners(centres[0][left] * mpp, centres[1][others] * mpp, NEAR_UM)
    partner[left[mutual]], how[left[mutual]] = others[there], NEAR
    return partner, how


def counts(how: np.ndarray) -> dict[str, int]:
    """Return the number of cells for each kind of tie, every kind named."""
    return {name: int((how == k).sum()) for k, name in enumerate(TIES)}
