"""Negative binomial of counts on logits: fused loss with its gradients, moments, and draws.

A gene's count has P(k) = Gamma(r + k) / (Gamma(r) k!) p^r (1 - p)^k, mean r (1 - p) / p and variance r (1 - p) / p^2
(Tan et al. 2026, equations 4 and 5; theirs lacks a p). A network gives two logits: ``r = softplus(a)`` and
``p = sigmoid(b)``. A unit seen s times as deep has the odds (1 - p) / p, and with them its mean, s times as large at
the same r: its logit is ``b - log(s)``.
"""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from torch import Tensor

from shest.systems import zinb_draw
from shest.systems.zinb import FLOOR, MOMENT_FLOOR, FusedNLL, Nonzero, lgamma_digamma, softplus
from shest.systems.zinb_cpu import BLOCK, EXACT, TASK, F, add_up, exp_negative, log1p, read_bf16, write_bf16

LEAST_LOGIT, MOST_LOGIT = -30.0, 30.0  # of p in the moments: odds stay finite in float32


@numba.njit(inline="always")
def _zero(a, b):
    """-log P(0) = -r log(p) and its derivatives by both logits."""
    small_a, small_b = exp_negative(-abs(a)), exp_negative(-abs(b))
    r = max(max(a, F(0)) + log1p(small_a), F(FLOOR))
    surprise = max(-b, F(0)) + log1p(small_b)  # -log(p)
    by_a = surprise * (F(1) if a >= 0 else small_a) / (F(1) + small_a)
    by_b = -r * (small_b if b >= 0 else F(1)) / (F(1) + small_b)
    return r * surprise, by_a, by_b


@numba.njit(fastmath=EXACT, error_model="numpy", cache=True)
def _block_f32(a, b, mask, scale, by_a, by_b, value):
    for i in range(a.size):
        v, x, y = _zero(a[i], b[i])
        weight = F(mask[i]) * scale
        value[i] = v * F(mask[i])
        by_a[i], by_b[i] = x * weight, y * weight


@numba.njit(fastmath=EXACT, error_model="numpy", cache=True)
def _block_bf16(a, b, mask, scale, by_a, by_b, value):
    for i in range(a.size):
        v, x, y = _zero(read_bf16(a[i]), read_bf16(b[i]))
        weight = F(mask[i]) * scale
        value[i] = v * F(mask[i])
        by_a[i], by_b[i] = write_bf16(x * weight), write_bf16(y * weight)


@numba.njit(nogil=True, cache=True)
def _run_f32(a, b, mask, scale, by_a, by_b):
    total, value, everything = 0.0, np.empty(BLOCK, np.float32), np.ones(BLOCK, np.uint8)
    for start in range(0, a.size, BLOCK):
        s = slice(start, min(start + BLOCK, a.size))
        held = mask[s] if mask.size else everything
        _block_f32(a[s], b[s], held, scale, by_a[s], by_b[s], value)
        total += add_up(value[: s.stop - s.start])
    return total


@numba.njit(nogil=True, cache=True)
def _run_bf16(a, b, mask, scale, by_a, by_b):
    total, value, everything = 0.0, np.empty(BLOCK, np.float32), np.ones(BLOCK, np.uint8)
    for start in range(0, a.size, BLOCK):
        s = slice(start, min(start + BLOCK, a.size))
        held = mask[s] if mask.size else everything
        _block_bf16(a[s], b[s], held, scale, by_a[s], by_b[s], value)
        total += add_up(value[: s.stop - s.start])
    return total


def _zero_terms_cpu(a: Tensor, b: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, list[Tensor]]:
    """Sum -log P(0) over flat logits in one pass on threads; the same for any number of them."""
    bits = torch.uint16 if a.dtype == torch.bfloat16 else torch.float32
    slopes = [torch.empty_like(a), torch.empty_like(b)]
    logits, written = ([t.detach().view(bits).numpy() for t in tensors] for tensors in ((a, b), slopes))
    held = np.empty(0, np.uint8) if mask is None else mask.view(torch.uint8).numpy()
    run = _run_bf16 if bits == torch.uint16 else _run_f32

    def work(start: int) -> float:
        part = slice(start, start + TASK)
        return run(*(x[part] for x in logits), held[part], F(scale), *(x[part] for x in written))

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # not numba's threads, which would wait for torch's
        total = sum(pool.map(work, range(0, a.numel(), TASK)))
    return torch.tensor(total, dtype=torch.float64), slopes


def _zero_terms(logits: list[Tensor], mask: Tensor | None, scale: float | Tensor) -> tuple[Tensor, list[Tensor]]:
    """Sum -log P(0) over flat logits (float64), and its derivatives times ``scale``, like the logits."""
    a, b = logits
    if a.device.type == "cpu" and a.dtype in (torch.float32, torch.bfloat16):
        return _zero_terms_cpu(a, b, mask, float(scale))
    x, y = (t if t.dtype == torch.float64 else t.float() for t in (a, b))
    r, surprise = softplus(x).clamp_(min=FLOOR), softplus(-y)
    value, weight = r * surprise, scale if mask is None else mask * scale
    slopes = [surprise.mul_(torch.sigmoid(x)), r.mul_(torch.sigmoid(-y)).neg_()]
    total = (value if mask is None else value * mask).sum(dtype=torch.float64)
    return total, [slope.mul_(weight).to(a.dtype) for slope in slopes]


def _count_terms(a: Tensor, b: Tensor, k: Tensor, log_factorial: Tensor) -> tuple[Tensor, list[Tensor]]:
    """-log P(k) of non-zero counts k less -log P(0); derivatives of -log P(k) by both logits; float64."""
    r, surprise = softplus(a).clamp_(min=FLOOR), softplus(-b)
    (upper, upper_slope), (lower, lower_slope) = lgamma_digamma(r + k), lgamma_digamma(r)
    more = lower - upper + log_factorial + k * softplus(b)
    by_a = (lower_slope - upper_slope + surprise).mul_(torch.sigmoid(a))
    return more, [by_a, k * torch.sigmoid(b) - r * torch.sigmoid(-b)]


def nll(a: Tensor, b: Tensor, counts: Nonzero, measured: Tensor | None = None) -> Tensor:
    """Mean negative log-likelihood of a batch under its two logits.

    Parameters
    ----------
    a, b
        Logits (n, g) of r and p: bfloat16, float32 or float64.
    counts
        Non-zero counts of the batch, on the logits' device.
    measured
        Bool (n, g): entries that were measured; the others do not count. All, where None.

    Returns
    -------
    scalar, float32 (float64 for float64 logits), differentiable once by the logits
    """
    return FusedNLL.apply(_zero_terms, _count_terms, counts, measured, a, b)


def bounded(a: Tensor, b: Tensor, most: Tensor) -> Tensor:
    """Return the logit of p at which no mean is above ``most`` (g,); r stays, so that the variance falls with the mean.

    A logit that is linear in the features goes on falling beyond those that it was fitted on, and the mean rises as its
    exponential.
    """
    least = softplus(a).clamp(min=MOMENT_FLOOR).log() - most.log()
    return torch.maximum(b, least.to(b.dtype))


def mean_variance(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean r (1 - p) / p and variance r (1 - p) / p^2, in float32 or float64."""
    dtype = torch.float64 if a.dtype == torch.float64 else torch.float32
    r, b = softplus(a.to(dtype)), b.to(dtype).clamp(LEAST_LOGIT, MOST_LOGIT)
    odds = (-b).exp()  # (1 - p) / p
    mean = r * odds
    return mean, mean * (1 + odds)


def draw(a: Tensor, b: Tensor, keys: np.ndarray, seed: int) -> np.ndarray:
    """Draw counts (n, g), uint16, of units by their logits; see :func:`shest.systems.zinb_draw.draw`."""
    mean, _ = mean_variance(a.float(), b.float())
    r = softplus(a.float()).clamp_(min=MOMENT_FLOOR)
    parts = (mean, r, torch.zeros_like(mean))
    return zinb_draw.draw(*(p.cpu().numpy() for p in parts), keys, seed, torch.get_num_threads())
