"""Other systems' labels beside this one's: matched to cells by position, scored in the same way."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from shest.io import detections
from shest.score import typed_nuclei
from shest.score.evaluate import score_types
from shest.score.evaluation import Matched


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
    label: np.ndarray,
    predicted: np.ndarray,
    types: list[str],
    whole: bool = True,
) -> tuple[dict[str, Matched], pd.DataFrame]:
    """Score every comparator that has a file for the sample.

    Returns the scores by name, and the types that each gives to the cells that are scored (k × comparators), None
    where it gives none.

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
    label, predicted
        (k,) their types, and those that the system predicts.
    types
        All types of the config.
    whole
        Whether the scored cells are all that have a label: only then can a nucleus that none of them answers be called
        found where there is none.
    """
    places = pixel * mpp
    named = pd.DataFrame(index=range(len(rows)))
    found = {}
    for name, entry in settings.items():
        found[name], named[name] = _score(name, entry, places, mpp, rows, label, predicted, types, whole)
    return found, named


def _score(name, entry, places, mpp, rows, label, predicted, types, whole) -> tuple[Matched, np.ndarray]:
    """Score one comparator; ``places``: of all kept cells, µm. Returns its types of the scored cells too.

    Of finding nuclei: what lies at a kept cell without a label, which nobody can judge, counts for nothing.
    """
    table = detections.read(entry["path"], entry["format"], entry["scale"])
    kinds = detections.map_types(entry["path"], table["class"], entry["types"], f"evaluate.comparators.{name}.types")
    cell, partner = match(places, table[["x", "y"]].to_numpy() * mpp, entry["radius_um"])
    named = np.full(len(places), None, dtype=object)
    named[cell] = kinds[partner]
    named = named[rows]
    matched = np.array([value is not None for value in named], dtype=bool)
    found = Matched(
        n_objects=len(table),
        n_matched=int(matched.sum()),
        share_matched=float(matched.mean()) if len(matched) else 0.0,
        radius_um=entry["radius_um"],
        counts={name: int((kinds == name).sum()) for name in types},
        nameable=[name for name in types if name in entry["types"].values()],
    )
    if whole:
        has = np.isin(rows, cell)
        extra = np.delete(kinds, partner)
        called = np.array(["" if value is None else value for value in named[has]], dtype=object)
        weights = entry.get("weights", typed_nuclei.HOVERNET)
        found.detection = typed_nuclei.score(label[has], called, label[~has], extra, types, weights)
    if matched.any():
        found.scores = score_types(label[matched], named[matched].astype(str), types)
        found.system = score_types(label[matched], predicted[matched], types)
    return found, named
