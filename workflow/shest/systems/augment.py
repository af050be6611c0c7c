"""Augmentation of patches on the device; what is done to a batch depends on its generator alone.

``mpa``: left-right, top-bottom and transposed, each with p 0.5, then with p 0.5 shifted by up to 0.1 of the side,
scaled by up to 0.1 and rotated by up to 30°. ``stnet``: quarter turns, both mirrorings, brightness, contrast and
saturation changed by up to 0.1 and hue by up to 0.02, with p 0.2 blurred. Both as in the code of the single-patch
baseline (github.com/Medical-AI-GSE240429/Code).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

SHIFT, SCALE, DEGREES = 0.1, 0.1, 30
JITTER, HUE, BLUR = 0.1, 0.02, 0.2


def augment(x: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Change a batch, (n, 3, s, s) of 0 to 1, RGB; ``none`` changes nothing.

    Parameters
    ----------
    kind
        ``none``, ``mpa`` or ``stnet``.
    generator
        On the CPU, so that a batch is changed alike on any device.
    """
    return {"none": lambda x, g: x, "mpa": _mpa, "stnet": _stnet}[kind](x, generator)


def _coins(n: int, p: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """Return which of n patches something happens to, (n, 1, 1, 1) bool."""
    return (torch.rand(n, generator=generator) < p).view(-1, 1, 1, 1).to(device)


def _mirrored(x: Tensor, generator: torch.Generator) -> Tensor:
    for axis in (3, 2):
        x = torch.where(_coins(len(x), 0.5, generator, x.device), x.flip(axis), x)
    return x


def _mpa(x: Tensor, generator: torch.Generator) -> Tensor:
    x = _mirrored(x, generator)
    x = torch.where(_coins(len(x), 0.5, generator, x.device), x.transpose(2, 3), x)
    moved = _coins(len(x), 0.5, generator, x.device)
    shift_x, shift_y, scale, angle = torch.rand(4, len(x), generator=generator) * 2 - 1
    angle, scale = angle * math.radians(DEGREES), 1 + SCALE * scale
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = torch.stack([cos, -sin, 2 * SHIFT * shift_x]), torch.stack([sin, cos, 2 * SHIFT * shift_y])
    grid = F.affine_grid(torch.stack(rows).permute(2, 0, 1).to(x), list(x.shape), align_corners=False)
    return torch.where(moved, F.grid_sample(x, grid, padding_mode="reflection", align_corners=False), x)


def _stnet(x: Tensor, generator: torch.Generator) -> Tensor:
    turns = torch.randint(0, 4, (len(x),), generator=generator).tolist()
    x = torch.stack([patch.rot90(k, (1, 2)) for patch, k in zip(x, turns, strict=True)])
    x = _mirrored(x, generator)
    draws = torch.rand(len(x), 6, generator=generator).tolist()
    return torch.stack([_coloured(patch, draw) for patch, draw in zip(x, draws, strict=True)])


def _coloured(patch: Tensor, draw: list[float]) -> Tensor:
    """Change the colours of a patch (3, s, s) by six draws of 0 to 1."""
    brightness, contrast, saturation, hue = (2 * value - 1 for value in draw[:4])
    patch = tv.adjust_brightness(patch, 1 + JITTER * brightness)
    patch = tv.adjust_contrast(patch, 1 + JITTER * contrast)
    patch = tv.adjust_saturation(patch, 1 + JITTER * saturation)
    patch = tv.adjust_hue(patch, HUE * hue)
    return tv.gaussian_blur(patch, [3, 3] if draw[5] < 0.5 else [5, 5]) if draw[4] < BLUR else patch
