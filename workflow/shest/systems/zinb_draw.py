"""Counts drawn from zero-inflated negative binomials: one pass, one uniform number an entry.

The uniform number is a hash of seed, cell and gene (SplitMix64, Steele et al. 2014), so that what is drawn of an entry
does not depend on the entries beside it, on blocks or on threads; the count is the quantile at it.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

MOST = 65_535  # what uint16 holds
LOG_SMALL = -700.0  # of P(0): below it exp is 0, and the sum from 0 on would never grow
TASK = 64  # cells a thread works on at once


@numba.njit(inline="always")
def _mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(inline="always")
def _uniform(state, step):
    """Return a number in [0, 1), the step-th of a stream."""
    return (_mix(state + step * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@numba.njit(inline="always")
def _quantile(u, mu, theta, log_zero):
    """Return the quantile at u of a negative binomial: the sum of its probabilities from 0 on."""
    k, p = 0, math.exp(log_zero)
    total, ratio = p, mu / (mu + theta)
    while u >= total and k < MOST:
        p *= (theta + k) / (k + 1) * ratio
        k += 1
        total += p
        if p < 1e-17 and k > mu:  # what is left of 1 is rounding
            break
    return k


@numba.njit(nogil=True, cache=True)
def _draw(mu, theta, pi, keys, seed, counts):
    for row in range(mu.shape[0]):
        state = _mix(keys[row] ^ _mix(seed))
        for gene in range(mu.shape[1]):
            u, zero = _uniform(state, np.uint64(gene)), np.float64(pi[row, gene])
            if u < zero:
                counts[row, gene] = 0
                continue
            m, t = np.float64(mu[row, gene]), np.float64(theta[row, gene])
            log_zero = -t * math.log1p(m / t)
            if log_zero > LOG_SMALL:
                counts[row, gene] = _quantile((u - zero) / (1.0 - zero), m, t, log_zero)
            else:  # hundreds of counts: as good as normal
                other = _uniform(~state, np.uint64(gene))
                z = math.sqrt(-2.0 * math.log(1.0 - other)) * math.cos(2.0 * math.pi * (u - zero) / (1.0 - zero))
                counts[row, gene] = min(max(np.rint(m + z * math.sqrt(m + m * m / t)), 0.0), MOST)


def draw(mu: np.ndarray, theta: np.ndarray, pi: np.ndarray, keys: np.ndarray, seed: int, threads: int) -> np.ndarray:
    """Draw counts of cells from (n, g) float32 mean, inverse dispersion and zero inflation.

    Parameters
    ----------
    keys
        (n,) uint64, the number of each cell.
    threads
        Parts of the cells that are drawn at once.

    Returns
    -------
    (n, g) uint16
    """
    counts, seed = np.empty(mu.shape, np.uint16), np.uint64(seed)

    def work(start: int) -> None:
        part = slice(start, start + TASK)
        _draw(mu[part], theta[part], pi[part], keys[part], seed, counts[part])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(0, len(mu), TASK)))
    return counts
