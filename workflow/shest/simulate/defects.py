"""Planted defects: what a real bundle holds besides good cells, each at a place where it means one thing only."""

import numpy as np
import pandas as pd

from shest.core.errors import InputError
from shest.simulate.nuclei import draw_looks, draw_subtypes
from shest.simulate.profiles import TYPES
from shest.simulate.tissue import Tissue

VARIANT_OF = {
    "Alveolar_cell": "alveolar_cuboid",
    "Tumor_cell_LUAD": "tumour",
    "Macrophage": "macrophage",
    "Endothelial_cell": "endothelial",
    "Fibroblast": "fibroblast",
    "Lymphocyte": "lymphocyte",
}
REASON = {
    "": "kept",
    "no_counts": "kept",
    "two_nuclei": "kept",
    "no_nucleus": "no_nucleus",
    "too_small": "too_small",
    "too_large": "too_large",
    "outside_image": "outside_image",
    "window_off_image": "window_off_image",
    "bare_glass": "bare_glass",
}
"""Reason that the cell filter must give for each planted defect."""


def plant(
    cells: pd.DataFrame, tissue: Tissue, number: int, difficulty: float, link: float, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Plant ``number`` cells of each defect.

    Returns
    -------
    The cells with the further columns defect ("" for none), drawn (is in the picture) and has_nucleus (has an outline
    in the bundle), and the table of second nuclei, whose column ``owner`` is a row of the first.
    """
    cells = cells.assign(defect="", drawn=True, has_nucleus=True)
    cells = _large(cells, tissue, number, rng)
    inner = np.flatnonzero((cells.defect == "") & (cells.cell_type.isin(TYPES)))
    picked = rng.choice(inner, size=3 * number, replace=False)
    for defect, rows in zip(("no_counts", "no_nucleus", "too_small"), np.split(picked, 3), strict=True):
        cells.loc[rows, "defect"] = defect
    cells.loc[cells.defect == "no_nucleus", ["drawn", "has_nucleus"]] = False
    small = cells.defect == "too_small"
    cells.loc[small, ["a", "b", "rough", "notch", "bend", "nucleoli"]] = [0.75, 0.65, 0.0, 0.0, 0.0, 0]
    cells.loc[small, "z_size"] = 0.0
    cells, second = _second_nuclei(cells, number, rng)
    off = [_outside(tissue, number, rng), _at_border(tissue, number, rng), _on_glass(tissue, number, rng)]
    planted = pd.concat([_made_up(*places, difficulty, link, rng) for places in off], ignore_index=True)
    return pd.concat([cells, planted], ignore_index=True), second


def _large(cells: pd.DataFrame, tissue: Tissue, number: int, rng: np.random.Generator) -> pd.DataFrame:
    """Blow up some tumour nuclei beyond 16 µm and clear their surroundings."""
    depth = tissue.at("nest", cells.x.to_numpy(), cells.y.to_numpy())
    tumour = cells.variant.to_numpy() == "tumour"
    order = np.lexsort((rng.random(len(cells)), -np.minimum(depth, 12), ~tumour))
    xy = cells[["x", "y"]].to_numpy()
    chosen: list[int] = []
    for row in order:
        inside = 16 < xy[row, 0] < tissue.width - 16 and 16 < xy[row, 1] < tissue.height - 16
        if inside and all(np.hypot(*(xy[row] - xy[c])) > 26 for c in chosen):
            chosen.append(row)
        if len(chosen) == number:
            break
    if len(chosen) < number:
        raise InputError("simulate", f"no room for {number} giant nuclei", "Ask for more cells, or for fewer defects")
    cells.loc[chosen, "a"] = rng.uniform(9.3, 10.2, number)
    cells.loc[chosen, "b"] = rng.uniform(8.7, 9.2, number)
    cells.loc[chosen, ["rough", "notch", "bend", "z_size"]] = [0.015, 0.0, 0.0, 0.0]
    cells.loc[chosen, "defect"] = "too_large"
    near = np.min(np.linalg.norm(xy[:, None] - xy[None, chosen], axis=2), axis=1)
    crushed = (near < 11.5 + cells.a.to_numpy()) & (cells.defect.to_numpy() == "")
    return cells[~crushed].reset_index(drop=True)


def _second_nuclei(cells: pd.DataFrame, number: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give some cells a second, smaller nucleus beside the first where there is room for it."""
    xy, reach = cells[["x", "y"]].to_numpy(), cells.a.to_numpy()
    good = cells.variant.isin(["tumour", "macrophage", "alveolar_cuboid", "lymphocyte"]) & (cells.defect == "")
    rows, found = [], []
    for row in rng.permutation(np.flatnonzero(good)):
        a, b = 0.68 * cells.a[row], 0.68 * cells.b[row]
        for turn in rng.uniform(0, 2 * np.pi, 8):
            place = xy[row] + (reach[row] + a + 0.5) * np.array([np.cos(turn), np.sin(turn)])
            room = np.linalg.norm(xy - place, axis=1) - reach - a
            room[row] = 1.0
            if room.min() > 0.2 and all(np.hypot(*(place - f)) > 25 for f in found):
                rows.append(
                    cells.loc[row].to_dict()
                    | {
                        "owner": row,
                        "x": place[0],
                        "y": place[1],
                        "a": a,
                        "b": b,
                        "seed": int(rng.integers(2**31)),
                        "notch": 0.0,
                        "rough": 0.02,
                    }
                )
                found.append(place)
                break
        if len(rows) == number:
            break
    if len(rows) < number:
        raise InputError("simulate", f"no room for {number} second nuclei", "Ask for more cells, or for fewer defects")
    second = pd.DataFrame(rows)
    cells.loc[second.owner, "defect"] = "two_nuclei"
    return cells, second


def _outside(tissue: Tissue, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, str]:
    """Positions beyond the H&E, on any side."""
    along, beyond = rng.uniform(0.1, 0.9, number), rng.uniform(12, 30, number)
    side = np.arange(number) % 4
    x = np.choose(side, [-beyond, tissue.width + beyond, along * tissue.width, along * tissue.width])
    y = np.choose(side, [along * tissue.height, along * tissue.height, -beyond, tissue.height + beyond])
    return x, y, "outside_image"


def _at_border(tissue: Tissue, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, str]:
    """Positions on tissue so near to the image border that the nucleus is inside and its window is not."""
    right = np.arange(30, tissue.height - 20, 12.0)
    bottom = np.arange(30, tissue.width - 20, 12.0)
    x = np.concatenate([np.full(len(right), tissue.width - 6.5), bottom])
    y = np.concatenate([right, np.full(len(bottom), tissue.height - 6.5)])
    good = np.flatnonzero(tissue.at("tissue", x, y) > 9)
    if len(good) < number:
        raise InputError(
            "simulate", f"no room for {number} nuclei at the border", "Ask for more cells, or for fewer defects"
        )
    good = rng.choice(good, number, replace=False)
    return x[good], y[good], "window_off_image"


def _on_glass(tissue: Tissue, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, str]:
    """Positions on the bare glass around the section."""
    y, x = np.mgrid[11 : tissue.height - 11 : 7, 11 : tissue.width - 11 : 7].reshape(2, -1)
    good = np.flatnonzero(tissue.at("tissue", x, y) < -15)
    if len(good) < number:
        raise InputError("simulate", f"no room for {number} cells on glass", "Ask for more cells, or for fewer defects")
    good = rng.choice(good, number, replace=False)
    return x[good].astype(float), y[good].astype(float), "bare_glass"


def _made_up(
    x: np.ndarray, y: np.ndarray, defect: str, difficulty: float, link: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Cells of random types at given places; at the border lymphocytes, which are small enough."""
    at_border = defect == "window_off_image"
    kinds = np.full(len(x), "Lymphocyte") if at_border else rng.choice(list(TYPES), len(x))
    variant = np.array([VARIANT_OF[k] for k in kinds])
    cells = draw_looks(variant, difficulty, rng)
    cells = cells.assign(
        x=x,
        y=y,
        variant=variant,
        angle=rng.uniform(0, np.pi, len(x)),
        cell_type=kinds,
        subtype=draw_subtypes(variant, link, rng),
        defect=defect,
        drawn=at_border,
        has_nucleus=True,
    )
    cells["a"], cells["b"] = cells.a.clip(upper=3.2 if at_border else 7), cells.b.clip(upper=3.0 if at_border else 6.6)
    return cells
