"""Nuclei of a network's maps: HoVer-Net's watershed (Graham et al. 2019), compiled, the same whatever the window.

Distances rise from -1 to 1 across a nucleus and fall where the next one begins: there, and at the edge, lies a ridge.
HoVer-Net scales the ridges by the extremes of the image that it sees; here they have a fixed scale, so that a nucleus
does not depend on its block.
"""

import numba
import numpy as np

RIDGE = 0.02  # above it a pixel is edge, not seed; by PQ on validation blocks, among 0.02 to 0.3
REACH = 1  # px to each side over which a step of the distances is measured; likewise, of 1 and 2
LEAST_SEED = 3  # px
LEVELS = 256


@numba.njit(nogil=True, cache=True, error_model="numpy")
def ridges(mask, distance, reach):
    """Return how steeply the distances fall, (h, w) float32: 1 between two nuclei that touch, at most.

    ``mask``: bool (h, w); ``distance``: (2, h, w), horizontal and vertical, 0 is taken outside of the mask.
    """
    height, width = mask.shape
    found = np.zeros((height, width), np.float32)
    total = np.zeros(3, np.float32)
    for y in range(height):
        for x in range(width):
            if not mask[y, x]:
                continue
            steepest = np.float32(0)
            for axis in range(2):
                for side in range(-1, 2):
                    fall = np.float32(0)
                    for along in range(1, reach + 1):
                        for sign in range(-1, 2, 2):
                            yy, xx = (y + side, x + sign * along) if axis == 0 else (y + sign * along, x + side)
                            if 0 <= yy < height and 0 <= xx < width and mask[yy, xx]:
                                fall -= sign * distance[axis, yy, xx]
                    total[side + 1] = fall
                steepest = max(steepest, (total[0] + 2 * total[1] + total[2]) / (8 * reach))
            found[y, x] = min(steepest, np.float32(1))
    return found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def parts(mask, least):
    """Number the parts of a mask that touch edge to edge, of ``least`` px or more: int32 (h, w), and how many."""
    height, width = mask.shape
    labels = np.zeros((height, width), np.int32)
    stack = np.empty(height * width, np.int32)
    number = 0
    for y in range(height):
        for x in range(width):
            if not mask[y, x] or labels[y, x] != 0:
                continue
            top, size = 0, 1
            stack[0] = y * width + x
            labels[y, x] = number + 1
            while top < size:
                v, u = stack[top] // width, stack[top] % width
                top += 1
                for d in range(4):
                    vv = v + (1 if d == 0 else -1 if d == 1 else 0)
                    uu = u + (1 if d == 2 else -1 if d == 3 else 0)
                    if 0 <= vv < height and 0 <= uu < width and mask[vv, uu] and labels[vv, uu] == 0:
                        labels[vv, uu] = number + 1
                        stack[size] = vv * width + uu
                        size += 1
            if size >= least:
                number += 1
            else:
                for k in range(size):
                    labels[stack[k] // width, stack[k] % width] = -1
    for y in range(height):
        for x in range(width):
            labels[y, x] = max(labels[y, x], 0)
    return labels, number


@numba.njit(nogil=True, cache=True, error_model="numpy")
def watershed(height_map, labels, mask):
    """Grow labels over a mask in place, lowest first, of equal heights those reached first; edge to edge.

    ``height_map``: uint8 (h, w).
    """
    rows, columns = mask.shape
    head = np.full(256, -1, np.int32)
    tail = np.full(256, -1, np.int32)
    after = np.full(rows * columns, -1, np.int32)
    waits = np.zeros(rows * columns, np.bool_)
    for place in range(rows * columns):
        if labels[place // columns, place % columns] > 0:
            level = height_map[place // columns, place % columns]
            if head[level] < 0:
                head[level] = place
            else:
                after[tail[level]] = place
            tail[level] = place
            waits[place] = True
    level = 0
    while level < 256:
        place = head[level]
        if place < 0:
            level += 1
            continue
        head[level] = after[place]
        if head[level] < 0:
            tail[level] = -1
        y, x = place // columns, place % columns
        lowest = level
        for d in range(4):
            yy = y + (1 if d == 0 else -1 if d == 1 else 0)
            xx = x + (1 if d == 2 else -1 if d == 3 else 0)
            if yy < 0 or xx < 0 or yy >= rows or xx >= columns or not mask[yy, xx]:
                continue
            there = yy * columns + xx
            if waits[there]:
                continue
            waits[there] = True
            labels[yy, xx] = labels[y, x]
            own = max(int(height_map[yy, xx]), level)
            after[there] = -1
            if head[own] < 0:
                head[own] = there
            else:
                after[tail[own]] = there
            tail[own] = there
            lowest = min(lowest, own)
        level = lowest


def find_instances(probability: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Separate the nuclei of a window.

    Parameters
    ----------
    probability
        (h, w) of being nucleus.
    distance
        (2, h, w) float32: horizontal and vertical.

    Returns
    -------
    int32 (h, w): 0 for no nucleus, else 1 to n.
    """
    mask = probability > 0.5
    steep = ridges(mask, np.ascontiguousarray(distance, np.float32), REACH)
    labels, number = parts(mask & (steep < RIDGE), LEAST_SEED)
    whole, _ = parts(mask, 1)
    labels = _seed_the_rest(whole, labels, number)
    watershed((steep * (LEVELS - 1)).astype(np.uint8), labels, mask)
    return labels


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _seed_the_rest(whole, labels, number):
    """Give every part of the mask without a seed a label of its own."""
    seeded = np.zeros(whole.max() + 1, np.int32)
    for y in range(whole.shape[0]):
        for x in range(whole.shape[1]):
            if labels[y, x] > 0:
                seeded[whole[y, x]] = -1
    for y in range(whole.shape[0]):
        for x in range(whole.shape[1]):
            part = whole[y, x]
            if part > 0 and seeded[part] >= 0:
                if seeded[part] == 0:
                    number += 1
                    seeded[part] = number
                labels[y, x] = seeded[part]
    return labels


@numba.njit(nogil=True, cache=True, error_model="numpy")
def distances(labels, n):
    """Return the true distances of a label map, float32 (2, h, w): from the nucleus's centroid, each side scaled to 1.

    Labels are 1 to ``n``; pixels of none are 0.
    """
    height, width = labels.shape
    centre = np.zeros((n + 1, 2))
    number = np.zeros(n + 1, np.int64)
    for y in range(height):
        for x in range(width):
            k = labels[y, x]
            centre[k, 0] += x
            centre[k, 1] += y
            number[k] += 1
    reach = np.zeros((n + 1, 4))
    for k in range(1, n + 1):
        if number[k]:
            centre[k] /= number[k]
    for y in range(height):
        for x in range(width):
            k = labels[y, x]
            if k:
                reach[k, 0] = max(reach[k, 0], centre[k, 0] - x)
                reach[k, 1] = max(reach[k, 1], x - centre[k, 0])
                reach[k, 2] = max(reach[k, 2], centre[k, 1] - y)
                reach[k, 3] = max(reach[k, 3], y - centre[k, 1])
    found = np.zeros((2, height, width), np.float32)
    for y in range(height):
        for x in range(width):
            k = labels[y, x]
            if k:
                across, along = x - centre[k, 0], y - centre[k, 1]
                found[0, y, x] = across / max(reach[k, 0] if across < 0 else reach[k, 1], 1e-6)
                found[1, y, x] = along / max(reach[k, 2] if along < 0 else reach[k, 3], 1e-6)
    return found
