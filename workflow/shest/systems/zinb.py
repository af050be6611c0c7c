"""Zero-inflated negative binomial of counts, on logits: fused loss with its gradients, moments, and draws.

A gene's count is 0 with probability pi, else negative binomial with mean mu and inverse dispersion theta
(variance mu + mu^2 / theta). A network gives three logits: ``mu = softplus(a)``, ``theta = softplus(b)``,
``pi = sigmoid(c)``.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.special import gammaln
from torch import Tensor

from shest.systems import zinb_cpu, zinb_draw

FLOOR = 1e-30  # of mu and theta: logarithms and quotients stay finite in float32
MOMENT_FLOOR = 1e-6  # of theta in the variance: mu^2 / theta stays finite in float32
RAISE = 5  # of the argument of lgamma before Stirling's series
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
COUNTS = 16_384  # non-zero counts worked on at once on a CPU: the intermediate results stay in its cache


class Nonzero(NamedTuple):
    """The non-zero counts of a batch of ``n`` cells and ``g`` genes.

    index : (m,) int64, place in the flattened (n, g) batch, ascending, each at most once
    count : (m,) float64
    log_factorial : (m,) float64, log(count!)
    """

    index: Tensor
    count: Tensor
    log_factorial: Tensor

    def to(self, device: torch.device) -> "Nonzero":
        """Move to a device; from pinned memory without waiting."""
        return Nonzero(*(part.to(device, non_blocking=True) for part in self))


@lru_cache(maxsize=1)
def _log_factorials(up_to: int) -> np.ndarray:
    return gammaln(np.arange(up_to + 1) + 1.0)


def nonzero(counts: sparse.csr_matrix) -> Nonzero:
    """Read the non-zero counts out of a CSR batch (n, g); whole numbers take log(count!) from a table."""
    counts = sparse.csr_matrix(counts)
    if not counts.has_canonical_format:
        counts = counts.copy()
        counts.sum_duplicates()
    rows = np.repeat(np.arange(counts.shape[0], dtype=np.int64), np.diff(counts.indptr))
    index, value = rows * counts.shape[1] + counts.indices, counts.data.astype(np.float64)
    held = value > 0
    if not held.all():
        index, value = index[held], value[held]
    whole = value.astype(np.int64)
    if value.size and (whole == value).all() and whole.max() < 1_000_000:
        table = _log_factorials(1 << int(whole.max()).bit_length())
        log_factorial = table[whole]
    else:
        log_factorial = gammaln(value + 1.0)
    return Nonzero(*map(torch.from_numpy, (index, value, log_factorial)))


def lgamma_digamma(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return log Gamma(x) and its derivative for x > 0, in float64 to about 1e-10.

    The argument is raised by 5 (the recurrence needs one logarithm and a product), where Stirling's series has
    converged. Several times faster than two calls of torch, which are not vectorised.
    """
    product, slope = x * (x + 1), 2 * x + 1  # x (x + 1) ... (x + 4) and its derivative
    for step in range(2, RAISE):
        raised = x + step
        slope = slope.mul_(raised).add_(product)
        product = product.mul_(raised)
    z = x + RAISE
    log_z, r = z.log(), 1 / z
    w = r * r
    series = (((w * (-1 / 1188)).add_(1 / 1680).mul_(w).sub_(1 / 1260).mul_(w).add_(1 / 360)).mul_(-w)).add_(1 / 12)
    series_slope = (((w * (-1 / 132)).add_(1 / 240).mul_(w).sub_(1 / 252).mul_(w).add_(1 / 120)).mul_(-w)).add_(1 / 12)
    digamma = log_z - r.mul(0.5).add_(series_slope.mul_(w)).add_(slope.div_(product))
    lgamma = (
        (z - 0.5).mul_(log_z).sub_(z).add_(series.mul_(r)).add_(HALF_LOG_2PI).sub_(product.clamp_(max=1e280).log_())
    )
    return lgamma, digamma


def _log1p(x: Tensor) -> Tensor:
    """log(1 + x) for x >= 0, exact also where 1 + x rounds to 1.

    By the plain logarithm, since torch's log1p, and with it softplus and logaddexp, were seen to run 20 times
    slower in some CPU processes than in others.
    """
    u = x + 1
    return u.log().add_((x - (u - 1)).div_(u))


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without a threshold."""
    return _log1p(x.abs().neg_().exp_()).add_(x.clamp(min=0))


def _rates(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """mu, theta, log(1 + mu / theta) and the log-probability of a negative binomial's zero."""
    mu, theta = softplus(a).clamp_(min=FLOOR), softplus(b).clamp_(min=FLOOR)
    log_ratio = _log1p(mu / theta)
    return mu, theta, log_ratio, -theta * log_ratio


def _zero_terms(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, list[Tensor]]:
    """-log P(0) = -log(pi + (1 - pi) NB(0)) and its derivatives by the three logits."""
    mu, theta, log_ratio, log_zero = _rates(a, b)
    total, odds = mu + theta, log_zero - c
    from_nb = torch.sigmoid(odds)  # probability that a zero is not an inflated one
    value = softplus(c) - _log_zero_inflated(c, log_zero)
    by_mu = (theta / total).mul_(from_nb).mul_(torch.sigmoid(a))
    by_theta = log_ratio.sub_(mu.div_(total)).mul_(from_nb).mul_(torch.sigmoid(b))
    return value, [by_mu, by_theta, torch.sigmoid(c).add_(from_nb).sub_(1)]


def _count_terms(a: Tensor, b: Tensor, c: Tensor, k: Tensor, log_factorial: Tensor) -> tuple[Tensor, list[Tensor]]:
    """-log P(k) of non-zero counts k, less -log P(0); derivatives of the former by the three logits; float64."""
    mu, theta, log_ratio, log_zero = _rates(a, b)
    total = mu + theta
    upper, upper_slope = lgamma_digamma(theta + k)
    lower, lower_slope = lgamma_digamma(theta)
    log_nb = upper.sub_(lower).sub_(log_factorial).add_(log_zero).add_((mu / total).log_().mul_(k))
    over = (mu - k).div_(total)
    by_mu = (theta / mu).mul_(over).mul_(torch.sigmoid(a))
    by_theta = lower_slope.sub_(upper_slope).add_(log_ratio).sub_(over).mul_(torch.sigmoid(b))
    return _log_zero_inflated(c, log_zero).sub_(log_nb), [by_mu, by_theta, torch.sigmoid(c)]


def _log_zero_inflated(c: Tensor, log_zero: Tensor) -> Tensor:
    """log(exp(c) + exp(log_zero)): log P(0) but for softplus(c), which every count has in common."""
    return torch.maximum(c, log_zero).add_(_log1p((log_zero - c).abs_().neg_().exp_()))


def _dense(logits: list[Tensor], mask: Tensor | None, scale: float | Tensor) -> tuple[Tensor, list[Tensor]]:
    """Sum -log P(0) over flat logits (float64), and its derivatives times ``scale``, like the logits."""
    like = logits[0]
    if like.device.type == "cpu" and like.dtype in (torch.float32, torch.bfloat16):
        bits = torch.uint16 if like.dtype == torch.bfloat16 else torch.float32
        slopes = [torch.empty_like(logit) for logit in logits]
        arrays = [[t.detach().view(bits).numpy() for t in tensors] for tensors in (logits, slopes)]
        held = np.empty(0, np.uint8) if mask is None else mask.view(torch.uint8).numpy()
        total = zinb_cpu.zero_terms(arrays[0], held, float(scale), arrays[1], torch.get_num_threads())
        return torch.tensor(total, dtype=torch.float64), slopes
    value, slopes = _zero_terms(*(logit if like.dtype == torch.float64 else logit.float() for logit in logits))
    weight = scale if mask is None else mask * scale
    slopes = [slope.mul_(weight).to(like.dtype) for slope in slopes]
    return (value if mask is None else value * mask).sum(dtype=torch.float64), slopes


class FusedNLL(torch.autograd.Function):
    """Mean negative log-likelihood of counts under some logits; the gradients are made in the forward pass.

    Every entry first gets the loss of a zero from ``dense``; ``exact`` then says what the non-zero counts change.

    Parameters
    ----------
    dense
        Of flat logits, a mask (or None) and a scale: the sum of -log P(0), float64; its derivatives times the scale.
    exact
        Of logits, counts and log(count!) in float64: -log P(count) less -log P(0), and derivatives of the former.
    counts
        :class:`Nonzero`.
    measured
        See :func:`nll`.
    logits
        (n, g) each.
    """

    @staticmethod
    def forward(ctx, dense, exact, counts, measured, *logits):
        flat = [logit.reshape(-1) for logit in logits]
        mask = None if measured is None else measured.reshape(-1)
        scale = 1 / (flat[0].numel() if mask is None else mask.sum(dtype=torch.float64).clamp_(min=1))
        loss, slopes = dense(flat, mask, scale)
        number = counts.index.numel()
        step = COUNTS if flat[0].device.type == "cpu" else max(number, 1)
        for start in range(0, number, step):
            index, count, log_factorial = (part[start : start + step] for part in counts)
            held = None if mask is None else mask[index]
            more, replaced = exact(*(logit[index].double() for logit in flat), count, log_factorial)
            loss += (more if held is None else more * held).sum()
            weight = scale if held is None else held * scale
            for slope, value in zip(slopes, replaced, strict=True):
                slope[index] = value.mul_(weight).to(slope.dtype)
        ctx.save_for_backward(*slopes)
        ctx.shape = logits[0].shape
        return (loss * scale).to(torch.float64 if logits[0].dtype == torch.float64 else torch.float32)

    @staticmethod
    def backward(ctx, upstream):
        return (None, None, None, None, *((g * upstream).to(g.dtype).view(ctx.shape) for g in ctx.saved_tensors))


def nll(a: Tensor, b: Tensor, c: Tensor, counts: Nonzero, measured: Tensor | None = None) -> Tensor:
    """Mean negative log-likelihood of a batch under its three logits.

    Every entry first gets the loss of a zero (dense, in float32; on a CPU in one pass, see
    :mod:`shest.systems.zinb_cpu`); the non-zero counts then replace theirs (sparse, in float64).

    Parameters
    ----------
    a, b, c
        Logits (n, g) of mean, dispersion and inflation: bfloat16, float32 or float64.
    counts
        Non-zero counts of the batch, on the logits' device.
    measured
        Bool (n, g): entries that were measured; the others do not count. All, where None.

    Returns
    -------
    scalar, float32 (float64 for float64 logits), differentiable once by the logits
    """
    return FusedNLL.apply(_dense, _count_terms, counts, measured, a, b, c)


def mean_variance(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Expected count and variance of a zero-inflated negative binomial, in float32 or float64.

    mean = (1 - pi) mu; variance = (1 - pi) mu (1 + mu (pi + 1 / theta)), theta at least 1e-6 in it.
    """
    dtype = torch.float64 if a.dtype == torch.float64 else torch.float32
    a, b, c = a.to(dtype), b.to(dtype), c.to(dtype)
    mu, theta = softplus(a), softplus(b).clamp_(min=MOMENT_FLOOR)
    mean = torch.sigmoid(-c) * mu
    return mean, mean * (1 + mu * (torch.sigmoid(c) + 1 / theta))


def draw(a: Tensor, b: Tensor, c: Tensor, keys: np.ndarray, seed: int) -> np.ndarray:
    """Draw counts (n, g), uint16, of cells by their logits; see :func:`shest.systems.zinb_draw.draw`."""
    parameters = softplus(a.float()), softplus(b.float()).clamp_(min=MOMENT_FLOOR), torch.sigmoid(c.float())
    return zinb_draw.draw(*(p.cpu().numpy() for p in parameters), keys, seed, torch.get_num_threads())
