"""Nuclei by a network in a TorchScript file, by block: RGB at a stated mpp in, a label map or logits out.

It is called with float32 (1, 3, height, width), sides a multiple of 32, values from 0 to the stated range. It returns

- ``labels``: (1, c, height, width), (1, height, width) or (height, width), 0 for no nucleus; one channel is taken.
- ``logits`` with the post-processing ``centres``: (1, 2 or more, height, width); channel 0: is it nucleus, channel 1:
  is it near the centre of one. Nuclei grow from the maxima of the second over what is more likely nucleus than not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shest.core.errors import InputError, one_line
from shest.core.files import sha256
from shest.tissue.segment import kernels
from shest.tissue.segment.by_block import Grid, Kept, Window, each_window, make_windows
from shest.tissue.segment.classical import to_polygons
from shest.tissue.segment.regions import Regions, find_regions

HALO_UM = 32.0
ALIGN = 32  # px: networks that shrink by halves see a pixel in the same place whatever the block
APART_UM, REACH_UM = 1.5, 12.0
LEAST_UM2, MOST_UM2 = 5.0, 500.0
CONTRACT = "See segment in config/README.md for what goes in and out of the network"


@dataclass(frozen=True)
class Network:
    """A loaded network: ``module`` on ``device``, the entries of the config, and the digest of its file."""

    module: Any
    device: str
    settings: Mapping[str, Any]
    sha256: str

    def facts(self) -> dict:
        """What ``segment.json`` says of it."""
        keys = ("mpp", "input_range", "output", "channel", "postprocess")
        said = {key: self.settings[key] for key in keys}
        return {"weights": Path(self.settings["weights"]).name, "sha256": self.sha256, **said}


def load(settings: Mapping[str, Any]) -> Network:
    """Load a network by ``segment`` of the config: ``weights`` and what describes them.

    Raises
    ------
    InputError
        The file has another digest than the config says, or is no TorchScript.
    """
    import torch

    path = settings["weights"]
    digest = sha256(path)
    if settings["sha256"] not in (None, digest):
        raise InputError(path, f"its SHA-256 is {digest}, not segment.sha256", "Fetch it again, or correct the config")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        module = torch.jit.load(path, map_location=device).eval()
    except Exception as error:
        raise InputError(path, f"no TorchScript that can be loaded ({one_line(error)})", CONTRACT) from None
    return Network(module, device, settings, digest)


def segment(
    network: Network,
    scales: Sequence[Any],
    mpp: tuple[float, float],
    block_px: int,
    threads: int,
    keep: Kept | None = None,
) -> tuple[np.ndarray, Regions]:
    """Find the nuclei of a slide; arguments as of :func:`shest.tissue.segment.classical.segment`.

    Returns
    -------
    Polygons (n,) in H&E px by centroid (y, then x), and what the parts of the slide are.

    Raises
    ------
    InputError
        The network does not take the input, or returns something else than is stated.
    """
    import torch

    grid = Grid.of(tuple(scales[0].shape[1:]), mpp, network.settings["mpp"])
    regions = find_regions(scales, mpp)
    size = float(np.sqrt(np.prod(grid.mpp)))
    torch.set_num_threads(max(1, threads))

    def work(window: Window) -> np.ndarray:
        rgb = grid.read(scales[0], window.rows, window.columns)
        labels = _labels(network, rgb, size)
        n = int(labels.max(initial=0))
        points, start = np.empty((max(labels.size, 1), 2)), np.zeros(n + 2, np.int64)
        everything, least = np.ones(labels.shape, np.float32), np.zeros(n + 1, np.float32)
        limits = LEAST_UM2 / size**2, MOST_UM2 / size**2
        used = kernels.outline_nuclei(labels, everything, least, kernels.boxes(labels, n), 1, *limits, points, start)
        return to_polygons(points[:used], start[1:], window, grid)

    windows = make_windows(grid, regions, block_px, int(np.ceil(HALO_UM / size)), ALIGN)
    done = keep and keep.of_slide(windows, regions, f"{grid} {network.facts()}")
    return each_window(windows, work, 1, regions, done), regions


def _labels(network: Network, rgb: np.ndarray, size: float) -> np.ndarray:
    """Label a window, (h, w, 3) uint8 -> int32 (h, w), 1 to n; ``size``: µm of a pixel."""
    height, width = rgb.shape[:2]
    pad = ((0, -height % ALIGN), (0, -width % ALIGN), (0, 0))
    out = _run(network, np.pad(rgb, pad, mode="edge"))
    settings = network.settings
    if settings["output"] == "labels":
        channel = settings["channel"]
        maps = out.reshape(-1, *out.shape[-2:])
        _expect(network, len(maps) > channel, f"labels of {len(maps)} channels, and segment.channel is {channel}")
        ids, labels = np.unique(maps[channel, :height, :width], return_inverse=True)
        labels = labels.reshape(height, width) + (0 if (ids <= 0).any() else 1)
        return labels.astype(np.int32)
    _expect(network, out.ndim == 4 and out.shape[1] >= 2, f"logits of shape {out.shape}, not (1, 2 or more, h, w)")
    nucleus, centre = (1 / (1 + np.exp(-out[0, k, :height, :width].astype(np.float32))) for k in range(2))
    smooth = np.empty_like(centre)
    kernels.blur(centre, np.array([0.25, 0.5, 0.25], np.float32), smooth)
    seeds = kernels.find_seeds(smooth, nucleus, APART_UM / size, 0.3, 0.5, np.zeros(4, np.int64))
    most = round(REACH_UM / size * kernels.STEP)
    return kernels.flood(np.where(nucleus > 0.5, smooth, -1), seeds, -0.5, 60.0, most)


def _run(network: Network, rgb: np.ndarray) -> np.ndarray:
    import torch

    values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(rgb, -1, 0)))[None].to(network.device).float()
    try:
        with torch.inference_mode():
            out = network.module(values * (network.settings["input_range"] / 255))
    except RuntimeError as error:
        raise InputError(
            network.settings["weights"], f"does not take RGB of {tuple(values.shape)} ({one_line(error)})", CONTRACT
        ) from None
    fits = isinstance(out, torch.Tensor) and tuple(out.shape[-2:]) == rgb.shape[:2]
    _expect(network, fits, "something else than one tensor as large as the image")
    return out.cpu().numpy()


def _expect(network: Network, fits: bool, problem: str) -> None:
    if not fits:
        raise InputError(network.settings["weights"], f"returns {problem}", CONTRACT)
