"""The affine between an H&E and a measurement, found and checked by the centroids of nuclei in both.

Density maps of both are correlated at every angle and mirrored, coarse to fine; what fits best is refined by trimmed
ICP (Chetverikov et al. 2002) over a region that grows from where both have most nuclei, to an affine.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage
from scipy.spatial import cKDTree

PARTNER_UM = 3.0  # nuclei nearer than that are taken for the same
NULL_SHIFT_UM = 20.0  # further than a nucleus: what still meets then meets by chance
ANGLE_STEP = 3.0  # degrees between the coarse angles
COARSE_BINS, FINE_BINS = 128, 512  # along the longer side of the tissue
SMALLEST_BIN_UM = 6.0
CANDIDATES = 6
REGION_UM = 500.0  # half side of the region that ICP begins with
GROWTH = 1.6
ICP_UM = (12.0, 8.0, 5.0, 3.0)  # pairs further apart are trimmed, pass by pass
ICP_STEPS = 12
FEWEST = 20  # nuclei that a share is taken of
LEAST_MARGIN = 0.2  # of share over chance; unrelated sections stay below 0.05, nuclei found by colour alone reach 0.4


class Match(NamedTuple):
    """How well two sets of nuclei fit.

    Attributes
    ----------
    share
        Share of nuclei, of the smaller set where both lie, with a mutual nearest partner within 3 µm.
    null
        The same after shifts of 20 µm, their mean: what chance gives.
    residual_um
        Median distance of the partners; NaN without any.
    """

    share: float
    null: float
    residual_um: float

    @property
    def margin(self) -> float:
        """How far the share is above chance."""
        return self.share - self.null

    def facts(self) -> dict[str, float | None]:
        """For JSON: None in place of NaN."""
        return {name: None if np.isnan(value) else float(value) for name, value in self._asdict().items()}


@dataclass(frozen=True)
class Found:
    """The best affine, 3 x 3, from the H&E's µm to the measurement's; how it fits, and how the next best one does."""

    affine: np.ndarray
    match: Match
    second: Match


def apply(affine: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Map points (n, 2) by a 3 x 3 affine."""
    return xy @ affine[:2, :2].T + affine[:2, 2]


def partners(moved: np.ndarray, fixed: np.ndarray, reach: float = PARTNER_UM) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of mutual nearest neighbours no further apart than ``reach``: (k,), (k,)."""
    if not len(moved) or not len(fixed):
        return np.empty(0, int), np.empty(0, int)
    tree = cKDTree(moved)
    distance, there = cKDTree(fixed).query(moved, distance_upper_bound=reach)
    near = np.flatnonzero(np.isfinite(distance))
    _, back = tree.query(fixed[there[near]], distance_upper_bound=reach)
    mutual = back == near
    return near[mutual], there[near[mutual]]


def match(moved: np.ndarray, fixed: np.ndarray) -> Match:
    """Say how well nuclei (n, 2) fit others (m, 2), µm, where both lie."""
    moved, fixed = _where_both_lie(moved, fixed)
    smaller = min(len(moved), len(fixed))
    if smaller < FEWEST:
        return Match(0.0, 0.0, float("nan"))
    one, other = partners(moved, fixed)
    shifts = NULL_SHIFT_UM * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
    null = np.mean([len(partners(moved + shift, fixed)[0]) for shift in shifts]) / smaller
    residual = float(np.median(np.linalg.norm(moved[one] - fixed[other], axis=1))) if len(one) else float("nan")
    return Match(len(one) / smaller, float(null), residual)


def _where_both_lie(moved: np.ndarray, fixed: np.ndarray, cell: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    """Keep the points in squares of 100 µm that hold points of both."""
    keys = [np.floor(points / cell).astype(np.int64) for points in (moved, fixed)]
    low = np.minimum(*(k.min(axis=0) if len(k) else np.zeros(2, np.int64) for k in keys))
    flat = [(k[:, 0] - low[0]) * 2**31 + (k[:, 1] - low[1]) for k in keys]
    return moved[np.isin(flat[0], flat[1])], fixed[np.isin(flat[1], flat[0])]


def density(xy: np.ndarray, low: np.ndarray, bin_um: float, shape: tuple[int, int]) -> np.ndarray:
    """Return a map of nuclei per bin, smoothed, its slow changes taken away, of length 1: (h, w) float32."""
    column, row = np.floor((xy - low) / bin_um).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < shape[1]) & (row < shape[0])
    counts = np.bincount(row[inside] * shape[1] + column[inside], minlength=shape[0] * shape[1]).reshape(shape)
    values = np.sqrt(counts.astype(np.float32))  # a clump counts no more than its size tells
    values = ndimage.gaussian_filter(values, 1) - ndimage.gaussian_filter(values, 8)
    return values / max(np.linalg.norm(values), 1e-9)


def turn(angle: float, mirror: bool) -> np.ndarray:
    """Return a rotation by degrees (2, 2), of a mirror image if ``mirror``."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.array([[c, -s], [s, c]]) @ np.diag([1.0, -1.0 if mirror else 1.0])


def correlate(
    moving: np.ndarray, fixed: np.ndarray, poses: list[tuple[float, bool]], bin_um: float
) -> list[tuple[float, float, bool, np.ndarray]]:
    """Return the best correlation of density maps at each pose (angle, mirror): (r, angle, mirror, shift)."""
    low, extent = fixed.min(axis=0), np.ptp(fixed, axis=0)
    reach = np.ptp(moving, axis=0)
    side = float(np.hypot(*reach))  # the moving map holds every rotation
    n = [fft.next_fast_len(int(np.ceil((extent[i] + side) / bin_um)) + 4, real=True) for i in (1, 0)]
    shape = (n[0], n[1])
    reference = fft.rfft2(density(fixed, low, bin_um, shape))
    centre = moving.mean(axis=0)
    found = []
    for angle, mirror in poses:
        turned = (moving - centre) @ turn(angle, mirror).T
        own_low = turned.min(axis=0)
        spectrum = fft.rfft2(density(turned, own_low, bin_um, shape))
        surface = fft.irfft2(reference * np.conj(spectrum), s=shape)
        row, column = np.unravel_index(surface.argmax(), shape)
        shift = np.array([column, row], float)
        limit = np.ceil(extent / bin_um)
        shift = np.where(shift > limit, shift - np.array(shape[::-1]), shift)
        found.append((float(surface[row, column]), angle, mirror, low - own_low + shift * bin_um))
    return found


def estimate(moving: np.ndarray, fixed: np.ndarray) -> Found:
    """Find the affine that lays nuclei of the H&E on those of the measurement.

    Parameters
    ----------
    moving
        (n, 2) µm by the H&E's own pixel size, whatever its orientation.
    fixed
        (m, 2) µm.

    Returns
    -------
    Found
        The affine from ``moving`` to ``fixed``; judge it by :func:`doubt`.

    Raises
    ------
    ValueError
        Fewer than 50 nuclei in either.
    """
    if min(len(moving), len(fixed)) < 50:
        raise ValueError(f"too few nuclei to register by: {len(moving):,} in the H&E, {len(fixed):,} measured")
    extent = float(max(np.ptp(moving, axis=0).max(), np.ptp(fixed, axis=0).max()))
    coarse, fine = (max(extent / bins, SMALLEST_BIN_UM) for bins in (COARSE_BINS, FINE_BINS))
    poses = [(angle, mirror) for mirror in (False, True) for angle in np.arange(0, 360, ANGLE_STEP)]
    best = _distinct(correlate(moving, fixed, poses, coarse))
    near = np.arange(-ANGLE_STEP / 2, ANGLE_STEP / 2 + 0.1, ANGLE_STEP / 8)
    again = [max(correlate(moving, fixed, [(a + d, m) for d in near], fine)) for _, a, m, _ in best]
    centre = moving.mean(axis=0)
    tried = []
    for _, angle, mirror, shift in sorted(again, key=lambda pose: -pose[0]):
        affine = np.eye(3)
        affine[:2, :2] = turn(angle, mirror)
        affine[:2, 2] = shift - affine[:2, :2] @ centre
        affine = refine(affine, moving, fixed, fine)
        tried.append((affine, match(apply(affine, moving), fixed)))
    tried.sort(key=lambda one: -one[1].margin)
    return Found(*tried[0], next((m for a, m in tried[1:] if not _alike(a, tried[0][0], centre)), Match(0, 0, np.nan)))


def doubt(found: Match, second: Match | None = None) -> str | None:
    """Say why a registration is not to be trusted, or None.

    ``second`` is the next best orientation's match, where others were tried.
    """
    if found.margin < LEAST_MARGIN:
        return (
            f"{found.share:.0%} of the nuclei have a partner within {PARTNER_UM:g} µm, "
            f"{found.null:.0%} would by chance (after a shift of {NULL_SHIFT_UM:g} µm)"
        )
    if second is not None and second.margin > found.margin / 2:
        return f"at another orientation {second.share:.0%} of the nuclei have a partner, {found.share:.0%} at this one"
    return None


def _distinct(found: list[tuple[float, float, bool, np.ndarray]]) -> list[tuple[float, float, bool, np.ndarray]]:
    """Return the best poses whose angles are not neighbours of a better one's."""
    kept: list[tuple[float, float, bool, np.ndarray]] = []
    for pose in sorted(found, key=lambda one: -one[0]):
        apart = (abs((pose[1] - k[1] + 180) % 360 - 180) > 2 * ANGLE_STEP or pose[2] != k[2] for k in kept)
        if all(apart):
            kept.append(pose)
        if len(kept) == CANDIDATES:
            break
    return kept


def _alike(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> bool:
    """Whether two affines put a place within 20 µm and turn alike."""
    near = np.linalg.norm(apply(one, where[None]) - apply(other, where[None])) < NULL_SHIFT_UM
    return bool(near and np.abs(one[:2, :2] - other[:2, :2]).max() < 0.1)


def refine(affine: np.ndarray, moving: np.ndarray, fixed: np.ndarray, error_um: float) -> np.ndarray:
    """Refine an affine by trimmed ICP: rigid near the place where both have most nuclei, then over all, affine.

    Parameters
    ----------
    affine
        To begin with, off by no more than some ``error_um`` there.
    """
    moved = apply(affine, moving)
    centre = _densest(moved, fixed)
    affine = _best_shift(affine, moving, fixed, centre, error_um)
    half, extent = REGION_UM, np.abs(moved - centre).max()
    while True:
        rows = np.flatnonzero(np.abs(apply(affine, moving) - centre).max(axis=1) < half)
        whole = half >= extent
        for reach in ICP_UM if half == REGION_UM else ICP_UM[1:]:
            affine = _icp(affine, moving[rows], fixed, reach, rigid=not whole)
        if whole:
            return affine
        half *= GROWTH


def _densest(moved: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Return the middle of the region, of half the first side, that holds most nuclei of both."""
    low, high = np.minimum(moved.min(0), fixed.min(0)), np.maximum(moved.max(0), fixed.max(0)) + 1
    edges = [np.arange(low[i], high[i] + REGION_UM, REGION_UM) for i in (0, 1)]
    one, other = (np.histogram2d(*points.T, bins=edges)[0] for points in (moved, fixed))
    place = np.unravel_index(np.minimum(one, other).argmax(), one.shape)
    return low + (np.array(place) + 0.5) * REGION_UM


def _best_shift(
    affine: np.ndarray, moving: np.ndarray, fixed: np.ndarray, centre: np.ndarray, error_um: float
) -> np.ndarray:
    """Correct angle and shift within a region by density maps of 3 µm."""
    rows = np.abs(apply(affine, moving) - centre).max(axis=1) < REGION_UM
    near = fixed[np.abs(fixed - centre).max(axis=1) < REGION_UM + 4 * error_um]
    if rows.sum() < 20 or len(near) < 20:
        return affine
    points = apply(affine, moving[rows])
    turns = [(angle, False) for angle in np.arange(-1.0, 1.01, 0.2)]
    _, angle, _, shift = max(correlate(points, near, turns, 3.0), key=lambda pose: pose[0])
    step = np.eye(3)
    step[:2, :2] = turn(angle, False)
    step[:2, 2] = shift - step[:2, :2] @ points.mean(axis=0)
    return step @ affine


def _icp(affine: np.ndarray, moving: np.ndarray, fixed: np.ndarray, reach: float, rigid: bool) -> np.ndarray:
    """Pair mutual neighbours and fit, until the pairs stay."""
    before = None
    for _ in range(ICP_STEPS):
        one, other = partners(apply(affine, moving), fixed, reach)
        if len(one) < 10 or (before is not None and np.array_equal(before, one * (len(fixed) + 1) + other)):
            break
        before = one * (len(fixed) + 1) + other
        affine = fit_rigid(moving[one], fixed[other]) if rigid else fit_affine(moving[one], fixed[other])
    return affine


def fit_rigid(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Least-squares similarity with or without a mirror, 3 x 3 (Umeyama 1991)."""
    a, b = moving - moving.mean(0), fixed - fixed.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    linear = u @ vt * (s.sum() / (a * a).sum())
    affine = np.eye(3)
    affine[:2, :2], affine[:2, 2] = linear, fixed.mean(0) - linear @ moving.mean(0)
    return affine


def fit_affine(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Least-squares affine, 3 x 3."""
    design = np.c_[moving, np.ones(len(moving))]
    affine = np.eye(3)
    affine[:2] = np.linalg.lstsq(design, fixed, rcond=None)[0].T
    return affine
