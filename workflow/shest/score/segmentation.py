"""Scores of a segmentation against a reference: nuclei found, area covered, outlines alike.

Where the reference is a Xenium bundle's own, which was segmented on DAPI, they are an *agreement with DAPI nuclei*: the
two stains do not show the same nuclei in the same section, and neither is the truth.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import shapely
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching
from scipy.spatial import cKDTree
from skimage.draw import polygon

from shest.tissue.overlaps import IOU, Overlaps, quality

RADII_UM = (3.0, 5.0)
BLOCK_PX = 2048  # side of the squares that outlines are drawn in


def pair(reference: np.ndarray, found: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Pair points one to one: as many pairs as there can be within ``radius``, and of such the least sum of distances.

    Parameters
    ----------
    reference, found
        (n, 2) and (m, 2), in one unit.
    radius
        Largest distance of a pair.

    Returns
    -------
    Positions in ``reference``, ascending, and of their partners in ``found``: (k,) and (k,) int64.
    """
    if not len(reference) or not len(found):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    near = cKDTree(reference).sparse_distance_matrix(cKDTree(found), radius, output_type="coo_matrix")
    row, column, distance = near.row.astype(np.int64), near.col.astype(np.int64), near.data
    nodes = len(reference) + len(found)
    graph = coo_matrix((np.ones(len(row), np.int8), (row, column + len(reference))), shape=(nodes, nodes))
    group = connected_components(graph, directed=False)[1][row]
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    rows, columns = [], []
    for edges in np.split(order, cuts) if len(order) else []:
        i, j = (
            _assign(row[edges], column[edges], distance[edges], radius)
            if len(edges) > 1
            else (row[edges], column[edges])
        )
        rows.append(i)
        columns.append(j)
    if not rows:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    order = np.argsort(rows)
    return rows[order], columns[order]


def _assign(row: np.ndarray, column: np.ndarray, distance: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Pair the points of one group; a stand-in of its own lets each row stay alone, at more than all pairs can cost."""
    rows, i = np.unique(row, return_inverse=True)
    columns, j = np.unique(column, return_inverse=True)
    n, m = len(rows), len(columns)
    alone = (radius + 1) * (n + 1)
    cost = np.concatenate([distance + 1, np.full(n, alone)])  # + 1: a stored zero would be no edge
    edges = (np.concatenate([i, np.arange(n)]), np.concatenate([j, m + np.arange(n)]))
    i, j = min_weight_full_bipartite_matching(csr_matrix((cost, edges), shape=(n, m + n)))
    real = j < m
    return rows[i[real]], columns[j[real]]


def overlaps_of_outlines(reference: np.ndarray, found: np.ndarray, region: shapely.Geometry | None = None) -> Overlaps:
    """Compare two sets of outlines, drawn square by square: memory does not grow with the slide.

    A pixel that several outlines of one set cover belongs to the last of them.

    Parameters
    ----------
    reference, found
        (n,), (m,) shapely polygons in px, pixel centres at integers.
    region
        What is compared; pixels outside of it count for nothing. By default everything.
    """
    sets = [np.asarray(outlines, dtype=object) for outlines in (reference, found)]
    areas = [np.zeros(len(outlines), np.int64) for outlines in sets]
    i, j, shared = [], [], []
    trees = [shapely.STRtree(outlines) for outlines in sets]
    whole = None if region is None else shapely.STRtree(shapely.get_parts(region))
    for box in _squares(sets, region):
        maps = [_draw(tree, box) for tree in trees]
        if whole is not None and not shapely.contains_properly(region, shapely.box(*box)):
            outside = _draw(whole, box) == 0
            for drawn in maps:
                drawn[outside] = 0
        a, b = (drawn.ravel().astype(np.int64) for drawn in maps)
        for area, drawn in zip(areas, (a, b), strict=True):
            area += np.bincount(drawn, minlength=len(area) + 1)[1:]
        both = (a > 0) & (b > 0)
        pairs, count = np.unique((a[both] - 1) * len(sets[1]) + b[both] - 1, return_counts=True)
        i.append(pairs // max(len(sets[1]), 1))
        j.append(pairs % max(len(sets[1]), 1))
        shared.append(count)
    if not i:
        return Overlaps(*areas, *(np.empty(0, np.int64) for _ in range(3)))
    keys = np.concatenate(i) * max(len(sets[1]), 1) + np.concatenate(j)
    unique, place = np.unique(keys, return_inverse=True)
    total = np.bincount(place, np.concatenate(shared), minlength=len(unique)).astype(np.int64)
    return Overlaps(*areas, unique // max(len(sets[1]), 1), unique % max(len(sets[1]), 1), total)


def _squares(sets: list[np.ndarray], region: shapely.Geometry | None) -> Iterator[tuple[int, int, int, int]]:
    """Yield the squares (left, top, right, bottom: px, the last ones not of it) that hold outlines of either set."""
    bounds = [shapely.bounds(outlines) for outlines in sets if len(outlines)]
    bounds += [shapely.bounds(region)[None]] if region is not None and not bounds else []
    if not bounds:
        return
    bounds = np.concatenate(bounds)
    first = np.floor(bounds[:, :2] / BLOCK_PX).astype(int)
    last = np.floor(bounds[:, 2:] / BLOCK_PX).astype(int)
    held = {
        (x, y)
        for (x0, y0), (x1, y1) in zip(first.tolist(), last.tolist(), strict=True)
        for x in range(x0, x1 + 1)
        for y in range(y0, y1 + 1)
    }
    for x, y in sorted(held):
        yield x * BLOCK_PX, y * BLOCK_PX, (x + 1) * BLOCK_PX, (y + 1) * BLOCK_PX


def _draw(tree: shapely.STRtree, box: tuple[int, int, int, int]) -> np.ndarray:
    """Draw the outlines of a tree into a square: int32, 0 for none, else the position of the outline + 1."""
    left, top, right, bottom = box
    drawn = np.zeros((bottom - top, right - left), np.int32)
    for k in np.sort(tree.query(shapely.box(left - 1, top - 1, right, bottom))):
        xy = shapely.get_coordinates(shapely.get_exterior_ring(tree.geometries[k]))
        drawn[polygon(xy[:, 1] - top, xy[:, 0] - left, drawn.shape)] = k + 1
    return drawn


def dice(overlaps: Overlaps) -> float | None:
    """Return twice the shared area over the sum of both areas; None where there are none."""
    total = overlaps.reference.sum() + overlaps.found.sum()
    return float(2 * overlaps.shared.sum() / total) if total else None


def jaccard(overlaps: Overlaps) -> float | None:
    """Return the shared area over the united one; None where there is none."""
    united = overlaps.reference.sum() + overlaps.found.sum() - overlaps.shared.sum()
    return float(overlaps.shared.sum() / united) if united else None


def aji(overlaps: Overlaps) -> float | None:
    """Return the aggregated Jaccard index (Kumar et al. 2017, algorithm 1); None where there are no nuclei.

    Each nucleus of the reference takes the found one of largest IoU, of equal ones the first; one found nucleus may be
    taken by several. Shared areas are summed over united ones, to which found nuclei that nobody took are added.
    """
    order = np.lexsort((overlaps.j, -overlaps.iou, overlaps.i))
    _, first = np.unique(overlaps.i[order], return_index=True)
    best = order[first]
    shared = overlaps.shared[best].sum()
    united = overlaps.reference.sum() + overlaps.found[overlaps.j[best]].sum() - shared
    left = np.ones(len(overlaps.found), dtype=bool)
    left[overlaps.j[best]] = False
    united += overlaps.found[left].sum()
    return float(shared / united) if united else None


def detection(reference: np.ndarray, found: np.ndarray, radius: float) -> dict[str, float | int | None]:
    """Return precision, recall and F1 of centroids (n, 2), (m, 2) paired within a radius of the same unit."""
    pairs = len(pair(reference, found, radius)[0])
    n, m = len(reference), len(found)
    return {
        "pairs": pairs,
        "precision": pairs / m if m else None,
        "recall": pairs / n if n else None,
        "f1": 2 * pairs / (n + m) if n + m else None,
    }


def counts_by_block(reference: np.ndarray, found: np.ndarray, block: float) -> pd.DataFrame:
    """Count centroids, (n, 2) and (m, 2), in squares of side ``block``: row, column, reference, found, ratio.

    Squares without a nucleus of either are left out; ``ratio`` (found over reference) is NaN where the reference has
    none.
    """
    parts = [
        pd.DataFrame(np.floor(xy[:, ::-1] / block).astype(int), columns=["row", "column"]).assign(of=name)
        for xy, name in ((reference, "reference"), (found, "found"))
    ]
    table = pd.concat(parts).groupby(["row", "column"])["of"].value_counts().unstack(fill_value=0)
    table = table.reindex(columns=["reference", "found"], fill_value=0).rename_axis(columns=None).reset_index()
    return table.assign(ratio=table["found"] / table["reference"].where(table["reference"] > 0))


def hull(outlines: np.ndarray) -> shapely.Geometry:
    """Return the part of an image in which a measurement could have nuclei: the hull of their centroids."""
    return shapely.convex_hull(shapely.multipoints(shapely.get_coordinates(shapely.centroid(outlines))))


def inside(outlines: np.ndarray, region: shapely.Geometry | None) -> np.ndarray:
    """Tell which outlines have their centroid in a region, bool (n,)."""
    if region is None:
        return np.ones(len(outlines), dtype=bool)
    shapely.prepare(region)
    return shapely.contains(region, shapely.centroid(outlines))


def score(
    reference: np.ndarray,
    found: np.ndarray,
    mpp: tuple[float, float],
    region: shapely.Geometry | None = None,
    block_um: float = 250.0,
) -> dict:
    """Score outlines against outlines.

    Parameters
    ----------
    reference, found
        (n,), (m,) shapely polygons, px.
    mpp
        µm per px along x and y.
    region
        What is compared, px: nuclei by their centroid, areas by pixel. By default everything.
    block_um
        Side of the squares that nuclei are counted in.

    Returns
    -------
    ``reference``, ``found`` (numbers of nuclei), ``detection`` (by radius in µm), ``dice``, ``jaccard``, ``aji``,
    ``iou_0.5`` (f1, mean_iou, pq) and ``count_ratio`` (found over reference: of all; p10, p50 and p90 over blocks).
    """
    sets = [np.asarray(outlines, dtype=object) for outlines in (reference, found)]
    overlaps = overlaps_of_outlines(*sets, region)
    places = [
        shapely.get_coordinates(shapely.centroid(outlines[inside(outlines, region)])).reshape(-1, 2) * mpp
        for outlines in sets
    ]
    n, m = map(len, places)
    ratio = counts_by_block(*places, block_um)["ratio"].dropna()
    spread = {f"p{q}": float(np.percentile(ratio, q)) if len(ratio) else None for q in (10, 50, 90)}
    return {
        "reference": n,
        "found": m,
        "detection": {f"{radius:g}": detection(*places, radius) for radius in RADII_UM},
        "dice": dice(overlaps),
        "jaccard": jaccard(overlaps),
        "aji": aji(overlaps),
        f"iou_{IOU:g}": quality(overlaps),
        "count_ratio": {"all": m / n if n else None, "blocks": len(ratio), **spread},
    }
