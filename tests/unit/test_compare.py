"""Evaluations on disk, and paired differences between systems."""

import numpy as np
import pytest

from shest.score import compare, evaluate
from shest.score.evaluation import Evaluation

TYPES = list("ABC")


def make(system, kind, rng, right, label, block, sample="s"):
    predicted = np.where(rng.random(len(label)) < right, label, rng.choice(TYPES, len(label)))
    intervals, without = evaluate.type_intervals(label, predicted, TYPES, block)
    return Evaluation(
        system,
        kind,
        None,
        "strict",
        sample,
        "cells",
        "train",
        "all",
        len(label),
        types=evaluate.score_types(label, predicted, TYPES),
        intervals=intervals | {"n_blocks": int(block.max()) + 1, "without": without},
    )


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    label, block = rng.choice(TYPES, 2_000), rng.integers(0, 10, 2_000)
    return [make("net", "shest", rng, 0.8, label, block), make("base", "linear", rng, 0.6, label, block)]


def test_an_evaluation_survives_the_disk(pair, tmp_path):
    pair[0].unrefined = 7, pair[1].types
    pair[0].write(tmp_path / "e.json")
    again = Evaluation.read(tmp_path / "e.json")
    assert again.types == pair[0].types
    assert again.unrefined == (7, pair[1].types)
    assert again.interval("weighted") == pytest.approx(pair[0].interval("weighted"))
    again.write(tmp_path / "f.json")
    assert (tmp_path / "e.json").read_text() == (tmp_path / "f.json").read_text()


def test_a_real_difference_has_an_interval_above_zero(pair):
    found = {row["score"]: row for row in compare.differences(pair)}
    assert set(found) == {"weighted", "macro"}
    row = found["weighted"]
    assert row["difference"] == pytest.approx(pair[0].types.weighted - pair[1].types.weighted)
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert (row["system"], row["reference"], row["n_blocks"]) == ("net", "base", 10)


def test_no_difference_covers_zero_and_pairing_narrows_what_blocks_have_in_common():
    rng, covered, narrower = np.random.default_rng(1), 0, 0
    for _ in range(200):
        block = np.repeat(np.arange(12), 100)
        label = rng.choice(TYPES, len(block))
        hard = rng.beta(4, 2, 12)[block]  # blocks differ: both systems do worse in the hard ones
        pair = [make(n, k, rng, hard, label, block) for n, k in (("net", "shest"), ("base", "linear"))]
        row = next(r for r in compare.differences(pair) if r["score"] == "weighted")
        covered += row["low"] <= 0 <= row["high"]
        low, high = pair[0].interval("weighted")
        narrower += row["high"] - row["low"] < high - low
    assert 0.9 <= covered / 200 <= 0.99
    assert narrower > 190


def test_other_samples_are_not_compared(pair):
    pair[1].sample = "t"
    assert compare.differences(pair) == []


def test_rows_hold_scores_and_blocks(pair):
    table = compare.rows(pair)
    assert table["system"].tolist() == ["net", "base"]
    assert table["n_blocks"].tolist() == [10, 10]
    assert table["pearson_median"].isna().all()
