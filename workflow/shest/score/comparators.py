"""Other systems' labels beside this one's: matched to cells by position, scored in the same way."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from shest.io import detections
from shest.score.evaluate import score_types


def match(cells: np.ndarray, found: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Pair points of two sets one to one, by ascending distance.

    The closest pair of all is joined first, then the closest of those that are left, and so on up to the radius. No
    two points remain that lie nearer to each other than either lies to its partner (a point without one counts as
    infinitely far). Equal distances are taken in the order of the coordinates, so that the order of the points does
    not matter.

    Parameters
    ----------
    cells, found
        (n, 2) and (m, 2), in one unit.
    radius
        Largest distance of a pair.

    Returns
    -------
    Positions in ``cells``, ascending, and of their partners in ``found``: (k,) and (k,) int64.
    """
    if not len(cells) or not len(found):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    reach = radius * (1 + 1e-9)  # the tree rounds otherwise than the distances below
    near = cKDTree(cells).sparse_distance_matrix(cKDTree(found), reach, output_type="ndarray")
    i, j = near["i"].astype(np.int64), near["j"].astype(np.int64)
    distance = np.hypot(*(cells[i] - found[j]).T)
    order = np.lexsort((found[j, 1], found[j, 0], cells[i, 1], cells[i, 0], distance))
    order = order[distance[order] <= radius]
    partner, taken = np.full(len(cells), -1, np.int64), np.zeros(len(found), bool)
    for a, b in zip(i[order].tolist(), j[order].tolist(), strict=True):
        if partner[a] < 0 and not taken[b]:
            partner[a], taken[b] = b, True
    matched = np.flatnonzero(partner >= 0)
    return matched, partner[matched]


def score(
    settings: Mapping[str, dict[str, Any]],
    pixel: np.ndarray,
    mpp: tuple[float, float],
    rows: np.ndarray,
    actual: np.ndarray,
    called: np.ndarray,
    types: list[str],
) -> dict[str, dict]:
    """Score every comparator that has a file for the sample.

    Parameters
    ----------
    settings
        By name: ``path``, ``format``, ``scale``, ``types`` (class to type or None), ``radius_um``.
    pixel
        (n, 2) places of all kept cells, H&E px: a cell that is not scored keeps its partner from its neighbours.
    mpp
        µm per H&E px along x and y.
    rows
        (k,) int, the cells that are scored.
    actual, called
        (k,) their actual types, and those that this project's heads say.
    types
        All types of the config.

    Returns
    -------
    dict
        By name, what :func:`score_one` returns.
    """
    return {name: score_one(name, one, pixel, mpp, rows, actual, called, types) for name, one in settings.items()}


def score_one(name, one, pixel, mpp, rows, actual, called, types) -> dict:
    """Score one comparator.

    Returns
    -------
    dict
        ``n_objects`` in its file and ``counts`` of them by type (objects of ignored classes are in the first alone);
        ``n_matched`` scored cells that have a partner of a type, and their share of the scored cells
        (``share_matched``); ``radius_um``; over the matched: ``f1``, ``balanced_accuracy`` and ``confusion`` of the
        comparator, and the same of this project's heads (``ours``). Scores are None where nothing matched.
    """
    table = detections.read(one["path"], one["format"], one["scale"])
    kind = detections.map_types(one["path"], table["class"], one["types"], f"evaluate.comparators.{name}.types")
    cell, partner = match(pixel * mpp, table[["x", "y"]].to_numpy() * mpp, one["radius_um"])
    said = np.full(len(pixel), None, dtype=object)
    said[cell] = kind[partner]
    said = said[rows]
    there = np.array([value is not None for value in said], dtype=bool)
    scores = {"f1": None, "balanced_accuracy": None, "confusion": None, "ours": None}
    if there.any():
        scores = score_types(actual[there], said[there].astype(str), types)
        scores["ours"] = score_types(actual[there], called[there], types)
    return {
        "n_objects": len(table),
        "n_matched": int(there.sum()),
        "share_matched": float(there.mean()) if len(there) else 0.0,
        "radius_um": one["radius_um"],
        "counts": {name: int((kind == name).sum()) for name in types},
        **scores,
    }
