"""Registration: whether the H&E shows nuclei where the affine puts those of the measurement, window by window."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from scipy import ndimage
from scipy.spatial import cKDTree

from shest.core.errors import Findings
from shest.io.image import read_he
from shest.io.registration import Registration
from shest.io.xenium import read_alignment, read_nuclei, read_specs
from shest.tissue.alignment import FEWEST, LEAST_MARGIN, PARTNER_UM, Match, doubt, match, turn
from shest.tissue.register import densest_windows
from shest.tissue.segment import classical

WINDOW_UM = 200.0  # side of a window: some hundred nuclei where tissue is dense
CHECKED = 8  # windows that the check of a bundle looks at, those with most nuclei
BLOCKS = 10  # blocks along the longer side of the tissue that are looked at, a window in each
SHIFT_UM = 30.0  # how far a block is looked for beside its place
OTHERS = [(angle, mirror) for mirror in (False, True) for angle in (0, 90, 180, 270)][1:]  # orientations but its own
SURE, MANY = 0.3, 40  # margin of a block that has moved, and the nuclei that this is said of: the best of many shifts


@dataclass(frozen=True)
class Agreement:
    """Nuclei that the H&E shows, held against those that a registration puts there.

    Attributes
    ----------
    match
        Of all windows.
    second
        The same at the best of the seven other orientations, each window turned or mirrored about its middle.
    blocks
        Of each window: ``x``, ``y`` of its corner and ``side`` (px), nuclei ``seen`` and ``given``, ``share`` of them
        with a partner, ``null`` of it, ``residual_um`` of the partners, and ``shift_um`` (x, y in the measurement's
        frame) that lays what is seen on what is given, where it has moved; None where it has not, or nobody can say.
    seen, given
        Their centroids by window, (n, 2) H&E px.
    """

    match: Match
    second: Match
    blocks: list[dict[str, Any]]
    seen: list[np.ndarray]
    given: list[np.ndarray]

    @property
    def doubt(self) -> str | None:
        """Why the registration is not to be trusted, and how far it is off where that can be said; or None."""
        why = doubt(self.match, self.second if self.second.margin > self.match.margin else None)
        shifts = np.array([block["shift_um"] for block in self.blocks if block["shift_um"]])
        if why is None or len(shifts) < max(2, len(self.blocks) / 2):
            return why
        x, y = middle = np.median(shifts, axis=0)
        alike = np.abs(shifts - middle).max() < PARTNER_UM
        return f"{why}; moved by {round(x)} and {round(y)} µm they would fit" if alike else why

    def summary(self) -> dict[str, Any]:
        """For JSON; ``torn``: how many blocks do not agree, though they have nuclei enough to."""
        torn = sum(is_torn(block) for block in self.blocks)
        second = {"second": self.second.facts(), "margin_over_second": self.match.margin - self.second.margin}
        return {"doubt": self.doubt, "torn": torn} | self.match.facts() | second | {"blocks": self.blocks}


def agree(
    image: Any, xy: np.ndarray, shape: tuple[int, int], registration: Registration, threads: int, blocks: bool = False
) -> Agreement | None:
    """Look for nuclei in windows of the H&E and hold them against those of the measurement.

    Parameters
    ----------
    image
        (3, height, width) uint8, sliced as NumPy, Dask and Zarr arrays are.
    xy
        (n, 2) H&E px: nuclei of the measurement where the registration puts them.
    shape
        Height and width of the image, px.
    blocks
        One window in each block of the tissue; by default the few that hold most nuclei.

    Returns
    -------
    None where there are fewer than 20 nuclei on the image: too few to judge by.
    """
    inside = ((xy >= 0) & (xy <= np.array(shape[::-1]) - 1)).all(axis=1)
    if inside.sum() < FEWEST:
        return None
    side = max(1, round(WINDOW_UM / max(registration.mpp)))
    choose = windows_by_block if blocks else densest_windows
    corners = choose(xy[inside], shape, side, BLOCKS if blocks else CHECKED)
    return judge(nuclei_seen(image, corners, side, registration.mpp, threads), xy, corners, side, registration)


def windows_by_block(xy: np.ndarray, shape: tuple[int, int], side: int, most: int) -> list[tuple[int, int]]:
    """Divide the tissue into squares, ``most`` along its longer side; return each one's window with most points.

    Corners (x, y), px; squares without points have none. Where windows of ``side`` px are few, all of them are taken.
    """
    columns, rows = (-(-n // side) for n in shape[::-1])
    step = max(1, -(-max(columns, rows) // most))
    cell = np.floor(xy / side).astype(int)
    counts = np.zeros((rows, columns), int)
    np.add.at(counts, (cell[:, 1], cell[:, 0]), 1)
    corners = []
    for top, left in product(range(0, rows, step), range(0, columns, step)):
        part = counts[top : top + step, left : left + step]
        row, column = np.unravel_index(part.argmax(), part.shape)
        if part[row, column]:
            corners.append((int(left + column) * side, int(top + row) * side))
    return corners


def nuclei_seen(
    image: Any, corners: Sequence[tuple[int, int]], side: int, mpp: tuple[float, float], threads: int
) -> list[np.ndarray]:
    """Find nuclei in some windows of an image (3, height, width); return their centroids (n, 2), H&E px, by window."""

    def one(corner: tuple[int, int]) -> np.ndarray:
        x, y = corner
        window = np.asarray(image[:, y : y + side, x : x + side])
        polygons = classical.segment([window], mpp, side, 1).polygons
        return shapely.get_coordinates(shapely.centroid(polygons)).reshape(-1, 2) + np.array([x, y])

    with ThreadPoolExecutor(max(1, threads)) as pool:
        return list(pool.map(one, corners))


def judge(
    seen: list[np.ndarray], xy: np.ndarray, corners: Sequence[tuple[int, int]], side: int, registration: Registration
) -> Agreement:
    """Hold nuclei that the H&E shows, by window, against those that the registration puts there, (n, 2) H&E px."""
    blocks, given = [], []
    for (x, y), centres in zip(corners, seen, strict=True):
        there = xy[((xy >= (x, y)) & (xy < (x + side, y + side))).all(axis=1)]
        given.append(there)
        moving, fixed = registration.to_um(centres), registration.to_um(there)
        own = match(moving, fixed)
        blocks.append(
            {"x": x, "y": y, "side": side, "seen": len(centres), "given": len(there)}
            | own.facts()
            | {"shift_um": moved(moving, fixed, own)}
        )
    everything, inside = (
        registration.to_um(np.concatenate(parts) if parts else np.empty((0, 2))) for parts in (seen, given)
    )
    middles = registration.to_um(np.array(corners, float).reshape(-1, 2) + (side - 1) / 2)
    around = np.repeat(middles, [len(centres) for centres in seen], axis=0)
    turned = (match((everything - around) @ turn(*other).T + around, inside) for other in OTHERS)
    second = max(turned, key=lambda one: one.margin)
    return Agreement(match(everything, inside), second, blocks, seen, given)


def moved(moving: np.ndarray, fixed: np.ndarray, own: Match) -> list[float] | None:
    """Return the shift (x, y) up to 30 µm that lays nuclei (n, 2) on others (m, 2), µm, or None.

    It is said only where the nuclei are many and fit much better there than as they lie (``own``): the mode of all
    differences of positions, then the mean of those near it.
    """
    if min(len(moving), len(fixed)) < MANY:
        return None
    near = cKDTree(fixed).query_ball_point(moving, SHIFT_UM)
    differences = np.concatenate([fixed[there] - at for at, there in zip(moving, near, strict=True)])
    edges = np.arange(-SHIFT_UM, SHIFT_UM + 1)
    counts = ndimage.gaussian_filter(np.histogram2d(*differences.T, bins=(edges, edges))[0], 1.5)
    mode = np.array(np.unravel_index(counts.argmax(), counts.shape)) - SHIFT_UM + 0.5
    alike = differences[np.linalg.norm(differences - mode, axis=1) < PARTNER_UM]
    if not len(alike):
        return None
    shift = alike.mean(axis=0)
    best = match(moving + shift, fixed)
    if best.margin < SURE or best.margin < own.margin + LEAST_MARGIN:
        return None
    return [float(value) for value in shift]


def is_torn(block: Mapping[str, Any]) -> bool:
    """Tell whether a block does not agree, though it has nuclei enough to."""
    enough = min(block["seen"], block["given"]) >= FEWEST
    return block["shift_um"] is not None or (enough and block["share"] - block["null"] < LEAST_MARGIN / 2)


def agree_bundle(row: Mapping[str, Any], threads: int) -> Agreement | None:
    """Hold the alignment of a bundle, whose files can be read, against its H&E: see :func:`agree`.

    It reads the outlines of the bundle's nuclei and a few windows of the image.

    Parameters
    ----------
    row
        Row of the sheet with resolved paths: ``path``, ``he_image``, ``alignment``.
    """
    bundle = Path(row["path"])
    registration = Registration.of_alignment(read_alignment(row["alignment"]), read_specs(bundle)["pixel_size"])
    image = read_he(row["he_image"])
    return agree(image, registration.to_px(read_nuclei(bundle).centres), image.shape[1:], registration, threads)


def note(found: Agreement | None, alignment: str | Path, insist: bool, findings: Findings, see: str = "") -> None:
    """Note an alignment that the H&E's nuclei do not agree with; a warning where it is insisted on.

    ``see``: the end of the sentence, where a picture is.
    """
    if found is None:
        findings.warn(alignment, f"fewer than {FEWEST} nuclei to check it by", "Look at registration.png")
    elif found.doubt:
        problem = f"the H&E does not show the nuclei where the alignment puts them: {found.doubt}{see}"
        if insist:
            findings.warn(alignment, problem, "Look at registration.png")
        else:
            findings.problem(
                alignment,
                problem,
                "Check that image and alignment belong to this bundle, let it be found (register.method: estimate), "
                "or say register.insist: true",
            )
