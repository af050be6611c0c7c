"""The measures of one nucleus and its window, compiled; each is what scikit-image or SciPy gives (tested so)."""

import numba
import numpy as np

SHAPES_N, REGION_N = 8, 10
GLCM_LEVELS, GLCM_PROPERTIES_N, GLCM_DISTANCES = 16, 4, (2, 6)
LBP_POINTS, LBP_RADIUS = 8, 3
RED, GREEN, BLUE = 299, 587, 114  # ITU-R 601, thousandths
TIE = 1e-3  # grey levels
_ANGLES = 2 * np.pi * np.arange(LBP_POINTS) / LBP_POINTS
LBP_ROWS = np.round(-LBP_RADIUS * np.sin(_ANGLES), 5)
LBP_COLUMNS = np.round(LBP_RADIUS * np.cos(_ANGLES), 5)
FAR = 1e20

jit = numba.njit(nogil=True, cache=True, error_model="numpy")


@jit
def _line(f, d, v, z):
    """Squared distances along a line by the lower envelope of parabolas (Felzenszwalb and Huttenlocher 2012)."""
    n, k = len(f), -1
    for q in range(n):
        if f[q] >= FAR:
            continue
        s = 0.0
        while k >= 0:
            s = ((f[q] + q * q) - (f[v[k]] + v[k] * v[k])) / (2.0 * (q - v[k]))
            if s > z[k]:
                break
            k -= 1
        k += 1
        v[k] = q
        z[k] = s if k else -FAR
    if k < 0:
        d[:] = FAR
        return
    last, j = k, 0
    for q in range(n):
        while j < last and z[j + 1] < q:
            j += 1
        d[q] = (q - v[j]) * (q - v[j]) + f[v[j]]


@jit
def distances(region, out):
    """Distance of each pixel of a region to the nearest one outside it; 0 outside, and where there is no outside."""
    height, width = region.shape
    side = max(height, width)
    v, z, f, d = np.empty(side, np.int64), np.empty(side), np.empty(side), np.empty(side)
    for column in range(width):
        for row in range(height):
            f[row] = FAR if region[row, column] else 0.0
        _line(f[:height], d[:height], v, z)
        for row in range(height):
            out[row, column] = d[row]
    for row in range(height):
        f[:width] = out[row]
        _line(f[:width], d[:width], v, z)
        for column in range(width):
            out[row, column] = np.sqrt(d[column]) if d[column] < FAR else 0.0


@jit
def _perimeter(mask):
    """Length of the outline through the centres of border pixels (Benkrid and Crookes 2000)."""
    height, width = mask.shape
    border = np.zeros((height + 2, width + 2), np.int64)
    for r in range(height):
        for c in range(width):
            if mask[r, c]:
                inner = r > 0 and c > 0 and r < height - 1 and c < width - 1
                inner = inner and mask[r - 1, c] and mask[r + 1, c] and mask[r, c - 1] and mask[r, c + 1]
                border[r + 1, c + 1] = 0 if inner else 1
    total = 0.0
    for r in range(1, height + 1):
        for c in range(1, width + 1):
            near = border[r - 1, c] + border[r + 1, c] + border[r, c - 1] + border[r, c + 1]
            across = border[r - 1, c - 1] + border[r - 1, c + 1] + border[r + 1, c - 1] + border[r + 1, c + 1]
            code = border[r, c] + 2 * near + 10 * across
            if code in (5, 7, 15, 17, 25, 27):
                total += 1.0
            elif code in (21, 33):
                total += np.sqrt(2.0)
            elif code in (13, 23):
                total += (1.0 + np.sqrt(2.0)) / 2.0
    return total


@jit
def _turn(ax, ay, bx, by, cx, cy):
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


@jit
def _hull_area(mask):
    """Pixels whose centre lies in or on the convex hull of the middles of all pixels' edges.

    Places are in half pixels, so that all is exact.
    """
    height, width = mask.shape
    px, py, n = np.empty(6 * height, np.int64), np.empty(6 * height, np.int64), 0
    for r in range(height):  # by y, then x: the ends of each row are what a hull can touch
        first = last = -1
        for c in range(width):
            if mask[r, c]:
                last = c
                if first < 0:
                    first = c
        if first >= 0:
            for dy in (-1, 0, 1):
                for c, dx in ((first, -1), (last, 1)):
                    px[n], py[n] = 2 * c + (dx if dy == 0 else 0), 2 * r + dy
                    n += 1
    order = np.argsort(py[:n] * 4096 + px[:n], kind="mergesort")
    x, y = px[:n][order], py[:n][order]
    hull, k = np.empty(2 * n + 2, np.int64), 0
    for i in range(n):
        while k >= 2 and _turn(x[hull[k - 2]], y[hull[k - 2]], x[hull[k - 1]], y[hull[k - 1]], x[i], y[i]) <= 0:
            k -= 1
        hull[k] = i
        k += 1
    lower = k + 1
    for i in range(n - 2, -1, -1):
        while k >= lower and _turn(x[hull[k - 2]], y[hull[k - 2]], x[hull[k - 1]], y[hull[k - 1]], x[i], y[i]) <= 0:
            k -= 1
        hull[k] = i
        k += 1
    k -= 1
    area = 0
    for r in range(height):
        low, high, found = 0.0, 0.0, False
        for e in range(k):
            a, b = hull[e], hull[(e + 1) % k]
            ya, yb = y[a], y[b]
            if min(ya, yb) <= 2 * r <= max(ya, yb):
                if ya == yb:
                    ends = (float(x[a]), float(x[b]))
                else:
                    at = x[a] + (x[b] - x[a]) * (2 * r - ya) / (yb - ya)
                    ends = (at, at)
                for at in ends:
                    low, high = (min(low, at), max(high, at)) if found else (at, at)
                    found = True
        if found:
            area += int(np.floor(high / 2 + 1e-9)) - int(np.ceil(low / 2 - 1e-9)) + 1
    return area


@jit
def shape(mask, out):
    """Write area, perimeter, axes, eccentricity, solidity, extent of the bounding box and circularity of a mask."""
    height, width = mask.shape
    area, sy, sx = 0, 0.0, 0.0
    top, bottom, left, right = height, -1, width, -1
    for r in range(height):
        for c in range(width):
            if mask[r, c]:
                area += 1
                sy += r
                sx += c
                top, bottom, left, right = min(top, r), max(bottom, r), min(left, c), max(right, c)
    my, mx = sy / area, sx / area
    yy, xx, xy = 0.0, 0.0, 0.0
    for r in range(top, bottom + 1):
        for c in range(left, right + 1):
            if mask[r, c]:
                yy += (r - my) * (r - my)
                xx += (c - mx) * (c - mx)
                xy += (r - my) * (c - mx)
    a, b, cross = xx / area, yy / area, -xy / area
    middle, away = (a + b) / 2, np.sqrt(((a - b) / 2) ** 2 + cross * cross)
    large, small = max(middle + away, 0.0), max(middle - away, 0.0)
    perimeter = max(_perimeter(mask[top : bottom + 1, left : right + 1]), 1.0)
    out[0], out[1] = area, perimeter
    out[2], out[3] = 4 * np.sqrt(large), 4 * np.sqrt(small)
    out[4] = np.sqrt(1 - small / large) if large > 0 else 0.0
    out[5] = area / _hull_area(mask[top : bottom + 1, left : right + 1])
    out[6] = area / ((bottom - top + 1) * (right - left + 1))
    out[7] = 4 * np.pi * area / perimeter**2


@jit
def moments(channels, region, out):
    """Write mean and standard deviation of each channel over a region, or over all where it is empty."""
    height, width, n = channels.shape
    anything, number = region.any(), 0
    out[: 2 * n] = 0.0
    for r in range(height):
        for c in range(width):
            if region[r, c] or not anything:
                number += 1
                for k in range(n):
                    out[k] += channels[r, c, k]
    for k in range(n):
        out[k] /= number
    for r in range(height):
        for c in range(width):
            if region[r, c] or not anything:
                for k in range(n):
                    out[n + k] += (channels[r, c, k] - out[k]) ** 2
    for k in range(n):
        out[n + k] = np.sqrt(out[n + k] / number)


@jit
def percentiles(values, shares, out):
    """Write percentiles of values (they are sorted in place), between neighbours by their distance."""
    values.sort()
    for k in range(len(shares)):
        place = shares[k] * (len(values) - 1)
        low = int(np.floor(place))
        high = min(low + 1, len(values) - 1)
        out[k] = values[low] + (values[high] - values[low]) * (place - low)


@jit
def slopes(h, out):
    """Write the gradient of a picture (Sobel), mirrored at its edges."""
    height, width = h.shape
    for r in range(height):
        u, d = max(r - 1, 0), min(r + 1, height - 1)
        for c in range(width):
            p, q = max(c - 1, 0), min(c + 1, width - 1)
            dy = h[d, p] - h[u, p] + 2 * (h[d, c] - h[u, c]) + h[d, q] - h[u, q]
            dx = h[u, q] - h[u, p] + 2 * (h[r, q] - h[r, p]) + h[d, q] - h[d, p]
            out[r, c] = np.sqrt(dx * dx + dy * dy)


@jit
def cooccurrence(levels, distance, pairs):
    """Count pairs of levels 1 to n at a distance, at 0, 45, 90 and 135 degrees, both ways; level 0 is left out."""
    height, width = levels.shape
    pairs[:] = 0.0
    across = round(distance * np.sqrt(0.5))
    for dy, dx in ((0, distance), (across, across), (distance, 0), (across, -across)):
        for r in range(height - dy):
            for c in range(max(0, -dx), min(width, width - dx)):
                a, b = levels[r, c], levels[r + dy, c + dx]
                if a and b:
                    pairs[a - 1, b - 1] += 1
                    pairs[b - 1, a - 1] += 1


@jit
def haralick(pairs, out):
    """Write contrast, homogeneity, energy and correlation of pairs of levels (Haralick et al. 1973)."""
    n = len(pairs)
    total = pairs.sum()
    if total > 0:
        pairs /= total
    contrast, homogeneity, energy, mi, mj = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        for j in range(n):
            p = pairs[i, j]
            contrast += p * (i - j) ** 2
            homogeneity += p / (1.0 + (i - j) ** 2)
            energy += p * p
            mi += i * p
            mj += j * p
    si, sj, cov = 0.0, 0.0, 0.0
    for i in range(n):
        for j in range(n):
            p = pairs[i, j]
            si += p * (i - mi) ** 2
            sj += p * (j - mj) ** 2
            cov += p * (i - mi) * (j - mj)
    si, sj = np.sqrt(si), np.sqrt(sj)
    out[0], out[1], out[2] = contrast, homogeneity, np.sqrt(energy)
    out[3] = 1.0 if si < 1e-15 or sj < 1e-15 else cov / (si * sj)


@jit
def patterns(grey, rows, columns, codes):
    """Write the uniform local binary pattern of each pixel (Ojala et al. 2002); outside the picture is 0.

    A neighbour that is as bright as the pixel counts as brighter, also where its interpolation is rounded down.
    """
    height, width = grey.shape
    points = len(rows)
    frame = LBP_RADIUS + 1
    wide = np.zeros((height + 2 * frame, width + 2 * frame), np.float32)
    wide[frame : frame + height, frame : frame + width] = grey
    y, x = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    weights = np.empty((points, 4), np.float32)
    for p in range(points):
        dy, dx = rows[p] - y[p], columns[p] - x[p]
        weights[p, 0], weights[p, 1] = (1 - dy) * (1 - dx), (1 - dy) * dx
        weights[p, 2], weights[p, 3] = dy * (1 - dx), dy * dx
    for r in range(height):
        for c in range(width):
            own = wide[frame + r, frame + c] - np.float32(TIE)
            total, changes, before = 0, 0, 0
            for p in range(points):
                i, j = frame + r + y[p], frame + c + x[p]
                value = weights[p, 0] * wide[i, j] + weights[p, 1] * wide[i, j + 1]
                value += weights[p, 2] * wide[i + 1, j] + weights[p, 3] * wide[i + 1, j + 1]
                above = 1 if value >= own else 0
                total += above
                if p:
                    changes += above != before
                before = above
            codes[r, c] = total if changes <= 2 else points + 1


@jit
def _mean(values, region, low, high):
    """Mean where ``low < region <= high``, or of everything where that is nowhere."""
    total, number, everything = 0.0, 0, 0.0
    for r in range(values.shape[0]):
        for c in range(values.shape[1]):
            everything += values[r, c]
            if low < region[r, c] <= high:
                total += values[r, c]
                number += 1
    return total / number if number else everything / values.size


@jit
def measure(window, mask, density, vectors, ring, shells, levels_of, rich, white, out):
    """Write all measures of a cell, in the order of :func:`shest.encode.morphometrics.feature_names`.

    Parameters
    ----------
    window, mask
        uint8 (h, w, 3), and bool (h, w) with at least one pixel.
    density, vectors
        (256,) optical density of a value; (3, 2) to haematoxylin and eosin.
    ring, shells
        Width of the ring, and distances from the edge (low, high), px.
    levels_of
        Haematoxylin from and to which grey levels reach.
    rich, white
        Least haematoxylin of a pixel that is rich in it, and what every channel of a white one is above.
    """
    height, width = mask.shape
    channels, h = np.empty((height, width, 5)), np.empty((height, width))
    grey, level = np.empty((height, width), np.uint8), np.empty((height, width), np.uint8)
    many, pale = 0, 0
    for r in range(height):
        for c in range(width):
            red, green, blue = window[r, c]
            for k in range(2):
                stain = density[red] * vectors[0, k] + density[green] * vectors[1, k] + density[blue] * vectors[2, k]
                channels[r, c, 3 + k] = max(stain, 0.0)
            channels[r, c, 0], channels[r, c, 1], channels[r, c, 2] = red, green, blue
            value = channels[r, c, 3]
            h[r, c] = value
            many += value > rich
            pale += min(red, green, blue) > white
            grey[r, c] = np.uint8((red * RED + green * GREEN + blue * BLUE + 500) // 1000)
            place = (value - levels_of[0]) / (levels_of[1] - levels_of[0]) * GLCM_LEVELS
            level[r, c] = np.uint8(min(max(place, 0.0), GLCM_LEVELS - 1.0)) + 1
    inside, outside = np.empty((height, width)), np.empty((height, width))
    distances(mask, inside)
    distances(~mask, outside)
    shape(mask, out[:SHAPES_N])
    at = SHAPES_N
    moments(channels, mask, out[at : at + REGION_N])
    at += REGION_N
    moments(channels, (outside > 0) & (outside <= ring), out[at : at + REGION_N])
    at += REGION_N
    moments(channels, np.ones_like(mask), out[at : at + REGION_N])
    at += REGION_N
    own, n = np.empty(height * width), 0
    for r in range(height):
        for c in range(width):
            if mask[r, c]:
                own[n] = h[r, c]
                n += 1
    percentiles(own[:n], (0.1, 0.5, 0.9), out[at : at + 3])
    out[at + 3], out[at + 4] = many / h.size, pale / h.size
    at += 5
    deep = inside.max() / 2
    out[at], out[at + 1] = _mean(h, inside, deep, FAR), _mean(h, inside, 0.0, deep)
    at += 2
    for k in range(len(shells)):
        out[at] = _mean(h, outside, shells[k, 0], shells[k, 1])
        at += 1
    slope, edge = np.empty((height, width)), np.zeros((height, width))
    slopes(h, slope)
    for r in range(height):
        for c in range(width):
            edge[r, c] = 1.0 if inside[r, c] <= 2 and outside[r, c] <= 2 else 0.0
    out[at], out[at + 1], out[at + 2] = _mean(slope, inside, 0.0, FAR), _mean(slope, edge, 0.0, 1.0), slope.mean()
    return _textures(level, grey, mask, out, at + 3)


@jit
def _textures(level, grey, mask, out, at):
    """Write co-occurrence and patterns, in the nucleus and in the window."""
    pairs, found = np.empty((GLCM_LEVELS, GLCM_LEVELS)), np.empty((2, GLCM_PROPERTIES_N))
    for part in range(2):
        levels = level if part else level * mask
        for k in range(2):
            cooccurrence(levels, GLCM_DISTANCES[k], pairs)
            haralick(pairs, found[k])
        for p in range(GLCM_PROPERTIES_N):
            for k in range(2):
                out[at] = found[k, p]
                at += 1
    codes = np.empty(mask.shape, np.int64)
    patterns(grey, LBP_ROWS, LBP_COLUMNS, codes)
    bins = LBP_POINTS + 2
    out[at : at + 2 * bins] = 0.0
    for r in range(mask.shape[0]):
        for c in range(mask.shape[1]):
            out[at + bins + codes[r, c]] += 1
            if mask[r, c]:
                out[at + codes[r, c]] += 1
    for part in range(2):
        of = out[at + part * bins : at + (part + 1) * bins]
        of /= of.sum()
    return at + 2 * bins
