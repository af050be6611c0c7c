"""What systems that learn with torch have in common: precision, repeatability, the moments of an ensemble."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context for the layers: bfloat16 if asked for, or if ``auto`` and a GPU multiplies it in hardware.

    On a CPU ``auto`` is float32: whether a CPU has instructions for bfloat16 would change expected counts by up to 2 %.
    """
    wanted = precision == "bf16" or (precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported())
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


@contextmanager
def deterministic() -> Iterator[None]:
    """Only deterministic algorithms inside."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # a safety net that costs a pass over every buffer
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark
        torch.utils.deterministic.fill_uninitialized_memory = fill


def ensemble_moments(members: Iterable[tuple[Tensor, Tensor]]) -> list[np.ndarray]:
    """Return mean, aleatoric and epistemic variance of an ensemble, (n, genes) float32, reading one member at a time.

    Parameters
    ----------
    members
        Expectation and variance by each member, (n, genes).

    The aleatoric variance is the mean of the members' variances, the epistemic one the variance of their expectations,
    divided by their number less one (NaN for one alone); by Welford's update.
    """
    mean = spread = noise = torch.zeros(1)
    for k, (member_mean, member_variance) in enumerate(members, start=1):
        mean, spread, noise = (x.to(member_mean.device) for x in (mean, spread, noise))
        step = member_mean - mean
        mean = mean + step / k
        spread = spread + step * (member_mean - mean)
        noise = noise + (member_variance - noise) / k
    epistemic = spread / (k - 1) if k > 1 else torch.full_like(mean, torch.nan)
    return [value.cpu().numpy() for value in (mean, noise, epistemic)]
