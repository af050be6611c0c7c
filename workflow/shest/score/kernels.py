"""The loops that scores of expression are made of, over all cells of some genes at once, for numba to compile.

Values are (cells, genes) float32, the genes of a cell side by side, so that one gather brings those of all genes.
"""

import numba
import numpy as np

HALF = 1 << 16


@numba.njit(nogil=True, cache=True)
def group_sums(x, y, mean_x, mean_y, group, groups):
    """Sum what Pearson's R needs by group: (groups, 6, genes) float64 of n, x, y, xx, yy, xy, each side centred."""
    cells, genes = x.shape
    sums = np.zeros((groups, 6, genes))
    for i in range(cells):
        of_group = sums[group[i]]
        for g in range(genes):
            a, b = np.float64(x[i, g]) - mean_x[g], np.float64(y[i, g]) - mean_y[g]
            of_group[0, g] += 1.0
            of_group[1, g] += a
            of_group[2, g] += b
            of_group[3, g] += a * a
            of_group[4, g] += b * b
            of_group[5, g] += a * b
    return sums


@numba.njit(inline="always")
def _sum_around(values, neighbours, i, around):
    """Sum the values (cells, genes) of the neighbours of cell i by gene into ``around``."""
    around[:] = 0.0
    for j in range(neighbours.shape[1]):
        other = neighbours[i, j]
        for g in range(values.shape[1]):
            around[g] += values[other, g]


@numba.njit(nogil=True, cache=True)
def moran(values, mean, neighbours):
    """Moran's I by gene on neighbours (cells, k), each of weight 1 / k; NaN where a gene is constant."""
    cells, genes = values.shape
    k = neighbours.shape[1]
    cross, square, around = np.zeros(genes), np.zeros(genes), np.empty(genes)
    for i in range(cells):
        _sum_around(values, neighbours, i, around)
        for g in range(genes):
            z = np.float64(values[i, g]) - mean[g]
            cross[g] += z * (around[g] - k * mean[g])
            square[g] += z * z
    result = np.full(genes, np.nan)
    for g in range(genes):
        if square[g] > 0:
            result[g] = cross[g] / k / square[g]
    return result


@numba.njit(inline="always")
def _key(bits):
    """Turn the bits of a float32 into a number in the order of the floats; -0 is 0."""
    if bits == np.uint32(0x80000000):
        bits = np.uint32(0)
    return ~bits if bits >> np.uint32(31) else bits | np.uint32(0x80000000)


@numba.njit(nogil=True, cache=True)
def ranks(values):
    """Rank each gene's values from 1, ties by their mean: (cells, genes) float32 to float32, exact to 8 million cells.

    Counted by the upper half of the bits where the lower is the same in all, as in whole numbers below 256 and in
    expectations rounded to 7 bits; else sorted by the lower half, then by the upper.
    """
    cells, genes = values.shape
    result = np.empty((cells, genes), np.float32)
    keys, order, other = np.empty(cells, np.uint32), np.empty(cells, np.int64), np.empty(cells, np.int64)
    count = np.zeros(HALF + 1, np.int64)
    bits = values.view(np.uint32)
    for g in range(genes if cells else 0):
        low, first = False, _key(bits[0, g]) & np.uint32(0xFFFF)
        for i in range(cells):
            keys[i] = _key(bits[i, g])
            low = low or (keys[i] & np.uint32(0xFFFF)) != first
        if not low:
            count[:] = 0
            for i in range(cells):
                count[(keys[i] >> np.uint32(16)) + 1] += 1
            for b in range(HALF):
                count[b + 1] += count[b]
            for i in range(cells):
                b = keys[i] >> np.uint32(16)
                result[i, g] = 0.5 * (count[b] + count[b + 1] + 1)
            continue
        for i in range(cells):
            order[i] = i
        for shift in (np.uint32(0), np.uint32(16)):
            count[:] = 0
            for i in range(cells):
                count[((keys[i] >> shift) & np.uint32(0xFFFF)) + 1] += 1
            for b in range(HALF):
                count[b + 1] += count[b]
            for place in range(cells):
                i = order[place]
                b = (keys[i] >> shift) & np.uint32(0xFFFF)
                other[count[b]] = i
                count[b] += 1
            order, other = other, order
        start = 0
        while start < cells:
            stop = start + 1
            while stop < cells and keys[order[stop]] == keys[order[start]]:
                stop += 1
            for place in range(start, stop):
                result[order[place], g] = 0.5 * (start + stop + 1)
            start = stop
    return result


@numba.njit(nogil=True, cache=True)
def high_pairs(high, ranks, block, blocks):
    """Count pairs of a high and a low cell: (5, blocks, genes) float64, by block.

    High cells; low cells; pairs whose high cell is of the block and ranked above its low one, pairs whose low cell is
    of the block, and pairs of which both are; a tie counts one half.

    ``high``: (cells, genes) bool; ``ranks``: of :func:`ranks`.
    """
    cells, genes = high.shape
    sums = np.zeros((5, blocks, genes))
    start, order = np.zeros(2 * cells + 2, np.int64), np.empty(cells, np.int64)
    low_before, low_tied = np.zeros(blocks, np.int64), np.zeros(blocks, np.int64)
    for g in range(genes):
        start[:] = 0
        low_before[:] = 0
        for i in range(cells):
            start[int(2 * ranks[i, g]) + 1] += 1
            sums[0 if high[i, g] else 1, block[i], g] += 1.0
        for k in range(2 * cells + 1):
            start[k + 1] += start[k]
        for i in range(cells):
            k = int(2 * ranks[i, g])
            order[start[k]] = i
            start[k] += 1
        above, below, first = sums[0, :, g].sum(), 0.0, 0
        while first < cells:
            last, tied = first, 0
            while last < cells and ranks[order[last], g] == ranks[order[first], g]:
                i = order[last]
                if not high[i, g]:
                    low_tied[block[i]] += 1
                    tied += 1
                last += 1
            higher = last - first - tied
            above -= higher
            for place in range(first, last):
                b = block[order[place]]
                if high[order[place], g]:
                    sums[2, b, g] += below + 0.5 * tied
                    sums[4, b, g] += low_before[b] + 0.5 * low_tied[b]
                else:
                    sums[3, b, g] += above + 0.5 * higher
            for place in range(first, last):
                b = block[order[place]]
                low_before[b] += low_tied[b]
                low_tied[b] = 0
            below += tied
            first = last
    return sums


@numba.njit(nogil=True, cache=True)
def maps(x, y, mean_x, mean_y, high_x, high_y, neighbours, block, blocks):
    """Compare two maps of each gene on neighbours (cells, k): (blocks, 8, genes) float64, sums over a block's cells.

    With z the values less their mean and W of weights 1 / k: z_x W z_x, z_y W z_y, z_y W z_x, z_x², z_y²; then how many
    cells are high in x, in y, in both, where the mean of a cell and its neighbours is above ``high_x``, ``high_y``.
    """
    cells, genes = x.shape
    k = neighbours.shape[1]
    sums = np.zeros((blocks, 8, genes))
    around_x, around_y = np.empty(genes), np.empty(genes)
    edge_x, edge_y = high_x * (k + 1), high_y * (k + 1)
    for i in range(cells):
        _sum_around(x, neighbours, i, around_x)
        _sum_around(y, neighbours, i, around_y)
        found = sums[block[i]]
        for g in range(genes):
            z, v = np.float64(x[i, g]) - mean_x[g], np.float64(y[i, g]) - mean_y[g]
            near = around_x[g] - k * mean_x[g]
            found[0, g] += z * near
            found[1, g] += v * (around_y[g] - k * mean_y[g])
            found[2, g] += v * near
            found[3, g] += z * z
            found[4, g] += v * v
            in_x = np.float64(around_x[g] + x[i, g] > edge_x[g])
            in_y = np.float64(around_y[g] + y[i, g] > edge_y[g])
            found[5, g] += in_x
            found[6, g] += in_y
            found[7, g] += in_x * in_y
    sums[:, :3] /= k
    return sums


@numba.njit(nogil=True, cache=True)
def weighted_sums(values, weight):
    """Sum (cells, genes) over cells, each with its weight: (genes,) float64."""
    cells, genes = values.shape
    sums = np.zeros(genes)
    for i in range(cells):
        for g in range(genes):
            sums[g] += weight[i] * values[i, g]
    return sums


@numba.njit(nogil=True, cache=True)
def shifted_products(x, y, mean_x, order, shifts):
    """Sum z_x y, z less its mean and y moved along an order of the cells by each shift: (shifts, genes) float64."""
    cells, genes = x.shape
    sums = np.zeros((len(shifts), genes))
    z = np.empty(genes)  # they add up to 0: the mean of y would take nothing away
    for i in range(cells):
        for g in range(genes):
            z[g] = np.float64(x[order[i], g]) - mean_x[g]
        for s in range(len(shifts)):
            other = order[(i + shifts[s]) % cells]
            for g in range(genes):
                sums[s, g] += z[g] * y[other, g]
    return sums


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def unit_sums(x, y):
    """Sum over genes what Pearson's R of each cell needs: (5, cells) float64 of x, y, xx, yy, xy."""
    cells, genes = x.shape
    sums = np.zeros((5, cells))
    for i in range(cells):
        for g in range(genes):
            a, b = np.float64(x[i, g]), np.float64(y[i, g])
            sums[0, i] += a
            sums[1, i] += b
            sums[2, i] += a * a
            sums[3, i] += b * b
            sums[4, i] += a * b
    return sums
