"""An affine between two sets of nuclei is found however they are turned, mirrored and scaled; strangers are refused."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from shest.tissue import alignment

SIDE = 1200.0


def tissue(seed: int, n: int = 2500) -> np.ndarray:
    """Nuclei in µm: half in clumps, half anywhere, none nearer than 6 µm to another."""
    rng = np.random.default_rng(seed)
    centres, spread = rng.random((20, 2)) * SIDE, rng.gamma(3, 30, 20)
    which = rng.integers(0, 20, n)
    xy = np.vstack([centres[which] + rng.normal(size=(n, 2)) * spread[which, None], rng.random((n, 2)) * SIDE])
    xy = xy[((xy > 0) & (xy < SIDE)).all(axis=1)]
    near = cKDTree(xy).query_pairs(6, output_type="ndarray")
    return np.delete(xy, np.unique(near[:, 1]), axis=0)


def seen(fixed: np.ndarray, true: np.ndarray, seed: int, lost: float = 0.05, noise: float = 0.5) -> np.ndarray:
    """The same nuclei as the H&E shows them: some lost, as many added, in the other frame."""
    rng = np.random.default_rng(seed)
    kept = fixed[rng.random(len(fixed)) > lost]
    added = kept.min(axis=0) + rng.random((int(lost * len(kept)), 2)) * np.ptp(kept, axis=0)
    xy = np.vstack([kept, added])
    return alignment.apply(np.linalg.inv(true), xy + rng.normal(scale=noise, size=xy.shape))


def affine(angle: float, mirror: bool, scale: float = 1.0, shear: float = 0.0) -> np.ndarray:
    made = np.eye(3)
    made[:2, :2] = scale * alignment.turn(angle, mirror) @ np.array([[1, shear], [0, 1]])
    made[:2, 2] = 340, -1200
    return made


@pytest.mark.parametrize(
    ("true", "lost", "half"),
    [
        (affine(91.3, False), 0.05, False),
        (affine(-17, True, 1.02, 0.003), 0.05, False),
        (affine(203, False, 0.98), 0.05, True),
        (affine(0, True), 0.35, False),
    ],
)
def test_the_affine_is_found(true, lost, half):
    fixed = tissue(0)
    there = fixed[fixed[:, 0] < SIDE / 2] if half else fixed
    found = alignment.estimate(seen(there, true, 1, lost), fixed)
    places = alignment.apply(np.linalg.inv(true), there)
    displaced = np.linalg.norm(alignment.apply(found.affine, places) - there, axis=1)
    assert np.median(displaced) < 0.3
    assert np.percentile(displaced, 95) < 0.6
    assert alignment.doubt(found.match, found.second) is None
    assert found.match.null < 0.15


def test_another_section_is_refused():
    found = alignment.estimate(tissue(7), tissue(0))
    assert "by chance" in alignment.doubt(found.match, found.second)


@pytest.mark.parametrize("wrong", ["mirrored", "shifted", "identity"])
def test_a_wrong_alignment_that_is_given_is_caught(wrong):
    fixed, true = tissue(0), affine(91.3, False)
    xy = seen(fixed, true, 1, 0.3)
    assert alignment.doubt(alignment.match(alignment.apply(true, xy), fixed)) is None
    middle = np.eye(3)
    middle[0, 2] = SIDE
    given = {
        "mirrored": middle @ np.diag([-1.0, 1, 1]) @ true,
        "shifted": np.array([[1, 0, 30.0], [0, 1, 0], [0, 0, 1]]) @ true,
        "identity": np.eye(3),
    }[wrong]
    assert "by chance" in alignment.doubt(alignment.match(alignment.apply(given, xy), fixed))


def test_an_orientation_that_fits_nearly_as_well_is_doubted():
    best, other = alignment.Match(0.6, 0.1, 1.0), alignment.Match(0.5, 0.1, 1.0)
    assert "another orientation 50%" in alignment.doubt(best, other)
    assert alignment.doubt(best, alignment.Match(0.2, 0.1, 1.0)) is None


def test_too_few_nuclei_are_said():
    with pytest.raises(ValueError, match="too few nuclei to register by: 10 in the H&E"):
        alignment.estimate(tissue(0)[:10], tissue(0))


def test_partners_are_mutual_and_no_further_than_asked():
    one, other = alignment.partners(np.array([[0.0, 0], [1, 0], [10, 0]]), np.array([[0.6, 0], [14.0, 0]]), 3)
    assert (one.tolist(), other.tolist()) == ([1], [0])
