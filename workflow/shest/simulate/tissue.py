"""The plan of a piece of lung with an adenocarcinoma: which compartment lies where, in µm of the H&E."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from shest.simulate.fields import signed_distance, smooth_noise, step

CELLS_PER_MM2 = 4500.0
"""Cells that the plan below yields, on average; sets the slide's area."""


@dataclass(frozen=True)
class Vessel:
    """A vessel in cross section: centre, semi-axes of the lumen, angle, thickness of the wall (µm, radians)."""

    x: float
    y: float
    a: float
    b: float
    angle: float
    wall: float


@dataclass(frozen=True)
class Tissue:
    """Fields on a grid of 1 µm, (height, width); distances in µm, positive inside.

    ``tissue``: not glass · ``air``: alveolar lumen · ``wall``: alveolar septum · ``nest``: tumour nest · ``gland``:
    lumen within a nest · ``lymphoid``: aggregate · ``vessel``: wall and lumen · ``lumen``: of vessels.
    ``along``, ``across``: coordinates along and across collagen fibres (µm). ``wall_angle``: direction of the septum.
    ``eosin``, ``haematoxylin``: slow gradients of the stains (factors); ``fold``: 1 where the section is doubled.
    """

    height: int
    width: int
    tissue: np.ndarray
    air: np.ndarray
    wall: np.ndarray
    nest: np.ndarray
    gland: np.ndarray
    lymphoid: np.ndarray
    vessel: np.ndarray
    lumen: np.ndarray
    along: np.ndarray
    across: np.ndarray
    fibre_angle: np.ndarray
    wall_angle: np.ndarray
    eosin: np.ndarray
    haematoxylin: np.ndarray
    fold: np.ndarray
    vessels: tuple[Vessel, ...]

    def stroma(self) -> np.ndarray:
        """Return where fibrous stroma lies (bool)."""
        other = (self.air > 0) | (self.wall > 0) | (self.nest > 0) | (self.lymphoid > 0) | (self.vessel > 0)
        return (self.tissue > 0) & ~other

    def at(self, name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Read a field at the nearest grid point of positions in µm."""
        row = np.clip(np.round(y).astype(int), 0, self.height - 1)
        column = np.clip(np.round(x).astype(int), 0, self.width - 1)
        return getattr(self, name)[row, column]


def plan(cells: int, rng: np.random.Generator) -> Tissue:
    """Lay out a slide large enough for ``cells`` cells.

    A slow field parts the section into air-filled lung, fibrous stroma and tumour; the lung is cut into alveoli and
    the tumour into nests by warped Voronoi cells; aggregates and vessels lie in the stroma between.
    """
    area = cells / CELLS_PER_MM2 * 1e6
    width = round(np.sqrt(area * 1.15))
    height = round(area / width)
    shape = (height, width)
    yy, xx = np.mgrid[:height, :width].astype(np.float32)
    tissue = _outline(xx, yy, rng)
    region = smooth_noise(shape, min(150.0, min(shape) / 2.6), rng) + 0.12 * smooth_noise(shape, 30, rng)
    low, high = np.quantile(region[tissue > 0], [0.36, 0.58])
    lung, tumour = region < low, region > high
    between = ~lung & ~tumour & (tissue > 25)

    vessels = _vessels(between, area, rng)
    wobble = 2.0 * smooth_noise(shape, 14, rng)
    vessel, lumen = _vessel_fields(vessels, xx, yy, wobble)
    lymphoid = _aggregates(between, vessel, area, xx, yy, rng)

    bisector, wall_angle = _voronoi(xx, yy, 82.0, rng)
    septum = 3.4 + 1.1 * smooth_noise(shape, 18, rng) - 12.0 * (smooth_noise(shape, 38, rng) > 1.75)
    in_lung = signed_distance(lung)
    wall = np.minimum(septum - bisector, in_lung)
    air = np.minimum(bisector - septum, in_lung - 3)

    bisector, _ = _voronoi(xx, yy, 120.0, rng)
    nest = np.minimum(bisector - 7.0 - 2.5 * smooth_noise(shape, 22, rng), signed_distance(tumour))
    gland = 9.0 * smooth_noise(shape, 34, rng) - 13.0 + np.minimum(nest - 26, 0)
    solid = np.minimum(-lymphoid, -vessel - 3)
    nest, air, wall = (np.minimum(field, solid) for field in (nest, air, wall))
    along, across, fibre_angle = _fibres(xx, yy, rng)
    return Tissue(
        height,
        width,
        tissue,
        air,
        wall,
        nest,
        np.minimum(gland, nest),
        lymphoid,
        vessel,
        lumen,
        along,
        across,
        fibre_angle,
        wall_angle,
        1 + 0.12 * smooth_noise(shape, 260, rng),
        1 + 0.06 * smooth_noise(shape, 220, rng),
        _fold(xx, yy, tissue, rng),
        tuple(vessels),
    )


def _outline(xx: np.ndarray, yy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Tissue runs off the image on two sides; the other two show its ragged edge and bare glass."""
    height, width = xx.shape
    side = min(height, width)
    edge = np.minimum(xx, yy) - 0.06 * side - 14
    corner = np.hypot(xx - width, yy - height) - 0.16 * side
    ragged = 0.012 * side * smooth_noise(xx.shape, side / 7, rng) + 2 * smooth_noise(xx.shape, 12, rng)
    return np.minimum(edge, corner) + ragged


def hex_grid(height: float, width: float, spacing: float, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Return jittered points (n, 2) as x, y of a hexagonal grid, in µm; ``jitter`` is a share of the spacing."""
    rows = np.arange(-spacing, height + spacing, spacing * np.sqrt(3) / 2)
    columns = np.arange(-spacing, width + spacing, spacing)
    x = columns[None, :] + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    points = np.stack([x.ravel(), np.repeat(rows, len(columns))], axis=1)
    return points + rng.normal(0, jitter * spacing, points.shape)


def _voronoi(xx: np.ndarray, yy: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return each point's distance to the nearest edge of a warped Voronoi diagram, and the edge's direction."""
    height, width = xx.shape
    seeds = hex_grid(height, width, spacing, 0.22, rng)
    warp = [9.0 * smooth_noise(xx.shape, 45, rng) for _ in range(2)]
    points = np.stack([xx + warp[0], yy + warp[1]], axis=-1).reshape(-1, 2)
    distance, index = cKDTree(seeds).query(points, k=2)
    between = seeds[index[:, 1]] - seeds[index[:, 0]]
    bisector = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * np.linalg.norm(between, axis=1))
    angle = np.arctan2(between[:, 1], between[:, 0]) + np.pi / 2
    return bisector.reshape(xx.shape).astype(np.float32), angle.reshape(xx.shape).astype(np.float32)


def _vessels(where: np.ndarray, area: float, rng: np.random.Generator) -> list[Vessel]:
    """Place a few large vessels and many capillaries apart from each other."""
    inner = np.argwhere(signed_distance(where) > 8)
    if not len(inner):
        inner = np.argwhere(where)
    placed: list[Vessel] = []
    wanted = max(2, round(area / 9e4))
    for number in range(4 * wanted):
        row, column = inner[rng.integers(len(inner))]
        large = number < wanted
        a = rng.uniform(15, 30) if large else rng.uniform(4.5, 8)
        vessel = Vessel(
            column, row, a, a * rng.uniform(0.55, 0.9), rng.uniform(0, np.pi), rng.uniform(4, 8) if large else 1.0
        )
        if all(np.hypot(v.x - column, v.y - row) > v.a + v.wall + a + vessel.wall + 6 for v in placed):
            placed.append(vessel)
    return placed


def _vessel_fields(
    vessels: list[Vessel], xx: np.ndarray, yy: np.ndarray, wobble: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances into any vessel, and into any lumen (approximate, by the ellipse's implicit equation)."""
    outer = np.full(xx.shape, -1e3, np.float32)
    lumen = np.full(xx.shape, -1e3, np.float32)
    for v in vessels:
        reach = int(v.a + v.wall + 40)
        box = np.s_[max(int(v.y) - reach, 0) : int(v.y) + reach, max(int(v.x) - reach, 0) : int(v.x) + reach]
        dx, dy = xx[box] - v.x, yy[box] - v.y
        p = dx * np.cos(v.angle) + dy * np.sin(v.angle)
        q = -dx * np.sin(v.angle) + dy * np.cos(v.angle)
        level = np.sqrt((p / v.a) ** 2 + (q / v.b) ** 2) + 1e-6
        slope = np.sqrt((p / v.a**2) ** 2 + (q / v.b**2) ** 2) / level + 1e-6
        depth = (1 - level) / slope + 0.12 * min(v.wall, 4) * wobble[box]
        lumen[box] = np.maximum(lumen[box], depth)
        outer[box] = np.maximum(outer[box], depth + v.wall)
    return outer, lumen


def _aggregates(
    where: np.ndarray, vessel: np.ndarray, area: float, xx: np.ndarray, yy: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the distance into lymphoid aggregates: warped discs spread over the stroma."""
    field = np.full(xx.shape, -1e3, np.float32)
    centres = np.argwhere(where)
    ragged = smooth_noise(xx.shape, 16, rng)
    number = max(3, round(area / 5.5e4))
    radius = np.sqrt(0.085 * area / number / np.pi)
    chosen: list[np.ndarray] = []
    for _ in range(60 * number):
        centre = centres[rng.integers(len(centres))]
        if len(chosen) < number and all(np.linalg.norm(centre - c) > 3 * radius for c in chosen):
            chosen.append(centre)
    for row, column in chosen:
        r = radius * rng.uniform(0.7, 1.25)
        squash = rng.uniform(0.75, 1.3)
        disc = r - np.hypot((xx - column) * squash, (yy - row) / squash) + 5.0 * ragged
        field = np.maximum(field, disc.astype(np.float32))
    return np.minimum(field, -vessel)


def _fibres(xx: np.ndarray, yy: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return wavy coordinates along and across the fibres, and the fibres' angle."""
    turn = rng.uniform(0, np.pi)
    across = -xx * np.sin(turn) + yy * np.cos(turn)
    across = across + 42 * smooth_noise(xx.shape, 110, rng) + 5 * smooth_noise(xx.shape, 26, rng)
    along = xx * np.cos(turn) + yy * np.sin(turn) + 20 * smooth_noise(xx.shape, 120, rng)
    gy, gx = np.gradient(across)
    return along.astype(np.float32), across.astype(np.float32), (np.arctan2(gy, gx) + np.pi / 2).astype(np.float32)


def _fold(xx: np.ndarray, yy: np.ndarray, tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one curved fold across part of the section: 1 on it, 0 off it."""
    height, width = xx.shape
    turn = rng.uniform(0.3, 1.2)
    across = (xx - 0.55 * width) * np.cos(turn) + (yy - 0.5 * height) * np.sin(turn)
    along = -(xx - 0.55 * width) * np.sin(turn) + (yy - 0.5 * height) * np.cos(turn)
    across = across + 10 * smooth_noise(xx.shape, 90, rng)
    half = 5.0 * np.clip(1 - (along / (0.3 * min(height, width))) ** 2, 0, 1)
    return np.where(tissue > 0, step(half - np.abs(across), 1.4), 0).astype(np.float32)
