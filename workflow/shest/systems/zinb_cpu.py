"""The dense part of :mod:`shest.systems.zinb` on a CPU: one pass over the logits, in float32, for numba to vectorise.

exp and log are polynomials (after Cephes' expf and logf, errors below 1e-7), since calls of a mathematical library
would keep the loop scalar, and a chain of tensor operations reads and writes memory some forty times.
"""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

F = np.float32
BLOCK = 4096  # entries whose values are summed in float32; the sums are added in float64
TASK = 64 * BLOCK  # entries a thread works on at once
FLOOR = F(1e-30)
EXACT = {"contract", "nnan", "ninf", "nsz"}  # the order of operations is kept: the polynomials rely on it


@numba.njit(inline="always")
def exp_negative(x):
    """exp(x) for x <= 0; exp(-87) below."""
    x = max(x, F(-87.0))
    n = np.rint(x * F(1.4426950408889634))
    r = x - n * F(0.693359375) - n * F(-2.12194440e-4)
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    p = p * r * r + r + F(1.0)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@numba.njit(inline="always")
def log1p(x):
    """log(1 + x) for x >= 0, with a small relative error also for small x."""
    bits = np.float32(F(1.0) + x).view(np.int32)
    exponent = (bits - np.int32(0x3F3504F3)) >> np.int32(23)  # of 1 + x, with a mantissa of 0.71 to 1.41
    m = np.int32(bits - (exponent << np.int32(23))).view(np.float32) - F(1.0)
    m = x if exponent == 0 else m
    p = F(7.0376836292e-2)
    p = p * m + F(-1.1514610310e-1)
    p = p * m + F(1.1676998740e-1)
    p = p * m + F(-1.2420140846e-1)
    p = p * m + F(1.4249322787e-1)
    p = p * m + F(-1.6668057665e-1)
    p = p * m + F(2.0000714765e-1)
    p = p * m + F(-2.4999993993e-1)
    p = p * m + F(3.3333331174e-1)
    square = m * m
    tail = p * m * square + F(-2.12194440e-4) * F(exponent) - F(0.5) * square
    return m + tail + F(0.693359375) * F(exponent)


@numba.njit(inline="always")
def _terms(a, b, c):
    """-log P(0) and its derivatives by the three logits; the formulas are those of ``zinb._zero_terms``."""
    small_a, small_b, small_c = exp_negative(-abs(a)), exp_negative(-abs(b)), exp_negative(-abs(c))
    mu = max(max(a, F(0)) + log1p(small_a), FLOOR)
    theta = max(max(b, F(0)) + log1p(small_b), FLOOR)
    log_ratio = log1p(mu / theta)
    log_zero = -theta * log_ratio
    odds = log_zero - c
    small = exp_negative(-abs(odds))
    from_nb = (F(1) if odds >= 0 else small) / (F(1) + small)
    value = max(c, F(0)) - max(c, log_zero) + log1p(small_c) - log1p(small)
    share = F(1) / (mu + theta)
    by_a = theta * share * from_nb * (F(1) if a >= 0 else small_a) / (F(1) + small_a)
    by_b = (log_ratio - mu * share) * from_nb * (F(1) if b >= 0 else small_b) / (F(1) + small_b)
    by_c = (F(1) if c >= 0 else small_c) / (F(1) + small_c) + from_nb - F(1)
    return value, by_a, by_b, by_c


@numba.njit(inline="always")
def read_bf16(bits):
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@numba.njit(inline="always")
def write_bf16(x):
    """Round to the nearest bfloat16, ties to even."""
    bits = np.float32(x).view(np.uint32)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@numba.njit(fastmath=True, cache=True)
def add_up(values):
    total = F(0)
    for i in range(values.size):
        total += values[i]
    return total


@numba.njit(fastmath=EXACT, error_model="numpy", cache=True)
def _block_f32(a, b, c, mask, scale, by_a, by_b, by_c, value):
    for i in range(a.size):
        v, x, y, z = _terms(a[i], b[i], c[i])
        weight = F(mask[i]) * scale
        value[i] = v * F(mask[i])
        by_a[i], by_b[i], by_c[i] = x * weight, y * weight, z * weight


@numba.njit(fastmath=EXACT, error_model="numpy", cache=True)
def _block_bf16(a, b, c, mask, scale, by_a, by_b, by_c, value):
    for i in range(a.size):
        v, x, y, z = _terms(read_bf16(a[i]), read_bf16(b[i]), read_bf16(c[i]))
        weight = F(mask[i]) * scale
        value[i] = v * F(mask[i])
        by_a[i], by_b[i], by_c[i] = write_bf16(x * weight), write_bf16(y * weight), write_bf16(z * weight)


@numba.njit(nogil=True, cache=True)
def _run_f32(a, b, c, mask, scale, by_a, by_b, by_c):
    total, value, everything = 0.0, np.empty(BLOCK, np.float32), np.ones(BLOCK, np.uint8)
    for start in range(0, a.size, BLOCK):
        s = slice(start, min(start + BLOCK, a.size))
        held = mask[s] if mask.size else everything
        _block_f32(a[s], b[s], c[s], held, scale, by_a[s], by_b[s], by_c[s], value)
        total += add_up(value[: s.stop - s.start])
    return total


@numba.njit(nogil=True, cache=True)
def _run_bf16(a, b, c, mask, scale, by_a, by_b, by_c):
    total, value, everything = 0.0, np.empty(BLOCK, np.float32), np.ones(BLOCK, np.uint8)
    for start in range(0, a.size, BLOCK):
        s = slice(start, min(start + BLOCK, a.size))
        held = mask[s] if mask.size else everything
        _block_bf16(a[s], b[s], c[s], held, scale, by_a[s], by_b[s], by_c[s], value)
        total += add_up(value[: s.stop - s.start])
    return total


def zero_terms(logits, mask, scale, slopes, threads):
    """Sum -log P(0) over all entries, and write its derivatives.

    Parameters
    ----------
    logits : three flat arrays (n,), float32, or the bits of bfloat16 as uint16
    mask : (n,) uint8, 0 where an entry does not count; empty where all do
    scale : factor of the derivatives
    slopes : three arrays like the logits, written
    threads : at most

    Returns
    -------
    float : sum over the entries that count; the same for any number of threads
    """
    run = _run_bf16 if logits[0].dtype == np.uint16 else _run_f32
    parts = [slice(start, start + TASK) for start in range(0, logits[0].size, TASK)]

    def work(part):
        return run(*(x[part] for x in logits), mask[part], F(scale), *(x[part] for x in slopes))

    if threads == 1 or len(parts) == 1:
        return float(sum(map(work, parts)))
    with ThreadPoolExecutor(threads) as pool:  # not numba's own threads: they and torch's would wait for each other
        return float(sum(pool.map(work, parts)))
