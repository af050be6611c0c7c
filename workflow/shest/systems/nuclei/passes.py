"""The network's pass over a slide, by block: nuclei, and what it saw of each, pooled.

A block is read with a halo that is wider than what the network sees and a nucleus reaches, and begins at a multiple of
the network's coarsest pixel: for convolutions it is the same wherever blocks begin.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import shapely
import torch
from torch import nn

from shest.core import console
from shest.io.outlines import read_polygons
from shest.io.registration import Registration
from shest.io.store import image_scales
from shest.labels.training_set import rows_of
from shest.systems.nuclei import instances, targets
from shest.systems.nuclei.network import ALIGN, Maps, autocast
from shest.tissue.segment import kernels
from shest.tissue.segment.by_block import Grid, Window, make_windows
from shest.tissue.segment.classical import to_polygons
from shest.tissue.segment.regions import TISSUE, Regions, find_regions

NUCLEUS_UM = 20.0  # what a nucleus reaches beyond the block that holds its centroid
LEAST_UM2, MOST_UM2 = 5.0, 500.0
SMOOTH = 3  # px: outlines by a majority of so many
BLOCK_PX = 1024  # working px, where nuclei are known


class Looking:
    """A network at work on a device, ``threads`` windows at a time."""

    def __init__(self, module: nn.Module, device: torch.device, precision: str, threads: int) -> None:
        self.precision = precision
        self.module = module.to(device, memory_format=torch.channels_last).eval()
        self.device, self.threads = device, max(1, threads) if device.type == "cpu" else 1

    def maps(self, rgb: np.ndarray) -> Maps:
        """Return the maps of a window, uint8 (h, w, 3); the window is padded to a multiple of :data:`ALIGN`."""
        pad = ((0, -rgb.shape[0] % ALIGN), (0, -rgb.shape[1] % ALIGN), (0, 0))
        x = torch.from_numpy(np.pad(rgb, pad, mode="edge")).to(self.device).permute(2, 0, 1)[None]
        x = x.to(torch.float32, memory_format=torch.channels_last) / 255
        with torch.inference_mode(), autocast(self.device, self.precision):
            return self.module(x)

    def each(self, items: Sequence[Any], work: Any, what: str) -> Iterator[Any]:
        """Yield ``work(item)`` in order, windows beside each other on a CPU: each then takes one core."""
        before = torch.get_num_threads()
        torch.set_num_threads(1 if self.threads > 1 else before)
        try:
            with console.track(len(items), what, "blocks") as advance, ThreadPoolExecutor(self.threads) as pool:
                try:
                    for result in pool.map(work, items):
                        yield result
                        advance(1)
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        finally:
            torch.set_num_threads(before)


def width_of(levels: Sequence[int], classes: int) -> int:
    """Return the number of pooled features: mean and spread of each map, the types' logits, size and shape."""
    return 2 * sum(levels) + classes + 3


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _pool(level, places, start, scale, mean, spread):
    """Mean and standard deviation of a map (h, w, c) over the pixels (y, x) of each nucleus; ``scale``: px a pixel."""
    channels = level.shape[2]
    for k in range(len(start) - 1):
        number = start[k + 1] - start[k]
        if number == 0:
            continue
        for i in range(start[k], start[k + 1]):
            y, x = places[i, 0] // scale, places[i, 1] // scale
            for c in range(channels):
                value = level[y, x, c]
                mean[k, c] += value
                spread[k, c] += value * value
        for c in range(channels):
            mean[k, c] /= number
            spread[k, c] = np.sqrt(max(spread[k, c] / number - mean[k, c] * mean[k, c], 0.0))


def pooled(maps: Maps, labels: np.ndarray, n: int, size: float) -> np.ndarray:
    """Pool the maps of a window over its nuclei.

    Parameters
    ----------
    maps
        Of one window.
    labels
        int32 (h, w): 1 to n.
    n
        Number of nuclei; one without a pixel gets zeros.
    size
        µm of a pixel.

    Returns
    -------
    (n, :func:`width_of`) float32
    """
    found = np.flatnonzero(labels)
    order = found[np.argsort(labels.ravel()[found], kind="stable")]
    places = np.stack(np.divmod(order, labels.shape[1]), axis=1)
    start = np.searchsorted(labels.ravel()[order], np.arange(1, n + 2))
    columns = []
    for number, level in enumerate((*maps.levels, maps.types)):
        values = level[0].float().permute(1, 2, 0).contiguous().cpu().numpy()
        mean, spread = (np.zeros((n, values.shape[2]), np.float32) for _ in range(2))
        is_level = number < len(maps.levels)
        _pool(values, places, start, 2**number if is_level else 1, mean, spread)
        columns += [mean, spread] if is_level else [mean]
    area = np.diff(start)
    shape = [np.log(np.maximum(area, 1) * size**2)[:, None], np.log(_axes(places, start) * size)]
    return np.hstack([*columns, *shape]).astype(np.float32)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _axes(places, start):
    """Return the standard deviations along the long and the short axis of each nucleus, px, (n, 2)."""
    found = np.ones((len(start) - 1, 2))
    for k in range(len(start) - 1):
        number = start[k + 1] - start[k]
        if number == 0:
            continue
        my, mx, yy, xx, xy = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(start[k], start[k + 1]):
            my += places[i, 0]
            mx += places[i, 1]
        my, mx = my / number, mx / number
        for i in range(start[k], start[k + 1]):
            y, x = places[i, 0] - my, places[i, 1] - mx
            yy, xx, xy = yy + y * y, xx + x * x, xy + x * y
        middle, away = (yy + xx) / 2 / number, np.hypot((yy - xx) / 2, xy) / number
        found[k, 0] = np.sqrt(middle + away + 1 / 12)
        found[k, 1] = np.sqrt(max(middle - away, 0.0) + 1 / 12)
    return found


def features(looking: Looking, slide: Any, ids: Sequence[str], working_mpp: float) -> np.ndarray:
    """Pool what the network sees over known nuclei of a slide, in one pass.

    Parameters
    ----------
    slide
        :class:`shest.systems.sources.Slide`.
    ids
        Units of its outlines.

    Returns
    -------
    (n, :func:`width_of`) float16, in their order
    """
    names, polygons = read_polygons(slide.outlines)
    polygons = polygons[rows_of(ids, names, slide.outlines)]
    image = image_scales(slide.store)[0]
    grid = Grid.of(tuple(image.shape[1:]), Registration.read(slide.registration).mpp, working_mpp)
    points, start = targets.rings_on(grid, polygons)
    centres = (shapely.get_coordinates(shapely.centroid(polygons)) + 0.5) / np.array(grid.factor[::-1])
    block = np.floor(centres[:, ::-1] / BLOCK_PX).astype(np.int64)
    size = float(np.sqrt(np.prod(grid.mpp)))
    halo = int(np.ceil(looking.module.margin + NUCLEUS_UM / size))
    _, which = np.unique(block, axis=0, return_inverse=True)
    members = np.split(np.argsort(which.ravel(), kind="stable"), np.cumsum(np.bincount(which.ravel()))[:-1])

    def work(nuclei: np.ndarray) -> np.ndarray:
        low, high = centres[nuclei].min(axis=0)[::-1] - halo, centres[nuclei].max(axis=0)[::-1] + halo
        first = np.maximum(low.astype(int), 0) // ALIGN * ALIGN
        last = np.minimum(np.ceil(high).astype(int), grid.shape)
        rgb = grid.read(image, (first[0], last[0]), (first[1], last[1]))
        labels = targets.draw(points, start, nuclei, (first[0], first[1]), rgb.shape[:2])
        bare = np.flatnonzero(np.bincount(labels.ravel(), minlength=len(nuclei) + 1)[1:] == 0)
        rows, columns = (np.floor(centres[nuclei[bare]]).astype(np.int64)[:, ::-1] - first).T
        labels[rows, columns] = bare + 1  # a sliver, or below another: its centre
        return pooled(looking.maps(rgb), labels, len(nuclei), size).astype(np.float16)

    found = np.empty((len(ids), 0), np.float16)
    members = members if len(ids) else []
    for part, nuclei in zip(looking.each(members, work, "pooled nuclei"), members, strict=True):
        if not found.shape[1]:
            found = np.empty((len(ids), part.shape[1]), np.float16)
        found[nuclei] = part
    return found


def sweep(
    looking: Looking, scales: Sequence[Any], mpp: tuple[float, float], block_px: int, working_mpp: float, pool: bool
) -> tuple[np.ndarray, np.ndarray | None, Regions]:
    """Find the nuclei of a slide and, where ``pool``, what the network saw of each, in one pass.

    Returns
    -------
    polygons : (n,) in H&E px, by centroid: y, then x
    features : (n, :func:`width_of`) float16, or None
    regions : what the parts of the slide are
    """
    grid = Grid.of(tuple(scales[0].shape[1:]), mpp, working_mpp)
    regions = find_regions(scales, mpp)
    size = float(np.sqrt(np.prod(grid.mpp)))
    limits = LEAST_UM2 / size**2, MOST_UM2 / size**2
    halo = int(np.ceil(looking.module.margin + NUCLEUS_UM / size))

    def work(window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        rgb = grid.read(scales[0], window.rows, window.columns)
        maps = looking.maps(rgb)
        height, width = rgb.shape[:2]
        nucleus = maps.nucleus[0, :height, :width].float().sigmoid().cpu().numpy()
        labels = instances.find_instances(nucleus, maps.distance[0, :, :height, :width].float().cpu().numpy())
        polygons, kept = outline(labels, limits, window, grid)
        centres = shapely.get_coordinates(shapely.centroid(polygons)).reshape(-1, 2)
        mine = window.owns(centres) & (regions.at(*centres.T) == TISSUE)
        rows = pooled(maps, labels, int(labels.max(initial=0)), size)[kept[mine]] if pool else None
        return polygons[mine], centres[mine], rows

    windows = make_windows(grid, regions, block_px, halo, ALIGN)
    parts = list(looking.each(windows, work, "nuclei"))
    if not parts:
        return np.empty(0, dtype=object), None, regions
    polygons, centres = (np.concatenate([part[k] for part in parts]) for k in range(2))
    order = np.lexsort((centres[:, 0], centres[:, 1]))
    rows = np.concatenate([part[2] for part in parts])[order].astype(np.float16) if pool else None
    return polygons[order], rows, regions


def outline(
    labels: np.ndarray, limits: tuple[float, float], window: Window, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Outline the nuclei of a label map whose area is within limits, px: polygons in H&E px, and their labels - 1."""
    n = int(labels.max(initial=0))
    everything, least = np.ones(labels.shape, np.float32), np.zeros(n + 1, np.float32)
    points, start = np.empty((2 * labels.size + 64, 2)), np.zeros(n + 2, np.int64)
    used = kernels.outline_nuclei(labels, everything, least, kernels.boxes(labels, n), SMOOTH, *limits, points, start)
    return to_polygons(points[:used], start[1:], window, grid), np.flatnonzero(np.diff(start[1:]) > 0)
