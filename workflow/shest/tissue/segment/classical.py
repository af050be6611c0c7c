"""Nuclei without weights: haematoxylin above its background, blobs of several sizes, a bounded watershed from each.

On a grid of half a micrometre: the density of haematoxylin (:mod:`.stain`), less a share of its mean over some fifteen
micrometres; blobs as maxima of differences of Gaussians of several sizes (Lindeberg 1998), the best of those that lie
in each other; the watershed of the density from these, each path bounded; and in each basin a threshold of its own.

The numbers of :class:`Settings` were chosen on half of the tiles of a colon slide and on one lung slide with outlined
nuclei, and judged on the other half and on another lung slide.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import shapely

from shest.tissue.segment import kernels, stain
from shest.tissue.segment.by_block import Grid, Kept, Window, each_window, make_windows
from shest.tissue.segment.regions import TISSUE, Regions, find_regions

SAMPLES, SAMPLE_PX = 256, 64  # windows that the stains are estimated from, and their side in working px
CUT = 2.5  # standard deviations at which a Gaussian ends
COARSE = 4  # working px to a square of the background


@dataclass(frozen=True)
class Settings:
    """What a nucleus is. Lengths in µm; densities in units of the slide's 99th percentile of haematoxylin.

    Attributes
    ----------
    mpp
        Pixels that are worked on.
    smooth_um, strength_um
        Standard deviation of the Gaussians before the watershed, and before strengths are taken.
    background_um, background_share
        Standard deviation of the background's Gaussian, and the share of it that is subtracted.
    blobs_um
        Standard deviations of Gaussians, each less the next: a blob of radius r answers most at about r / √2.
    apart_um
        Least distance of two blobs of one size.
    covers, favour
        A blob's reach, in which it suffers no other, over its radius; how much a blob's score gains over the next
        smaller size: the parts of a large nucleus are blobs too.
    least_response, least_density, contrast
        Of a seed's difference of Gaussians; of density above the background; of that over the standard deviation of the
        density around (within the background's Gaussian): beside dark nuclei what is pale is none.
    share
        A basin's threshold over its mean density.
    slope, reach_um
        Cost of a change of density by one, in tenths of a working px; longest way from a seed.
    least_um2, most_um2
        Area of a nucleus.
    """

    mpp: float = 0.5
    smooth_um: float = 0.8
    strength_um: float = 1.4
    background_um: float = 20.0
    background_share: float = 0.5
    blobs_um: tuple[float, ...] = (1.1, 1.6, 2.3, 3.2, 4.5)
    apart_um: float = 2.0
    covers: float = 0.8
    favour: float = 1.2
    least_response: float = 0.02
    least_density: float = 0.08
    contrast: float = 0.9
    share: float = 0.8
    slope: float = 120.0
    reach_um: float = 8.5
    least_um2: float = 8.0
    most_um2: float = 200.0


@dataclass(frozen=True)
class Found:
    """Nuclei of a slide and how they were found.

    ``polygons``: (n,) in H&E px, by centroid (y, then x). ``regions``, ``stain``, ``grid``, ``settings`` as they were
    used.
    """

    polygons: np.ndarray
    regions: Regions
    stain: stain.Stain
    grid: Grid
    settings: Settings

    def facts(self) -> dict[str, Any]:
        """What ``segment.json`` says of it."""
        return {"stain": self.stain.asdict(), "mpp": list(self.grid.mpp[::-1]), "settings": asdict(self.settings)}


def gaussian(sigma: float) -> np.ndarray:
    """Return a Gaussian's taps, float32, an odd number of them; they sum to one."""
    reach = max(1, int(np.ceil(CUT * sigma)))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    return (taps / taps.sum()).astype(np.float32)


@dataclass(frozen=True)
class _Plan:
    """Settings in working px."""

    smooth: np.ndarray
    strength: np.ndarray
    background: np.ndarray
    blobs: tuple[np.ndarray, ...]
    apart: float
    reaches: tuple[float, ...]
    most_cost: int
    least_px: float
    most_px: float

    @classmethod
    def of(cls, settings: Settings, mpp: tuple[float, float]) -> "_Plan":
        size = float(np.sqrt(mpp[0] * mpp[1]))
        steps = [settings.smooth_um, *settings.blobs_um]
        further = [np.sqrt(b * b - a * a) / size for a, b in pairwise(steps)]
        return cls(
            smooth=gaussian(settings.smooth_um / size),
            strength=gaussian(np.sqrt(max(settings.strength_um**2 - settings.smooth_um**2, 0.0)) / size),
            background=gaussian(settings.background_um / size / COARSE),
            blobs=tuple(gaussian(sigma) for sigma in further),
            apart=settings.apart_um / size,
            reaches=tuple(settings.covers * np.sqrt(2 * a * b) / size for a, b in pairwise(settings.blobs_um)),
            most_cost=round(settings.reach_um / size * kernels.STEP),
            least_px=settings.least_um2 / size**2,
            most_px=settings.most_um2 / size**2,
        )

    @property
    def reach(self) -> int:
        """Working px from a seed that its basin can reach."""
        return self.most_cost // kernels.STEP + 1

    @property
    def choice(self) -> int:
        """Working px within which blobs decide which of them are seeds."""
        return int(2 * kernels.ROUNDS * max(self.reaches)) + 1

    @property
    def halo(self) -> int:
        """Working px around a core that its nuclei depend on.

        A nucleus's pixels lie within two reaches of its centroid, the seeds that may take them within one more; a seed
        and a pixel depend on filters.
        """
        smooth = len(self.smooth) // 2
        blobs = smooth + sum(len(kernel) // 2 for kernel in self.blobs) + int(self.apart)
        ground = (len(self.background) // 2 + 2) * COARSE
        return 3 * self.reach + 4 + self.choice + max(blobs, ground, smooth + len(self.strength) // 2)


def segment(
    scales: Sequence[Any],
    mpp: tuple[float, float],
    block_px: int,
    threads: int,
    vectors: str = "macenko",
    settings: Settings | None = None,
    keep: Kept | None = None,
) -> Found:
    """Find the nuclei of a slide.

    Parameters
    ----------
    scales
        (3, height, width) uint8, sliced as NumPy and Zarr arrays are; full size first, then any smaller.
    mpp
        µm per full-size px along x and y, 0.2 to 1.
    block_px
        Side of a block, full-size px; changes what memory is needed, and no nucleus.
    threads
        Blocks worked on at once.
    vectors
        Stain vectors: ``macenko`` (the slide's own) or ``fixed``.
    settings
        By default :class:`Settings`.
    keep
        Where blocks that are done wait; by default they are not kept.
    """
    settings = settings or Settings()
    image = scales[0]
    grid = Grid.of(tuple(image.shape[1:]), mpp, settings.mpp)
    regions = find_regions(scales, mpp)
    colours = sample_colours(image, grid, regions)
    stains = stain.estimate(colours) if vectors == "macenko" else stain.fixed(colours)
    plan, table = _Plan.of(settings, grid.mpp), stains.table()

    def work(window: Window) -> np.ndarray:
        rgb = grid.read(image, window.rows, window.columns)
        points, start = outline(rgb, table, window, grid, regions, settings, plan)
        return to_polygons(points, start, window, grid)

    windows = make_windows(grid, regions, block_px, plan.halo, COARSE)
    done = keep and keep.of_slide(windows, regions, f"{grid} {settings} {stains}")
    return Found(each_window(windows, work, threads, regions, done), regions, stains, grid, settings)


def sample_colours(image: Any, grid: Grid, regions: Regions) -> np.ndarray:
    """Return colours of the tissue, (n, 3) uint8: of windows spread evenly over it, the same whatever the blocks."""
    rows, columns = np.nonzero(regions.kinds == TISSUE)
    if not len(rows):
        return np.empty((0, 3), np.uint8)
    chosen = np.unique(np.linspace(0, len(rows) - 1, SAMPLES).astype(int))
    parts = []
    for row, column in zip(rows[chosen], columns[chosen], strict=True):
        edges = []
        for place, factor, ratio, n in zip((row, column), grid.factor, regions.factor, grid.shape, strict=True):
            first = min(max(int((place + 0.5) * ratio / factor) - SAMPLE_PX // 2, 0), max(n - SAMPLE_PX, 0))
            edges.append((first, min(first + SAMPLE_PX, n)))
        parts.append(grid.read(image, *edges).reshape(-1, 3))
    return np.concatenate(parts)


def outline(
    rgb: np.ndarray, table: np.ndarray, window: Window, grid: Grid, regions: Regions, settings: Settings, plan: _Plan
) -> tuple[np.ndarray, np.ndarray]:
    """Outline the nuclei of a window, (h, w, 3) uint8: points (v, 2) in working px of the window, and their starts."""
    shape = rgb.shape[:2]
    raw, smooth, spare = (np.empty(shape, np.float32) for _ in range(3))
    kernels.density(rgb, table, raw)
    ground, square = (np.empty([-(-n // COARSE) for n in shape], np.float32) for _ in range(2))
    kernels.shrink(raw, COARSE, ground, square)
    small, spread = np.empty_like(ground), np.empty_like(ground)
    kernels.blur(ground, plan.background, small)
    kernels.blur(square, plan.background, spread)
    spread = np.sqrt(np.maximum(spread - small * small, 0))
    kernels.blur(raw, plan.smooth, smooth)
    strength = np.empty(shape, np.float32)
    kernels.blur(smooth, plan.strength, strength)
    kernels.subtract_background(strength, small, COARSE, np.float32(settings.background_share))
    seeds = _seeds(smooth, strength, spread, (raw, spare, np.empty(shape, np.float32)), window, grid, settings, plan)
    seeds = seeds[_on_tissue(seeds, window, grid, regions)]
    kernels.subtract_background(smooth, small, COARSE, np.float32(settings.background_share))
    labels = kernels.flood(smooth, seeds, settings.least_density, settings.slope, plan.most_cost)
    least = kernels.thresholds(labels, strength, len(seeds), settings.least_density, settings.share)
    box = kernels.boxes(labels, len(seeds))
    start = np.zeros(len(seeds) + 2, np.int64)
    room, used = 64 * len(seeds) + 64, -1
    while used < 0:
        points = np.empty((room, 2))
        used = kernels.outline_nuclei(labels, smooth, least, box, 5, plan.least_px, plan.most_px, points, start)
        room *= 2
    return points[:used], start[1:]


def _seeds(
    smooth: np.ndarray,
    strength: np.ndarray,
    spread: np.ndarray,
    spare: tuple[np.ndarray, ...],
    window: Window,
    grid: Grid,
    settings: Settings,
    plan: _Plan,
) -> np.ndarray:
    """Find blobs at each size and choose among those that lie in each other: int32 (n, 2) of y, x, sorted."""
    fine, coarse, response = spare
    margin = _margin(window, grid, smooth.shape, 3 * plan.reach + 2 + plan.choice)
    places, scores, reaches = [], [], []
    kernels.blur(smooth, plan.blobs[0], fine)
    for k, kernel in enumerate(plan.blobs[1:]):
        kernels.blur(fine, kernel, coarse)
        kernels.difference(fine, coarse, response)
        fine, coarse = coarse, fine
        found = kernels.find_seeds(
            response, strength, plan.apart, settings.least_response, settings.least_density, margin
        )
        around = spread[found[:, 0] // COARSE, found[:, 1] // COARSE]
        found = found[strength[found[:, 0], found[:, 1]] > settings.contrast * around]
        places.append(found)
        scores.append(response[found[:, 0], found[:, 1]] * np.float32(settings.favour**k))
        reaches.append(np.full(len(found), plan.reaches[k]))
    places, scores, reaches = map(np.concatenate, (places, scores, reaches))
    order = np.lexsort((-reaches, places[:, 1], places[:, 0]))
    return places[order][kernels.choose_seeds(places[order], scores[order], reaches[order])]


def _margin(window: Window, grid: Grid, shape: tuple[int, int], around: int) -> np.ndarray:
    """Working px of a window beyond ``around`` its core, at top, bottom, left and right: no seed there matters."""
    margin = []
    for (first, _), low, high, f, n in zip(
        (window.rows, window.columns),
        (window.top, window.left),
        (window.bottom, window.right),
        grid.factor,
        shape,
        strict=True,
    ):
        margin += [max(int(low / f) - around - first, 0), max(n - (int(np.ceil(high / f)) + around - first), 0)]
    return np.array(margin, np.int64)


def _on_tissue(seeds: np.ndarray, window: Window, grid: Grid, regions: Regions) -> np.ndarray:
    corner = np.array([window.columns[0], window.rows[0]])
    x, y = grid.to_image(seeds[:, ::-1] + corner + 0.5).T
    return regions.at(x, y) == TISSUE


def to_polygons(points: np.ndarray, start: np.ndarray, window: Window, grid: Grid) -> np.ndarray:
    """Make polygons in H&E px of rings in working px of a window; ``start``: (n + 1,). Empty rings are left out."""
    number = np.diff(start)
    owner = np.repeat(np.cumsum(number > 0) - 1, number)
    if not len(owner):
        return np.empty(0, dtype=object)
    corner = np.array([window.columns[0], window.rows[0]])
    return shapely.polygons(shapely.linearrings(grid.to_image(points + corner), indices=owner))
