"""The H&E picture: stain concentrations of tissue and cells, through optical density, to pixels at 40x.

Pixel (row, column) shows the point (x, y) = (column, row) · mpp µm. The picture is made block by block; every
texture is periodic and read at absolute coordinates, so that blocks meet without a seam.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import cKDTree

from shest.simulate.fields import lookup, periodic_noise, resample, step
from shest.simulate.nuclei import PARAMETERS
from shest.simulate.tissue import Tissue, hex_grid

BLOCK, HALO, SIDE = 1024, 8, 512
HAEMATOXYLIN = (0.63, 0.71, 0.32)
"""Optical density of haematoxylin in red, green, blue: Ruifrok and Johnston's (0.65, 0.70, 0.29), a little purpler."""
EOSIN = (0.13, 0.88, 0.45)
"""Between Ruifrok's eosin (0.07, 0.99, 0.11) and that of Macenko et al. 2009 (0.22, 0.80, 0.56)."""
BLOOD = (0.10, 0.80, 0.60)
PIGMENT = (0.50, 0.58, 0.64)
Stains = np.ndarray
"""Concentrations (4, h, w): haematoxylin, eosin, red cells, pigment."""
H, E, RED, BROWN = range(4)


@dataclass(frozen=True)
class Bodies:
    """Things drawn one by one (all in µm): nuclei with reliefs, cytoplasms, red cells and pigment grains.

    ``nuclei`` and ``cytoplasm`` are tables of :mod:`shest.simulate.nuclei`; ``discs`` is (n, 5): x, y, radius,
    concentration, stain.
    """

    nuclei: pd.DataFrame
    reliefs: np.ndarray
    cytoplasm: pd.DataFrame
    discs: np.ndarray


@dataclass(frozen=True)
class Scanner:
    """How the slide was stained and scanned: density vectors (4, 3), light (3,), blur in px, noise in grey levels."""

    vectors: np.ndarray
    light: np.ndarray
    blur: float
    noise: float


def draw_scanner(stain: float, difficulty: float, rng: np.random.Generator) -> Scanner:
    """Draw a slide's own stains: direction and strength of each vector vary with ``stain``."""
    vectors = np.array([HAEMATOXYLIN, EOSIN, BLOOD, PIGMENT])
    vectors = (vectors + rng.normal(0, 0.045 * stain, vectors.shape)).clip(0.02)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= np.exp(rng.normal(0, 0.13 * stain, (4, 1)))
    light = np.array([243.0, 241.0, 244.0]) + rng.normal(0, 1.0 * stain, 3)
    return Scanner(vectors.astype(np.float32), light.astype(np.float32), 0.75 + 0.6 * difficulty, 1.6)


def bodies(tissue: Tissue, nuclei: pd.DataFrame, reliefs: np.ndarray, rng: np.random.Generator) -> Bodies:
    """Add to the nuclei what surrounds them: cytoplasm of single cells, red cells in lumina and septa, pigment."""
    cytoplasm = _cytoplasm(nuclei, rng)
    discs = np.concatenate([_red_cells(tissue, rng), _pigment(cytoplasm, rng)])
    return Bodies(nuclei, reliefs, cytoplasm, discs)


def _cytoplasm(nuclei: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    size = {"macrophage": 8.2, "alveolar_cuboid": 4.9, "mast": 5.0, "neutrophil": 4.6}
    own = nuclei[nuclei.variant.isin(list(size))].copy()
    radius = own.variant.map(size).to_numpy() * rng.normal(1, 0.07, len(own)).clip(0.8, 1.2)
    away = rng.uniform(0, 2 * np.pi, len(own))
    shift = np.where(own.variant == "macrophage", 2.6, 0.6)
    place = {"x": own.x + shift * np.cos(away), "y": own.y + shift * np.sin(away)}
    look = {"variant": own.variant, "radius": radius, "phase": rng.uniform(0, 2 * np.pi, len(own))}
    return pd.DataFrame(place | look).reset_index(drop=True)


def _red_cells(tissue: Tissue, rng: np.random.Generator) -> np.ndarray:
    """Red cells (n, 5): packed in the lumina, in single file within the septa."""
    points = hex_grid(tissue.height, tissue.width, 4.9, 0.22, rng)
    inside = (points > 0).all(axis=1) & (points[:, 0] < tissue.width) & (points[:, 1] < tissue.height)
    points = points[inside]
    filled = np.zeros(len(points), bool)
    lumen = tissue.at("lumen", points[:, 0], points[:, 1])
    for v in tissue.vessels:
        near = np.hypot(points[:, 0] - v.x, points[:, 1] - v.y) < v.a + 2
        filled |= near & (lumen > 2.4) & (rng.random(len(points)) < rng.choice([0.35, 0.8, 0.97]))
    filled |= (tissue.at("wall", points[:, 0], points[:, 1]) > 1.2) & (rng.random(len(points)) < 0.13)
    points = points[filled & (tissue.at("tissue", points[:, 0], points[:, 1]) > 3)]
    n = len(points)
    return np.column_stack([points, rng.uniform(2.5, 3.4, n), rng.uniform(0.40, 0.66, n), np.full(n, RED)])


def _pigment(cytoplasm: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Return grains of dust (n, 5) in about a third of the macrophages."""
    rows = []
    for x, y in cytoplasm.loc[cytoplasm.variant == "macrophage", ["x", "y"]].to_numpy():
        if rng.random() < 0.35:
            n = rng.integers(5, 18)
            place = rng.normal((x, y), 2.6, (n, 2))
            rows.append(np.column_stack([place, rng.uniform(0.3, 0.8, n), rng.uniform(0.5, 1.3, n), np.full(n, BROWN)]))
    return np.concatenate(rows) if rows else np.zeros((0, 5))


def mosaic(tissue: Tissue, nuclei: pd.DataFrame) -> np.ndarray:
    """Return what parts the tumour's cytoplasm into cells, on a grid of 0.5 µm: (2, 2 · height, 2 · width).

    First the distance (µm) to the border between neighbouring cells, second each cell's own shade (−1 to 1).
    """
    tumour = nuclei[nuclei.variant == "tumour"]
    centres = tumour[["x", "y"]].to_numpy()
    field = np.full((2, 2 * tissue.height, 2 * tissue.width), 9.0, np.float32)
    field[1] = 0
    if len(centres) < 2:
        return field
    inside = np.argwhere(np.repeat(np.repeat(tissue.nest > -1, 2, axis=0), 2, axis=1))
    distance, index = cKDTree(centres).query(inside[:, ::-1] * 0.5, k=2)
    apart = np.linalg.norm(centres[index[:, 0]] - centres[index[:, 1]], axis=1)
    row, column = inside.T
    field[0, row, column] = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * apart)
    field[1, row, column] = (tumour.seed.to_numpy() % 2001 / 1000 - 1)[index[:, 0]]
    return field


def render(
    tissue: Tissue,
    things: Bodies,
    scanner: Scanner,
    mpp: float,
    rng: np.random.Generator,
    advance: Callable[[int], None] = lambda n: None,
) -> np.ndarray:
    """Return the picture (h, w, 3) uint8; ``advance`` is called with the pixels of each finished block."""
    height, width = image_shape(tissue, mpp)
    textures = {
        "grain": periodic_noise(SIDE, 2.0, 6.0, rng),
        "chromatin": periodic_noise(SIDE, 4.5, 14.0, rng),
        "foam": periodic_noise(SIDE, 7.0, 20.0, rng),
        "cloud": periodic_noise(SIDE, 16.0, 80.0, rng),
        "fibre": periodic_noise(SIDE, 4.0, 40.0, rng),
    }
    cells = mosaic(tissue, things.nuclei)
    seed = int(rng.integers(2**31))
    picture = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, BLOCK):
        for left in range(0, width, BLOCK):
            rows = np.arange(max(top - HALO, 0), min(top + BLOCK + HALO, height))
            columns = np.arange(max(left - HALO, 0), min(left + BLOCK + HALO, width))
            stains = background(tissue, cells, textures, rows, columns, mpp)
            _draw_bodies(stains, things, textures, rows, columns, mpp)
            _finish(stains, tissue, rows, columns, mpp)
            pixels = expose(stains, scanner, np.random.default_rng([seed, top, left]))
            y, x = top - rows[0], left - columns[0]
            part = pixels[y : y + BLOCK, x : x + BLOCK]
            part = part[: height - top, : width - left]
            picture[top : top + part.shape[0], left : left + part.shape[1]] = part
            advance(part.shape[0] * part.shape[1])
    return picture


def image_shape(tissue: Tissue, mpp: float) -> tuple[int, int]:
    """Return height and width of the picture in px."""
    return int((tissue.height - 1) / mpp), int((tissue.width - 1) / mpp)


def background(
    tissue: Tissue,
    cells: np.ndarray,
    textures: dict[str, np.ndarray],
    rows: np.ndarray,
    columns: np.ndarray,
    mpp: float,
) -> Stains:
    """Return the concentrations of everything but nuclei and single cells, for a block of pixels."""

    def field(name: str) -> np.ndarray:
        return resample(getattr(tissue, name), rows * mpp, columns * mpp)

    def texture(name: str) -> np.ndarray:
        return textures[name][np.ix_(rows % SIDE, columns % SIDE)]

    grain, foam, cloud = texture("grain"), texture("foam"), texture("cloud")
    across, along = field("across"), field("along")
    fibre = lookup(textures["fibre"], across / 0.42, along / 3.5)
    bundle = lookup(textures["fibre"], across / 1.3 + 90, along / 7.0)
    edge = 0.18 * foam + 0.25 * cloud
    stains = np.zeros((4, len(rows), len(columns)), np.float32)
    cleft = step(bundle - 0.35 * fibre + 0.5 * cloud - 1.5, 0.22)
    stains[E] = (0.27 + 0.055 * fibre + 0.04 * bundle + 0.035 * cloud + 0.012 * grain).clip(0.08) * (1 - 0.8 * cleft)
    stains[H] = (0.085 + 0.018 * fibre + 0.02 * cloud + 0.01 * grain).clip(0) * (1 - 0.8 * cleft)

    _lay(stains, step(field("wall") + edge, 0.4), 0.11 + 0.02 * foam, 0.27 + 0.05 * foam + 0.03 * cloud)
    _lay(stains, step(field("air") + edge, 0.35), 0.0, 0.008)
    nest = field("nest")
    gap = np.exp(-(((nest + 0.6) / 0.7) ** 2)) * step(cloud - 0.3, 0.4)
    _lay(stains, 0.85 * gap, 0.02, 0.03)
    border, shade = (resample(part, rows * mpp * 2, columns * mpp * 2) for part in cells)
    line = np.exp(-((border / 0.45) ** 2)) * (0.7 + 0.4 * cloud).clip(0, 1)
    clear = step(0.8 * foam + 0.7 * shade - 0.9, 0.5)
    tone = (0.15 + 0.035 * shade + 0.03 * cloud + 0.022 * foam + 0.012 * grain) * (1 - 0.45 * clear)
    pink = (0.23 - 0.03 * shade + 0.025 * foam + 0.015 * grain - 0.03 * cloud) * (1 - 0.5 * clear)
    _lay(stains, step(nest + edge, 0.35), tone + 0.06 * line, pink + 0.17 * line)
    _lay(stains, step(field("gland") + edge, 0.3), 0.015, 0.015 + 0.01 * cloud.clip(0))
    pale = step(foam - 0.2, 0.5)
    _lay(stains, step(field("lymphoid") + 3 * edge, 0.8), 0.14 - 0.07 * pale + 0.03 * cloud, 0.17 - 0.09 * pale)
    vessel, lumen = field("vessel"), field("lumen")
    ring = lookup(textures["fibre"], vessel / 0.45, (along + across) / 5.0)
    _lay(stains, step(vessel + 0.5 * edge, 0.35), 0.10 + 0.02 * ring, 0.40 + 0.09 * ring)
    _lay(stains, step(lumen + 0.5 * edge, 0.3), 0.004, 0.035 + 0.01 * cloud)
    return stains


def _lay(stains: Stains, cover: np.ndarray, haematoxylin: np.ndarray | float, eosin: np.ndarray | float) -> None:
    """Lay a material over what is there, as opaque as ``cover``."""
    stains[H] += cover * (haematoxylin - stains[H])
    stains[E] += cover * (eosin - stains[E])


def _window(x: float, y: float, reach: float, rows: np.ndarray, columns: np.ndarray, mpp: float):
    """Return the slices of a block within ``reach`` µm of a point and the offsets from it, or None."""
    r0, r1 = np.searchsorted(rows, [(y - reach) / mpp, (y + reach) / mpp])
    c0, c1 = np.searchsorted(columns, [(x - reach) / mpp, (x + reach) / mpp])
    if r0 >= r1 or c0 >= c1:
        return None
    dy = (rows[r0:r1] * mpp - y).astype(np.float32)[:, None]
    dx = (columns[c0:c1] * mpp - x).astype(np.float32)[None, :]
    return np.s_[:, r0:r1, c0:c1], dx, dy


def _near(x: np.ndarray, y: np.ndarray, rows: np.ndarray, columns: np.ndarray, mpp: float, reach: float) -> np.ndarray:
    inside = (x > columns[0] * mpp - reach) & (x < columns[-1] * mpp + reach)
    return np.flatnonzero(inside & (y > rows[0] * mpp - reach) & (y < rows[-1] * mpp + reach))


def _draw_bodies(
    stains: Stains, things: Bodies, textures: dict[str, np.ndarray], rows: np.ndarray, columns: np.ndarray, mpp: float
) -> None:
    discs, cyto, nuclei = things.discs, things.cytoplasm, things.nuclei
    for i in _near(discs[:, 0], discs[:, 1], rows, columns, mpp, 5):
        if discs[i, 4] == RED:
            _draw_disc(stains, discs[i], rows, columns, mpp)
    for i in _near(cyto.x.to_numpy(), cyto.y.to_numpy(), rows, columns, mpp, 14):
        _draw_cytoplasm(stains, cyto.iloc[i], textures, rows, columns, mpp)
    for i in _near(discs[:, 0], discs[:, 1], rows, columns, mpp, 5):
        if discs[i, 4] != RED:
            _draw_disc(stains, discs[i], rows, columns, mpp)
    keep = ["x", "y", "a", "b", "angle", "bend", "haem", "clear", "clump", "nucleoli", "seed"]
    values = nuclei[keep].to_numpy(float)
    dark = (nuclei.variant == "lymphocyte").to_numpy()
    for i in _near(values[:, 0], values[:, 1], rows, columns, mpp, 14):
        _draw_nucleus(stains, values[i], things.reliefs[i], dark[i], textures, rows, columns, mpp)


def _draw_disc(stains: Stains, disc: np.ndarray, rows: np.ndarray, columns: np.ndarray, mpp: float) -> None:
    """Draw a red cell (paler in its middle) or a grain of pigment."""
    x, y, radius, concentration, stain = disc
    if (view := _window(x, y, radius + 1, rows, columns, mpp)) is None:
        return
    where, dx, dy = view
    part = stains[where]
    distance = np.hypot(dx, dy)
    cover = step(radius - distance, 0.25)
    if stain == RED:
        part[:RED] *= 1 - 0.8 * cover
        amount = cover * concentration * (1 - 0.3 * np.exp(-((distance / 1.2) ** 2)))
        part[RED] = np.maximum(part[RED] * (1 - 0.5 * cover), amount)
    else:
        part[BROWN] += cover * concentration


def _draw_cytoplasm(
    stains: Stains, cell: pd.Series, textures: dict[str, np.ndarray], rows: np.ndarray, columns: np.ndarray, mpp: float
) -> None:
    """Draw the body of a macrophage (foamy), a type 2 pneumocyte (vacuoles), a mast cell (granules), a neutrophil."""
    if (view := _window(cell.x, cell.y, cell.radius * 1.4, rows, columns, mpp)) is None:
        return
    where, dx, dy = view
    turn = np.arctan2(dy, dx)
    radius = cell.radius * (1 + 0.06 * np.cos(2 * turn + cell.phase) + 0.05 * np.cos(3 * turn + 2 * cell.phase))
    depth = radius - np.hypot(dx, dy)
    r, c = rows[where[1]] % SIDE, columns[where[2]] % SIDE
    foam, grain = textures["foam"][np.ix_(r, c)], textures["grain"][np.ix_(r, c)]
    rim = np.exp(-(((depth - 0.3) / 0.5) ** 2))
    hole = step(foam - 0.5, 0.45)
    tones = {
        "macrophage": (0.11 - 0.05 * hole + 0.012 * grain, 0.24 - 0.13 * hole + 0.015 * grain + 0.05 * rim),
        "alveolar_cuboid": (0.09 - 0.05 * hole, 0.24 - 0.12 * hole + 0.05 * rim),
        "mast": (0.30 + 0.16 * grain, 0.26 + 0.10 * grain),
        "neutrophil": (0.05, 0.30 + 0.07 * grain),
    }[cell.variant]
    _lay(stains[where], step(depth + 0.35 * foam, 0.4), *tones)


def _draw_nucleus(
    stains: Stains,
    values: np.ndarray,
    relief: np.ndarray,
    dark: bool,
    textures: dict[str, np.ndarray],
    rows: np.ndarray,
    columns: np.ndarray,
    mpp: float,
) -> None:
    """Draw one nucleus: outline, rim, pale middle, chromatin clumps, nucleoli, and a cleared seam around dark ones."""
    x, y, a, b, angle, bend, haem, clear, clump, nucleoli, seed = values
    if (view := _window(x, y, 1.4 * a + 1.6, rows, columns, mpp)) is None:
        return
    where, dx, dy = view
    p = dx * np.cos(angle) + dy * np.sin(angle)
    q = -dx * np.sin(angle) + dy * np.cos(angle) - bend * p**2
    depth = ellipse_depth(p, q, a, b, relief)
    cover = step(depth, 0.16 + 0.25 * (seed % 97) / 97)  # some lie out of focus
    part = stains[where]
    if dark:
        part[:RED] *= 1 - 0.45 * np.exp(-(((depth + 0.6) / 0.45) ** 2))
    rng = np.random.default_rng(int(seed))
    shift = rng.integers(0, SIDE, 2)
    index = np.ix_((rows[where[1]] + shift[0]) % SIDE, (columns[where[2]] + shift[1]) % SIDE)
    chromatin = textures["chromatin"][index] + 0.2 * textures["grain"][index]
    inner = (depth / (0.5 * b)).clip(0, 1)
    rim = np.exp(-(((depth - 0.25) / 0.35) ** 2))
    haematoxylin = haem * (1 - clear * inner + 0.25 * rim + clump * chromatin)
    eosin = np.full_like(haematoxylin, 0.13)
    for _ in range(int(nucleoli)):
        t, radius = rng.uniform(0, 2 * np.pi), 0.5 * np.sqrt(rng.random())
        spot = np.hypot(p - a * radius * np.cos(t), q - b * radius * np.sin(t))
        dot = np.exp(-((spot / rng.uniform(0.55, 0.95)) ** 4))
        haematoxylin += 0.38 * dot
        eosin += 0.22 * dot
    _lay(part, cover, haematoxylin.clip(0.12), eosin)
    part[RED:] *= 1 - cover


def ellipse_depth(p: np.ndarray, q: np.ndarray, a: float, b: float, relief: np.ndarray) -> np.ndarray:
    """Return how deep (µm) points lie within an ellipse with relief: the implicit function over its gradient."""
    u, v = p / a, q / b
    turn = np.arctan2(v, u) * np.float32(PARAMETERS / (2 * np.pi)) % PARAMETERS
    i = turn.astype(np.int32)
    share = turn - i
    factor = relief[i % PARAMETERS] * (1 - share) + relief[(i + 1) % PARAMETERS] * share
    level = np.sqrt(u**2 + v**2) + 1e-4
    slope = np.sqrt((u / a) ** 2 + (v / b) ** 2) / level + 1e-4
    return (factor - level) / slope


def _finish(stains: Stains, tissue: Tissue, rows: np.ndarray, columns: np.ndarray, mpp: float) -> None:
    """Cut the section out of the glass; apply the slow gradients of the stains and the fold."""

    def field(name: str) -> np.ndarray:
        return resample(getattr(tissue, name), rows * mpp, columns * mpp)

    thickness = step(field("tissue"), 1.2) * (1 + 0.9 * field("fold"))
    stains[H] *= thickness * field("haematoxylin")
    stains[E] *= thickness * field("eosin")
    stains[RED:] *= thickness


def expose(stains: Stains, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Turn concentrations into pixels: Beer-Lambert in each channel, blur of the optics, noise of the camera."""
    density = np.tensordot(scanner.vectors.T, stains, axes=1)
    pixels = np.empty((*stains.shape[1:], 3), np.uint8)
    for channel in range(3):
        light = scanner.light[channel] * np.exp(-np.log(10) * density[channel])
        light = ndimage.gaussian_filter(light, scanner.blur, mode="nearest", truncate=3)
        light += rng.normal(0, scanner.noise, light.shape)
        pixels[..., channel] = np.clip(light + 0.5, 0, 255)
    return pixels
