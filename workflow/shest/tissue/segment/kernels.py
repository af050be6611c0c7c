"""Compiled steps of the segmentation, on windows of the working grid.

Each result depends on absolute places and on pixels within a stated reach only, never on where a window begins: sums
run over the same pixels in the same order, ties go to what comes first by row, then column. That is what makes the
nuclei of a slide independent of its blocks.
"""

import numba
import numpy as np

STEP, DIAGONAL = 10, 14  # cost of a step of the flood: ten to the pixel
NONE = np.int32(2**30)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def resample(pixels, top, left, factor, first, out):
    """Average the pixels that each working pixel covers: (3, h, w) uint8 to ``out``, (h', w', 3) uint8.

    ``top``, ``left``: full-size row and column of the first of ``pixels``; ``first``: row and column of ``out`` on the
    working grid; ``factor``: full-size px to a working px, rows and columns.
    """
    _, height, width = pixels.shape
    line = np.empty((3, width), np.float32)
    for row in range(out.shape[0]):
        begin = max((first[0] + row) * factor[0] - top, 0.0)
        end = min((first[0] + row + 1) * factor[0] - top, float(height))
        line[:] = 0
        for y in range(int(begin), min(int(np.ceil(end)), height)):
            weight = np.float32((min(end, y + 1.0) - max(begin, float(y))) / (end - begin))
            for channel in range(3):
                for x in range(width):
                    line[channel, x] += weight * np.float32(pixels[channel, y, x])
        for column in range(out.shape[1]):
            begin_x = max((first[1] + column) * factor[1] - left, 0.0)
            end_x = min((first[1] + column + 1) * factor[1] - left, float(width))
            low, high = int(begin_x), min(int(np.ceil(end_x)), width)
            for channel in range(3):
                total = 0.0
                for x in range(low, high):
                    total += (min(end_x, x + 1.0) - max(begin_x, float(x))) * line[channel, x]
                out[row, column, channel] = np.uint8(total / (end_x - begin_x) + 0.5)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def density(rgb, table, out):
    """Look up the stain density of each colour: (h, w, 3) uint8 and (3, 256) float32 to ``out``, (h, w) float32."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = table[0, rgb[y, x, 0]] + table[1, rgb[y, x, 1]] + table[2, rgb[y, x, 2]]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def blur(image, kernel, out):
    """Convolve (h, w) float32 with a symmetric kernel along both axes; beyond the edge stands the edge's value."""
    height, width = image.shape
    reach = len(kernel) // 2
    line = np.empty(width + 2 * reach, np.float32)
    for y in range(height):
        centre = line[reach : reach + width]
        for x in range(width):
            centre[x] = kernel[reach] * image[y, x]
        for k in range(1, reach + 1):
            above, below = image[max(y - k, 0)], image[min(y + k, height - 1)]
            weight = kernel[reach + k]
            for x in range(width):
                centre[x] += weight * (above[x] + below[x])
        line[:reach] = line[reach]
        line[reach + width :] = line[reach + width - 1]
        target = out[y]
        for x in range(width):
            target[x] = kernel[reach] * centre[x]
        for k in range(1, reach + 1):
            weight = kernel[reach + k]
            before, after = line[reach - k : reach - k + width], line[reach + k : reach + k + width]
            for x in range(width):
                target[x] += weight * (before[x] + after[x])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def shrink(image, step, mean, square):
    """Average squares of ``step`` px, fewer at the end, and their pixels' squares: (h, w) to both, float32.

    ``mean`` and ``square`` have ceil(h / step) rows and ceil(w / step) columns.
    """
    height, width = image.shape
    for row in range(mean.shape[0]):
        for column in range(mean.shape[1]):
            total, total_square, number = 0.0, 0.0, 0
            for y in range(row * step, min((row + 1) * step, height)):
                for x in range(column * step, min((column + 1) * step, width)):
                    total += image[y, x]
                    total_square += image[y, x] * image[y, x]
                    number += 1
            mean[row, column], square[row, column] = total / number, total_square / number


@numba.njit(nogil=True, cache=True, error_model="numpy")
def subtract_background(image, small, step, share):
    """Subtract in place ``share`` of the background: ``small``, of squares of ``step`` px, linear in between."""
    height, width = image.shape
    last_row, last_column = small.shape[0] - 1, small.shape[1] - 1
    for y in range(height):
        v = min(max((y + 0.5) / step - 0.5, 0.0), float(last_row))
        row = min(int(v), max(last_row - 1, 0))
        below = min(row + 1, last_row)
        part_y = np.float32(v - row)
        for x in range(width):
            u = min(max((x + 0.5) / step - 0.5, 0.0), float(last_column))
            column = min(int(u), max(last_column - 1, 0))
            right = min(column + 1, last_column)
            part_x = np.float32(u - column)
            upper = small[row, column] + part_x * (small[row, right] - small[row, column])
            lower = small[below, column] + part_x * (small[below, right] - small[below, column])
            image[y, x] -= share * (upper + part_y * (lower - upper))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def difference(fine, coarse, out):
    """Put fine − coarse into ``out``."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = fine[y, x] - coarse[y, x]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def find_seeds(response, strength, radius, least_response, least_strength, margin):
    """Find the pixels whose response is the largest within ``radius`` px, by row, then column: int32 (n, 2) of y, x.

    Only those ``margin`` px or more from the edges are looked at; of equal ones the first is taken.
    """
    height, width = response.shape
    found = np.empty((1024, 2), np.int32)
    n = 0
    reach = int(radius)
    for y in range(margin[0], height - margin[1]):
        for x in range(margin[2], width - margin[3]):
            value = response[y, x]
            if not (value > least_response and strength[y, x] > least_strength):
                continue
            largest = True
            for dy in range(-reach, reach + 1):
                yy = y + dy
                if yy < 0 or yy >= height:
                    continue
                for dx in range(-reach, reach + 1):
                    xx = x + dx
                    if xx < 0 or xx >= width or dy * dy + dx * dx > radius * radius or (dy == 0 and dx == 0):
                        continue
                    other = response[yy, xx]
                    if other > value or (other == value and (dy < 0 or (dy == 0 and dx < 0))):
                        largest = False
                        break
                if not largest:
                    break
            if largest:
                if n == len(found):
                    bigger = np.empty((2 * n, 2), np.int32)
                    bigger[:n] = found
                    found = bigger
                found[n, 0], found[n, 1] = y, x
                n += 1
    return found[:n]


ALIVE, KEPT, DEAD = 0, 1, 2
ROUNDS = 3


@numba.njit(nogil=True, cache=True, error_model="numpy")
def choose_seeds(places, score, reach):
    """Choose among seeds of several sizes that lie in each other's reach: the highest score, then the next.

    ``places``: int32 (n, 2) of y, x, sorted by these; ``score``, ``reach`` (px): (n,). Two seeds exclude each other
    where they are nearer than the larger reach. In each of three rounds those are kept that are the best of all that
    are left around them, and what these exclude goes; what is not settled then is left out. A choice so depends on
    what lies within six reaches alone. Returns bool (n,); of equal scores the first is the better.
    """
    n = len(places)
    state = np.zeros(n, np.uint8)
    if n == 0:
        return state == KEPT
    far = max(reach.max(), 1.0)
    best = np.empty(n, np.bool_)
    for _ in range(ROUNDS):
        for turn in range(2):  # who is best; then who is excluded
            first = 0
            for p in range(n):
                while places[first, 0] < places[p, 0] - far:
                    first += 1
                if state[p] != ALIVE:
                    continue
                if turn == 0:
                    best[p] = True
                for q in range(first, n):
                    dy = places[q, 0] - places[p, 0]
                    if dy > far:
                        break
                    dx = places[q, 1] - places[p, 1]
                    limit = max(reach[p], reach[q])
                    if q == p or state[q] == DEAD or dy * dy + dx * dx >= limit * limit:
                        continue
                    if turn == 1:
                        if state[q] == KEPT:
                            state[p] = DEAD
                            break
                    elif score[q] > score[p] or (score[q] == score[p] and q < p):
                        best[p] = False
                        break
            if turn == 0:
                for p in range(n):
                    if state[p] == ALIVE and best[p]:
                        state[p] = KEPT
    return state == KEPT


@numba.njit(nogil=True, cache=True, error_model="numpy")
def flood(image, seeds, least, slope, most):
    """Give each pixel above ``least`` to the seed that is reached at the lowest cost: labels 1 to n, int32 (h, w).

    A step costs its length, ten to the pixel, and ``slope`` for each unit by which the image changes; no path costs
    more than ``most``, so that a label depends on what lies within most / 10 px alone (a watershed by topographic
    distance, Meyer 1994, with a bound). Whole-number costs, taken up by Dial's buckets; of equal ones the first seed's.
    """
    height, width = image.shape
    cost = np.full((height, width), NONE, np.int32)
    labels = np.zeros((height, width), np.int32)
    head = np.full(most + 1, -1, np.int32)
    capacity = max(4 * len(seeds), height * width // 2, 64)
    place = np.empty(capacity, np.int32)
    after = np.empty(capacity, np.int32)
    n = 0
    for k in range(len(seeds)):
        y, x = seeds[k]
        cost[y, x], labels[y, x] = 0, k + 1
        place[n], after[n] = y * width + x, head[0]
        head[0] = n
        n += 1
    for level in range(most + 1):
        while head[level] >= 0:
            entry = head[level]
            head[level] = after[entry]
            y, x = place[entry] // width, place[entry] % width
            if cost[y, x] != level:
                continue
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    yy, xx = y + dy, x + dx
                    if (dy == 0 and dx == 0) or yy < 0 or xx < 0 or yy >= height or xx >= width:
                        continue
                    if not image[yy, xx] > least:
                        continue
                    length = DIAGONAL if dy != 0 and dx != 0 else STEP
                    total = level + length + int(slope * abs(image[y, x] - image[yy, xx]))
                    if total > most:
                        continue
                    if total < cost[yy, xx]:
                        cost[yy, xx], labels[yy, xx] = total, labels[y, x]
                        if n == capacity:
                            capacity *= 2
                            place, after = _longer(place, capacity), _longer(after, capacity)
                        place[n], after[n] = yy * width + xx, head[total]
                        head[total] = n
                        n += 1
                    elif total == cost[yy, xx] and labels[y, x] < labels[yy, xx]:
                        labels[yy, xx] = labels[y, x]
    return labels


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _longer(values, capacity):
    longer = np.empty(capacity, values.dtype)
    longer[: len(values)] = values
    return longer


@numba.njit(nogil=True, cache=True, error_model="numpy")
def thresholds(labels, strength, n, least, share):
    """Return each label's threshold: ``share`` of its mean strength, at least ``least``; float32 (n + 1,)."""
    total = np.zeros(n + 1)
    number = np.zeros(n + 1, np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            total[labels[y, x]] += strength[y, x]
            number[labels[y, x]] += 1
    found = np.full(n + 1, np.inf, np.float32)
    for k in range(1, n + 1):
        if number[k]:
            found[k] = max(least, share * total[k] / number[k])
    return found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def boxes(labels, n):
    """Return first and last row, first and last column of each label, int32 (n + 1, 4); −1 where it has no pixel."""
    found = np.full((n + 1, 4), -1, np.int32)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            k = labels[y, x]
            if k == 0:
                continue
            if found[k, 0] < 0:
                found[k] = y, y, x, x
            else:
                found[k, 1] = y
                found[k, 2], found[k, 3] = min(found[k, 2], x), max(found[k, 3], x)
    return found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def outline_nuclei(labels, image, least, box, smooth, least_px, most_px, points, start):
    """Outline the nuclei of a label map.

    A nucleus is what of its label is not below the label's threshold, smoothed by a majority of ``smooth`` × ``smooth``
    pixels (1: not at all), its largest part without holes. Corners are cut: the outline goes through the middles of the
    pixels' edges, each the mean of itself (one half) and its neighbours, and every second is kept.

    ``points`` (float64, v, 2: x and y from the corner of the window's first pixel) and ``start`` (int64, n + 2) are
    filled in; returns the number of points, or −1 where they do not fit.
    """
    n = len(least) - 1
    used = 0
    reach = smooth // 2
    for k in range(1, n + 1):
        start[k] = used
        if box[k, 0] < 0:
            continue
        y0, x0 = box[k, 0] - reach - 1, box[k, 2] - reach - 1
        height, width = box[k, 1] - y0 + reach + 2, box[k, 3] - x0 + reach + 2
        raw = np.zeros((height, width), np.uint8)
        for y in range(box[k, 0], box[k, 1] + 1):
            for x in range(box[k, 2], box[k, 3] + 1):
                raw[y - y0, x - x0] = labels[y, x] == k and image[y, x] >= least[k]
        mask = _majority(raw, reach) if reach else raw
        parts, largest, y, x = _parts(mask)
        if not largest:
            continue
        ring = _trace(parts, largest, y, x)
        if not least_px <= _ring_area(ring) <= most_px:
            continue
        m = len(ring)
        if used + m // 2 + 1 > len(points):
            return -1
        for i in range(0, m - 1, 2):
            before, behind = ring[i - 1], ring[(i + 1) % m]
            points[used, 0] = x0 + (before[0] + 2 * ring[i, 0] + behind[0]) / 8
            points[used, 1] = y0 + (before[1] + 2 * ring[i, 1] + behind[1]) / 8
            used += 1
    start[n + 1] = used
    return used


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _majority(raw, reach):
    height, width = raw.shape
    mask = np.zeros_like(raw)
    half = (2 * reach + 1) ** 2 // 2
    for y in range(reach, height - reach):
        for x in range(reach, width - reach):
            number = 0
            for yy in range(y - reach, y + reach + 1):
                for xx in range(x - reach, x + reach + 1):
                    number += raw[yy, xx]
            mask[y, x] = number > half
    return mask


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _parts(mask):
    """Number the parts of a mask (edge to edge); return them, the number of the largest and its first pixel."""
    height, width = mask.shape
    parts = np.zeros((height, width), np.int16)
    stack = np.empty((height * width, 2), np.int32)
    largest, number, first_y, first_x, best = 0, 0, 0, 0, 0
    for y in range(height):
        for x in range(width):
            if not mask[y, x] or parts[y, x]:
                continue
            number += 1
            top, size = 1, 0
            stack[0, 0], stack[0, 1] = y, x
            parts[y, x] = number
            while top:
                top -= 1
                v, u = stack[top]
                size += 1
                for d in range(4):
                    vv = v + (1 if d == 0 else -1 if d == 1 else 0)
                    uu = u + (1 if d == 2 else -1 if d == 3 else 0)
                    if 0 <= vv < height and 0 <= uu < width and mask[vv, uu] and not parts[vv, uu]:
                        parts[vv, uu] = number
                        stack[top, 0], stack[top, 1] = vv, uu
                        top += 1
            if size > best:
                best, largest, first_y, first_x = size, number, y, x
    return parts, largest, first_y, first_x


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _trace(parts, number, first_y, first_x):
    """Walk round a part along the edges of its pixels; twice the middles of the edges, (m, 2) of x and y, clockwise.

    A pixel that touches by a corner alone is no part of it. The mask has an empty frame.
    """
    ring = np.empty((64, 2), np.int32)
    m = 0
    y, x, direction = first_y, first_x, 0  # a corner; 0 east, 1 south, 2 west, 3 north, the part on the right hand
    while True:
        if m == len(ring):
            longer = np.empty((2 * m, 2), np.int32)
            longer[:m] = ring
            ring = longer
        dx = 1 if direction == 0 else -1 if direction == 2 else 0
        dy = 1 if direction == 1 else -1 if direction == 3 else 0
        ring[m, 0], ring[m, 1] = 2 * x + dx, 2 * y + dy
        m += 1
        y, x = y + dy, x + dx
        if y == first_y and x == first_x:  # the first pixel's corner is passed once: nothing lies above or left of it
            return ring[:m]
        if direction == 0:
            right, left = parts[y, x], parts[y - 1, x]
        elif direction == 1:
            right, left = parts[y, x - 1], parts[y, x]
        elif direction == 2:
            right, left = parts[y - 1, x - 1], parts[y, x - 1]
        else:
            right, left = parts[y - 1, x], parts[y - 1, x - 1]
        if right != number:
            direction = (direction + 1) % 4
        elif left == number:
            direction = (direction + 3) % 4


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _ring_area(ring):
    """Area within a ring of doubled coordinates, px."""
    total = 0
    for i in range(len(ring)):
        total += ring[i - 1, 0] * ring[i, 1] - ring[i, 0] * ring[i - 1, 1]
    return abs(total) / 8
