"""Nuclei that the H&E shows are held against those that a registration puts there, window by window."""

import json
from dataclasses import replace

import numpy as np
import pytest
import shapely
from PIL import Image

from shest.core.errors import Findings
from shest.draw.overlay import draw_overlay
from shest.io.registration import Registration
from shest.tissue import agreement

MPP, SIDE = 0.25, 800
REGISTRATION = Registration.of_alignment(np.diag([MPP, MPP, 1.0]), 1.0)
CORNERS = [(0, 0), (SIDE, 0), (0, SIDE), (SIDE, SIDE)]


def scattered(seed: int, number: int = 700) -> np.ndarray:
    """Nuclei over four windows, H&E px."""
    return np.random.default_rng(seed).uniform(0, 2 * SIDE, (number, 2))


def by_window(xy: np.ndarray) -> list[np.ndarray]:
    return [xy[((xy >= c) & (xy < np.add(c, SIDE))).all(axis=1)] for c in CORNERS]


def judged(seen: np.ndarray, given: np.ndarray) -> agreement.Agreement:
    return agreement.judge(by_window(seen), given, CORNERS, SIDE, REGISTRATION)


def test_a_torn_block_shows_with_the_way_that_it_has_moved():
    given = scattered(0)
    seen = given + np.random.default_rng(1).normal(scale=2, size=given.shape)
    seen[(given >= SIDE).all(axis=1)] += (60, -80)  # 15 and -20 µm
    found = judged(seen, given)
    assert [block["x"] for block in found.blocks] == [0, SIDE, 0, SIDE]
    assert [agreement.is_torn(block) for block in found.blocks] == [False, False, False, True]
    assert found.blocks[3]["shift_um"] == pytest.approx([-15, 20], abs=0.5)
    assert found.blocks[0]["share"] > 0.85
    assert found.blocks[0]["residual_um"] == pytest.approx(0.5 * 1.18, abs=0.15)  # Rayleigh's median
    assert found.blocks[0]["given"] == len(by_window(given)[0])
    assert found.doubt is None
    summary = found.summary()
    assert summary["torn"] == 1
    assert found.blocks[3]["share"] < summary["share"] < found.blocks[0]["share"]


def test_a_registration_that_is_shifted_says_how_far():
    given = scattered(0)
    found = judged(given + np.array([100, 40]), given)
    assert "moved by -25 and -10 µm they would fit" in found.doubt
    assert found.match.margin < 0.2


def test_another_section_agrees_nowhere_and_no_shift_is_made_up():
    for seed in range(1, 6):
        found = judged(scattered(seed), scattered(0))
        assert "partner" in found.doubt
        assert "moved" not in found.doubt
        assert [block["shift_um"] for block in found.blocks] == [None] * 4


def test_an_orientation_that_fits_better_than_the_given_one_is_said():
    given = scattered(0)
    found = judged(given, given)
    assert found.match.share == 1
    assert 0 < found.second.share < 0.5
    assert found.summary()["margin_over_second"] == pytest.approx(found.match.margin - found.second.margin)
    middles = np.floor(given / SIDE) * SIDE + (SIDE - 1) / 2
    turned = (given - middles)[:, ::-1] * (1, -1) + middles  # each window by a quarter
    half = np.random.default_rng(3).random(len(given)) < 0.5
    both = np.concatenate([given[~half], turned])
    found = judged(both, given)
    assert found.second.share > found.match.share > found.match.null + 0.2
    assert "at another orientation" in found.doubt


def test_without_nuclei_nothing_agrees_and_json_can_say_so():
    found = agreement.judge([np.empty((0, 2))], scattered(0), CORNERS[:1], SIDE, REGISTRATION)
    assert (found.match.share, found.match.null, found.blocks[0]["seen"]) == (0.0, 0.0, 0)
    assert "partner" in found.doubt
    assert json.loads(json.dumps(found.summary(), allow_nan=False))["residual_um"] is None


def test_too_few_nuclei_on_the_image_are_not_judged_by():
    few = scattered(0, 19)
    assert agreement.agree(np.zeros((3, 1600, 1600), np.uint8), few, (1600, 1600), REGISTRATION, 1) is None
    findings = Findings()
    agreement.note(None, "a.csv", False, findings)
    assert "fewer than 20 nuclei" in findings.warnings[0].problem


@pytest.mark.parametrize(("insist", "problems", "warnings"), [(False, 1, 0), (True, 0, 1)])
def test_a_doubt_is_a_problem_unless_it_is_insisted_on(insist, problems, warnings):
    findings = Findings()
    agreement.note(judged(scattered(1), scattered(0)), "a.csv", insist, findings, "; see a.png")
    assert (len(findings.problems), len(findings.warnings)) == (problems, warnings)
    assert "see a.png" in str((findings.problems + findings.warnings)[0])
    agreement.note(judged(scattered(0), scattered(0)), "a.csv", insist, findings)
    assert (len(findings.problems), len(findings.warnings)) == (problems, warnings)


def test_every_block_of_the_tissue_has_its_densest_window():
    rng = np.random.default_rng(0)
    xy = np.concatenate([rng.uniform(0, 4000, (300, 2)), rng.uniform(300, 400, (50, 2)), [(19_990, 9_990)]])
    found = agreement.windows_by_block(xy, (10_000, 20_000), 100, 10)  # 200 windows along: blocks of 20
    assert found == [(300, 300), *found[1:4], (19_900, 9_900)]
    assert [(x // 2000, y // 2000) for x, y in found] == [(0, 0), (1, 0), (0, 1), (1, 1), (9, 4)]
    assert sorted(agreement.windows_by_block(scattered(0), (1600, 1600), SIDE, 10)) == sorted(CORNERS)


def test_a_residual_is_measured_in_micrometres_whatever_the_pixels():
    given = scattered(0)
    found = judged(given + np.array([4, 0]), given)
    assert found.match.residual_um == pytest.approx(1.0)
    coarse = replace(REGISTRATION, he_to_um=np.diag([0.5, 0.5, 1.0]))
    assert agreement.judge(by_window(given + np.array([4, 0])), given, CORNERS, SIDE, coarse).match.residual_um > 1.9


def red_pixels(path) -> int:
    red, green, blue = np.asarray(Image.open(path).convert("RGB")).astype(int).transpose(2, 0, 1)
    return int(((red > green + 60) & (red > blue + 40)).sum())


def test_a_torn_block_is_red_in_the_picture(tmp_path):
    given, white = scattered(0), np.full((160, 160, 3), 255, np.uint8)
    seen = given.copy()
    seen[(given >= SIDE).all(axis=1)] += (60, -80)
    outlines = shapely.buffer(shapely.points(given), 10)
    for name, blocks in (("none", ()), ("sound", judged(given, given).blocks), ("torn", judged(seen, given).blocks)):
        path = tmp_path / f"{name}.png"
        draw_overlay(white, 10.0, white, (0, 0), outlines, given, name, path, blocks, REGISTRATION.um_to_he)
    heights = {path.stem: Image.open(path).size[1] for path in tmp_path.iterdir()}
    assert heights["torn"] == heights["sound"] == 2 * heights["none"]
    red = {name: red_pixels(tmp_path / f"{name}.png") for name in heights}
    assert red["none"] == 0
    assert red["torn"] > red["sound"] + 10_000  # there only the scale has red
