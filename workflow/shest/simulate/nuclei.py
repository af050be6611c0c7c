"""The cells of a slide: where they lie, of which type, and the outline and look of each nucleus."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from shest.simulate.profiles import OTHER, SUBTYPES, TYPES
from shest.simulate.tissue import Tissue, hex_grid

PARAMETERS = 72
"""Angles at which an outline's relief is kept; every third is a vertex of the nucleus polygon."""
MARGIN = 13.0
"""µm between a natural nucleus and the image border, so that its window is inside."""


@dataclass(frozen=True)
class Look:
    """Typical nucleus of one kind of cell.

    ``a``, ``b``: semi-axes in µm · ``spread``: deviation of the log axes · ``rough``: relief of the outline ·
    ``haem``: haematoxylin concentration · ``clear``: how much paler the middle is (vesicular) · ``clump``: chromatin
    contrast · ``nucleoli``: mean number · ``notch``: depth of an indentation · ``bend``: curvature of a spindle.
    """

    a: float
    b: float
    spread: float
    rough: float
    haem: float
    clear: float
    clump: float
    nucleoli: float = 0.0
    notch: float = 0.0
    bend: float = 0.0


LOOKS = {
    "alveolar_flat": Look(3.9, 1.7, 0.10, 0.03, 0.86, 0.10, 0.18),
    "alveolar_cuboid": Look(3.5, 3.0, 0.08, 0.03, 0.66, 0.25, 0.20, 0.5),
    "tumour": Look(5.2, 4.2, 0.14, 0.06, 0.62, 0.46, 0.26, 1.5),
    "macrophage": Look(3.9, 3.1, 0.09, 0.03, 0.62, 0.22, 0.20, 0.4, notch=0.30),
    "endothelial": Look(4.9, 1.5, 0.10, 0.02, 0.92, 0.08, 0.14, bend=0.02),
    "fibroblast": Look(5.8, 1.75, 0.10, 0.03, 0.70, 0.12, 0.18, 0.2, bend=0.014),
    "lymphocyte": Look(2.95, 2.65, 0.06, 0.02, 1.06, 0.08, 0.28),
    "mast": Look(3.1, 2.7, 0.07, 0.03, 0.78, 0.10, 0.20),
    "neutrophil": Look(3.0, 2.6, 0.07, 0.16, 1.05, 0.05, 0.15),
}
KIND = {
    "alveolar_flat": "Alveolar_cell",
    "alveolar_cuboid": "Alveolar_cell",
    "tumour": "Tumor_cell_LUAD",
    "macrophage": "Macrophage",
    "endothelial": "Endothelial_cell",
    "fibroblast": "Fibroblast",
    "lymphocyte": "Lymphocyte",
    "mast": OTHER,
    "neutrophil": OTHER,
}
LINKED_SUBTYPE = {"alveolar_flat": "Alveolar cell type 1", "alveolar_cuboid": "Alveolar cell type 2"}
FIXED_SUBTYPE = {"mast": "Mast cell", "neutrophil": "Neutrophils"}


class Room:
    """Which places of the section are taken, on a grid of 0.5 µm."""

    def __init__(self, height: float, width: float) -> None:
        self.step = 0.5
        self.taken = np.zeros((int(height / self.step) + 120, int(width / self.step) + 120), bool)

    def claim(self, x: float, y: float, a: float, b: float, angle: float, gap: float) -> bool:
        """Take the ellipse at x, y (µm) with ``gap`` around it, unless any of it is taken; say whether it was free."""
        reach = int((max(a, b) + gap) / self.step) + 1
        column, row = int(x / self.step) + 60, int(y / self.step) + 60
        if min(row, column) < reach or row + reach >= self.taken.shape[0] or column + reach >= self.taken.shape[1]:
            return False
        d = np.arange(-reach, reach + 1) * self.step
        p = d[None, :] * np.cos(angle) + d[:, None] * np.sin(angle)
        q = -d[None, :] * np.sin(angle) + d[:, None] * np.cos(angle)
        view = self.taken[row - reach : row + reach + 1, column - reach : column + reach + 1]
        if (view & ((p / (a + gap)) ** 2 + (q / (b + gap)) ** 2 < 1)).any():
            return False
        view |= (p / (a + 0.2)) ** 2 + (q / (b + 0.2)) ** 2 < 1
        return True


def populate(tissue: Tissue, difficulty: float, link: float, rng: np.random.Generator) -> pd.DataFrame:
    """Fill the tissue with cells.

    Returns
    -------
    One row a cell: x, y (µm of the H&E), variant (a key of ``LOOKS``), cell_type, subtype, z_size and z_stain (the
    standard normal draws that size and stain follow within the type), and what :func:`outline` and the renderer
    need: a, b, angle, bend, rough, notch, haem, clear, clump, nucleoli, seed.
    """
    room = Room(tissue.height, tissue.width)
    parts: list[pd.DataFrame] = []
    for place in (_endothelium, _lymphocytes, _tumour, _septa, _stroma, _air_spaces):
        candidates = place(tissue, rng)
        parts.append(_settle(candidates, room, tissue, difficulty, rng))
    cells = pd.concat(parts, ignore_index=True)
    cells["cell_type"] = cells.variant.map(KIND)
    cells["subtype"] = draw_subtypes(cells.variant.to_numpy(), link, rng)
    return cells


def draw_subtypes(variant: np.ndarray, link: float, rng: np.random.Generator) -> np.ndarray:
    """Draw each cell's subtype within its type; with the probability ``link`` an alveolar cell's follows its shape."""
    subtypes = np.empty(len(variant), object)
    for kind, shares in SUBTYPES.items():
        rows = np.flatnonzero([KIND[v] == kind for v in variant])
        p = np.array(list(shares.values()))
        subtypes[rows] = rng.choice(np.array(list(shares), object), size=len(rows), p=p / p.sum())
    follows = rng.random(len(variant)) < min(link, 1.0)
    for row, name in enumerate(variant):
        if name in FIXED_SUBTYPE:
            subtypes[row] = FIXED_SUBTYPE[name]
        elif follows[row] and name in LINKED_SUBTYPE:
            subtypes[row] = LINKED_SUBTYPE[name]
    return subtypes


def draw_looks(variant: np.ndarray, difficulty: float, rng: np.random.Generator) -> pd.DataFrame:
    """Draw shape and stain for cells of the given variants; difficulty pulls every kind towards the average nucleus."""
    columns = ("a", "b", "spread", "rough", "haem", "clear", "clump", "nucleoli", "notch", "bend")
    typical = {v: np.array([getattr(look, c) for c in columns]) for v, look in LOOKS.items()}
    mean = np.mean(list(typical.values()), axis=0)
    looks = np.array([t * (1 - 0.6 * difficulty) + mean * 0.6 * difficulty for t in (typical[v] for v in variant)])
    looks = pd.DataFrame(looks.reshape(-1, len(columns)), columns=list(columns))
    n = len(looks)
    looks["z_size"], looks["z_stain"] = rng.normal(size=(2, n)).clip(-2.2, 2.2)
    stretch = rng.normal(0, 0.06, n)
    factor = np.exp(looks.spread * looks.z_size)
    looks["a"] = (looks.a * factor * np.exp(stretch)).clip(1.6, 7.0)
    looks["b"] = (looks.b * factor * np.exp(-stretch)).clip(1.3, 6.6)
    looks["haem"] *= np.exp(0.12 * looks.z_stain)
    looks["bend"] *= rng.normal(0, 1, n)
    looks["clear"] *= rng.uniform(0.4, 1.4, n)
    looks["clump"] *= rng.uniform(0.6, 1.4, n)
    looks["nucleoli"] = rng.poisson(looks.nucleoli).clip(0, 3)
    looks["seed"] = rng.integers(0, 2**31, n)
    return looks.drop(columns="spread")


def relief(cells: pd.DataFrame) -> np.ndarray:
    """Return the outlines' relief (n, PARAMETERS): the factor on the ellipse at each parameter angle."""
    t = np.arange(PARAMETERS) * 2 * np.pi / PARAMETERS
    out = np.ones((len(cells), PARAMETERS), np.float32)
    for row, (rough, notch, seed) in enumerate(zip(cells.rough, cells.notch, cells.seed, strict=True)):
        rng = np.random.default_rng(seed)
        phase = rng.uniform(0, 2 * np.pi, 4)
        height = rng.normal(0, 1, 4) * rough / np.array([1.0, 1.2, 1.8, 2.6])
        for k in range(4):
            out[row] += height[k] * np.cos((k + 2) * t + phase[k])
        if notch > 0:
            away = np.angle(np.exp(1j * (t - rng.uniform(0, 2 * np.pi))))
            out[row] -= notch * rng.uniform(0.3, 1.0) * np.exp(-((away / 0.55) ** 2))
    return out.clip(0.55, 1.35)


def outline(cells: pd.DataFrame, reliefs: np.ndarray, every: int = 3) -> np.ndarray:
    """Return the nuclei's outlines (n, PARAMETERS / every, 2): x, y in µm, counterclockwise in the parameter."""
    t = (np.arange(PARAMETERS) * 2 * np.pi / PARAMETERS)[::every]
    factor = reliefs[:, ::every]
    p = cells.a.to_numpy()[:, None] * factor * np.cos(t)
    q = cells.b.to_numpy()[:, None] * factor * np.sin(t) + cells.bend.to_numpy()[:, None] * p**2
    c, s = np.cos(cells.angle.to_numpy())[:, None], np.sin(cells.angle.to_numpy())[:, None]
    return np.stack([cells.x.to_numpy()[:, None] + p * c - q * s, cells.y.to_numpy()[:, None] + p * s + q * c], axis=-1)


def _settle(
    candidates: pd.DataFrame, room: Room, tissue: Tissue, difficulty: float, rng: np.random.Generator
) -> pd.DataFrame:
    """Give candidates (x, y, variant, angle, gap) their looks, and keep those that find room."""
    candidates = candidates.sample(frac=1, random_state=rng).reset_index(drop=True)
    candidates = pd.concat([candidates, draw_looks(candidates.variant.to_numpy(), difficulty, rng)], axis=1)
    inside = candidates.x.between(MARGIN, tissue.width - MARGIN) & candidates.y.between(MARGIN, tissue.height - MARGIN)
    on_tissue = tissue.at("tissue", candidates.x.to_numpy(), candidates.y.to_numpy()) > 7
    candidates = candidates[inside & on_tissue]
    kept = [room.claim(*values) for values in candidates[["x", "y", "a", "b", "angle", "gap"]].itertuples(index=False)]
    return candidates[np.array(kept, bool)].drop(columns="gap")


def _candidates(x: np.ndarray, y: np.ndarray, variant: np.ndarray | str, angle: np.ndarray, gap: float) -> pd.DataFrame:
    return pd.DataFrame({"x": x, "y": y, "variant": variant, "angle": angle, "gap": gap})


def _points(tissue: Tissue, spacing: float, jitter: float, rng: np.random.Generator) -> np.ndarray:
    points = hex_grid(tissue.height, tissue.width, spacing, jitter, rng)
    inside = (points > 1).all(axis=1) & (points[:, 0] < tissue.width - 1) & (points[:, 1] < tissue.height - 1)
    return points[inside]


def _any_angle(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0, np.pi, n)


def _endothelium(tissue: Tissue, rng: np.random.Generator) -> pd.DataFrame:
    """Flat nuclei along the lumen of each vessel."""
    rows = []
    for v in tissue.vessels:
        number = max(3, int(2 * np.pi * np.sqrt((v.a**2 + v.b**2) / 2) / 11.5))
        t = (np.arange(number) + rng.uniform(0, 1) + rng.normal(0, 0.12, number)) * 2 * np.pi / number
        p, q = (v.a + 0.8) * np.cos(t), (v.b + 0.8) * np.sin(t)
        tangent = np.arctan2(v.b * np.cos(t), -v.a * np.sin(t))
        x = v.x + p * np.cos(v.angle) - q * np.sin(v.angle)
        y = v.y + p * np.sin(v.angle) + q * np.cos(v.angle)
        rows.append(_candidates(x, y, "endothelial", tangent + v.angle, 0.3))
    return pd.concat(rows, ignore_index=True)


def _lymphocytes(tissue: Tissue, rng: np.random.Generator) -> pd.DataFrame:
    """Tightly packed nuclei in the aggregates."""
    x, y = np.concatenate([_points(tissue, 6.0, 0.12, rng) for _ in range(2)]).T
    here = tissue.at("lymphoid", x, y) > rng.uniform(-2, 5, len(x))
    x, y = x[here], y[here]
    return _candidates(x, y, "lymphocyte", _any_angle(len(x), rng), 0.05)


def _tumour(tissue: Tissue, rng: np.random.Generator) -> pd.DataFrame:
    """Nuclei of the nests, with a few lymphocytes between them."""
    x, y = np.concatenate([_points(tissue, 10.6, 0.12, rng) for _ in range(2)]).T
    here = (tissue.at("nest", x, y) > 4.5) & (tissue.at("gland", x, y) < -4.5)
    x, y = x[here], y[here]
    variant = np.where(rng.random(len(x)) < 0.06, "lymphocyte", "tumour")
    return _candidates(x, y, variant, _any_angle(len(x), rng), 0.8)


def _septa(tissue: Tissue, rng: np.random.Generator) -> pd.DataFrame:
    """Alveolar and capillary nuclei along the septa."""
    x, y = _points(tissue, 6.6, 0.2, rng).T
    here = tissue.at("wall", x, y) > -0.6
    x, y = x[here], y[here]
    variant = rng.choice(
        ["alveolar_flat", "alveolar_cuboid", "endothelial", "fibroblast", "lymphocyte", "neutrophil"],
        size=len(x),
        p=[0.30, 0.42, 0.19, 0.04, 0.04, 0.01],
    )
    return _candidates(x, y, variant, tissue.at("wall_angle", x, y) + rng.normal(0, 0.12, len(x)), 1.1)


def _stroma(tissue: Tissue, rng: np.random.Generator) -> pd.DataFrame:
    """Spindle nuclei along the fibres, and the cells that wander between them."""
    x, y = _points(tissue, 11.5, 0.25, rng).T
    here = tissue.stroma()[y.astype(int), x.astype(int)]
    x, y = x[here], y[here]
    variant = rng.choice(
        ["fibroblast", "lymphocyte", "macrophage", "mast", "neutrophil"], size=len(x), p=[0.74, 0.13, 0.06, 0.05, 0.02]
    )
    along = tissue.at("fibre_angle", x, y) + rng.normal(0, 0.18, len(x))
    return _candidates(x, y, variant, np.where(variant == "fibroblast", along, _any_angle(len(x), rng)), 0.6)


def _air_spaces(tissue: Tissue, rng: np.random.Generator) -> pd.DataFrame:
    """Macrophages that float in the alveoli, in loose groups."""
    x, y = _points(tissue, 17.5, 0.18, rng).T
    here = (tissue.at("air", x, y) > 8.5) & (rng.random(len(x)) < 0.62)
    x, y = x[here], y[here]
    return _candidates(x, y, "macrophage", _any_angle(len(x), rng), 5.2)


def shares(cells: pd.DataFrame) -> dict[str, int]:
    """Return the number of cells of each type."""
    counts = cells.cell_type.value_counts()
    return {kind: int(counts.get(kind, 0)) for kind in (*TYPES, OTHER)}
