"""Nuclei that the H&E shows are held against those that a registration puts there, window by window."""

from dataclasses import replace

import numpy as np

from shest.io.registration import Registration
from shest.tissue import agreement, alignment

MPP, SIDE = 0.25, 400


def grid(spacing: float, jitter: float, seed: int) -> np.ndarray:
    """Nuclei on a shaken grid over two windows, H&E px."""
    x, y = np.meshgrid(np.arange(20, 2 * SIDE, spacing), np.arange(20, SIDE, spacing))
    xy = np.c_[x.ravel(), y.ravel()]
    return xy + np.random.default_rng(seed).normal(scale=jitter, size=xy.shape)


def test_each_window_has_its_share_and_a_torn_one_shows():
    registration = Registration.of_alignment(np.diag([MPP, MPP, 1.0]), 1.0)
    given = grid(60, 12, 0)
    seen = given.copy()
    seen[seen[:, 0] >= SIDE] += (25, -30)  # the right half is torn off
    corners = [(0, 0), (SIDE, 0)]
    by_window = [seen[((seen >= c) & (seen < np.add(c, SIDE))).all(axis=1)] for c in corners]
    whole, blocks = agreement.judge(by_window, given, corners, SIDE, registration)
    assert [block["x"] for block in blocks] == [0, SIDE]
    assert blocks[0]["share"] > 0.9
    assert blocks[1]["share"] < 0.4
    assert blocks[1]["share"] < whole.share < blocks[0]["share"]
    assert blocks[0]["residual_um"] < 0.01
    assert blocks[0]["given"] == len(by_window[0])
    shifted = replace(registration, he_to_um=np.array([[MPP, 0, 30.0], [0, MPP, 0], [0, 0, 1]]))
    assert alignment.doubt(agreement.judge(by_window[:1], given, corners[:1], SIDE, registration)[0]) is None
    assert agreement.judge(by_window, given + 120, corners, SIDE, shifted)[0].margin < 0.2


def test_without_nuclei_nothing_agrees():
    registration = Registration.of_alignment(np.diag([MPP, MPP, 1.0]), 1.0)
    match, blocks = agreement.judge([np.empty((0, 2))], grid(60, 12, 0), [(0, 0)], SIDE, registration)
    assert (match.share, match.null, blocks[0]["seen"]) == (0.0, 0.0, 0)
    assert "partner" in alignment.doubt(match)
