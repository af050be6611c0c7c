"""Zero-inflated negative binomial of counts, on logits: fused loss with its gradients, and moments.

A gene's count is 0 with probability pi, else negative binomial with mean mu and inverse dispersion theta
(variance mu + mu^2 / theta). A network gives three logits: ``mu = softplus(a)``, ``theta = softplus(b)``,
``pi = sigmoid(c)``.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.special import gammaln
from torch import Tensor

FLOOR = 1e-30  # of mu and theta: logarithms and quotients stay finite in float32
MOMENT_FLOOR = 1e-6  # of theta in the variance: mu^2 / theta stays finite in float32
CHUNK = 65_536  # elements worked on at once on a CPU: the intermediate results stay in its caches


class Nonzero(NamedTuple):
    """The non-zero counts of a batch of ``n`` cells and ``g`` genes.

    index : (m,) int64, place in the flattened (n, g) batch, each at most once
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
    """Return log Gamma(x) and its derivative for x > 0, in float64 to about 1e-13.

    The argument is raised by 8 (the recurrence needs one logarithm and a product), where Stirling's series has
    converged. Several times faster than two calls of torch, which are not vectorised.
    """
    product, slope = x, torch.ones_like(x)  # x (x + 1) ... (x + 7) and its derivative
    for step in range(1, 8):
        raised = x + step
        slope = slope * raised + product
        product = product * raised
    large = torch.clamp(product, max=1e280)
    z = x + 8
    log_z, w = z.log(), 1 / (z * z)
    series = (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w / 1188)))) / z
    series_slope = w * (1 / 12 - w * (1 / 120 - w * (1 / 252 - w * (1 / 240 - w / 132))))
    lgamma = (z - 0.5) * log_z - z + 0.5 * np.log(2 * np.pi) + series - large.log()
    return lgamma, log_z - 0.5 / z - series_slope - slope / product


def _log1p(x: Tensor) -> Tensor:
    """log(1 + x) for x >= 0, exact also where 1 + x rounds to 1.

    By the plain logarithm, since torch's log1p, and with it softplus and logaddexp, were seen to run 20 times
    slower on a CPU after some other operations (dropout among them).
    """
    u = x + 1
    return u.log().add_((x - (u - 1)).div_(u))


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without a threshold."""
    return _log1p(x.abs().neg_().exp_()).add_(x.clamp(min=0))


def _rates(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """mu, theta, log(1 + mu/theta) and the log-probability of a negative binomial's zero."""
    mu, theta = softplus(a).clamp_(min=FLOOR), softplus(b).clamp_(min=FLOOR)
    log_ratio = _log1p(mu / theta)
    return mu, theta, log_ratio, -theta * log_ratio


def _zero_terms(a: Tensor, b: Tensor, c: Tensor, gradients: bool) -> tuple[Tensor, list[Tensor]]:
    """-log P(0) = -log(pi + (1 - pi) NB(0)) and its derivatives by the three logits."""
    mu, theta, log_ratio, log_zero = _rates(a, b)
    odds = log_zero - c
    # softplus(c) - logaddexp(c, log_zero), with one logarithm for both
    value = (c.abs().neg_().exp_().add_(1)).div_(odds.abs().neg_().exp_().add_(1)).log_()
    value.add_(c.clamp(min=0)).sub_(torch.maximum(c, log_zero))
    if not gradients:
        return value, []
    from_nb = odds.sigmoid_()  # probability that the zero is not an inflated one
    total = mu + theta
    by_mu = (theta / total).mul_(from_nb).mul_(torch.sigmoid(a))
    by_theta = log_ratio.sub_(mu.div_(total)).mul_(from_nb).mul_(torch.sigmoid(b))
    by_pi = torch.sigmoid(c).add_(from_nb).sub_(1)
    return value, [by_mu, by_theta, by_pi]


def _count_terms(a: Tensor, b: Tensor, c: Tensor, k: Tensor, log_factorial: Tensor) -> tuple[Tensor, list[Tensor]]:
    """-log P(k) of non-zero counts k, and its derivatives by the three logits."""
    mu, theta, log_ratio, log_zero = _rates(a, b)
    total = mu + theta
    upper, upper_slope = lgamma_digamma(theta + k)
    lower, lower_slope = lgamma_digamma(theta)
    log_nb = upper - lower - log_factorial + log_zero + k * (mu / total).log()
    value = softplus(c) - log_nb
    by_mu = theta * (mu - k) / (mu * total) * torch.sigmoid(a)
    by_theta = (lower_slope - upper_slope + log_ratio - (mu - k) / total) * torch.sigmoid(b)
    return value, [by_mu, by_theta, torch.sigmoid(c)]


class _FusedNLL(torch.autograd.Function):
    """Mean negative log-likelihood; the gradients are made in the forward pass, while the data are in cache."""

    @staticmethod
    def forward(ctx, a, b, c, index, count, log_factorial, measured):
        dtype = torch.float64 if a.dtype == torch.float64 else torch.float32
        flat = [logit.reshape(-1) for logit in (a, b, c)]
        mask = None if measured is None else measured.reshape(-1)
        scale = 1 / (flat[0].numel() if mask is None else mask.sum(dtype=torch.float64).clamp_(min=1))
        wanted = any(ctx.needs_input_grad[:3])
        gradients = [torch.empty_like(logit) for logit in flat] if wanted else []
        step = CHUNK if a.device.type == "cpu" else max(flat[0].numel(), 1)
        loss = torch.zeros((), dtype=torch.float64, device=a.device)
        for start in range(0, flat[0].numel(), step):
            part = slice(start, start + step)
            value, slopes = _zero_terms(*(logit[part].to(dtype) for logit in flat), wanted)
            if mask is not None:
                value.mul_(mask[part])
            loss += value.sum(dtype=torch.float64)
            for gradient, slope in zip(gradients, slopes, strict=False):
                slope.mul_(scale)
                gradient[part] = slope if mask is None else slope.mul_(mask[part])
        step = CHUNK // 4 if a.device.type == "cpu" else max(index.numel(), 1)
        for start in range(0, index.numel(), step):
            part = slice(start, start + step)
            at = index[part]
            logits = [logit[at].to(dtype) for logit in flat]
            value, slopes = _count_terms(*(logit.double() for logit in logits), count[part], log_factorial[part])
            value -= _zero_terms(*logits, False)[0]
            weight = None if mask is None else mask[at]
            loss += (value if weight is None else value * weight).sum()
            for gradient, slope in zip(gradients, slopes, strict=False):
                slope = slope * scale if weight is None else slope * scale * weight
                gradient[at] = slope.to(gradient.dtype)
        ctx.save_for_backward(*gradients)
        ctx.shape = a.shape
        return (loss * scale).to(dtype)

    @staticmethod
    def backward(ctx, upstream):
        return (*((g * upstream).to(g.dtype).view(ctx.shape) for g in ctx.saved_tensors), None, None, None, None)


def nll(a: Tensor, b: Tensor, c: Tensor, counts: Nonzero, measured: Tensor | None = None) -> Tensor:
    """Mean negative log-likelihood of a batch under its three logits.

    Every entry first gets the loss of a zero (dense, in float32); the non-zero counts then replace theirs
    (sparse, in float64). Logits of lower precision are raised chunk by chunk.

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
    return _FusedNLL.apply(a, b, c, *counts, measured)


def mean_variance(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Expected count and variance of a zero-inflated negative binomial, in float32 or float64.

    mean = (1 - pi) mu; variance = (1 - pi) mu (1 + mu (pi + 1 / theta)), theta at least 1e-6 in it.
    """
    dtype = torch.float64 if a.dtype == torch.float64 else torch.float32
    a, b, c = a.to(dtype), b.to(dtype), c.to(dtype)
    mu, theta = softplus(a), softplus(b).clamp_(min=MOMENT_FLOOR)
    mean = torch.sigmoid(-c) * mu
    return mean, mean * (1 + mu * (torch.sigmoid(c) + 1 / theta))
