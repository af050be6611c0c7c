"""Evaluations on disk, and paired differences between systems."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import stats
from statsmodels.stats.multitest import multipletests

from shest.io.expression import COMMON
from shest.score import compare, costs, evaluate, metrics
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
    assert set(found) == {"weighted", "macro", "balanced_accuracy"}
    row = found["weighted"]
    assert row["difference"] == pytest.approx(pair[0].types.weighted - pair[1].types.weighted)
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert (row["system"], row["reference"], row["n_blocks"]) == ("net", "base", 10)
    assert row["p"] == row["p_holm"] < 0.001
    verdict = compare.verdicts(pair, compare.differences(pair))[0]
    assert (verdict["best"], verdict["level"]) == ("net", [])
    assert verdict["behind"] == [{"system": "base", "by": row["difference"], "p_holm": row["p_holm"]}]


def test_no_difference_covers_zero_and_pairing_narrows_what_blocks_have_in_common():
    rng, covered, narrower = np.random.default_rng(1), 0, 0
    for _ in range(200):
        block = np.repeat(np.arange(12), 100)
        label = rng.choice(TYPES, len(block))
        hard = rng.beta(4, 2, 12)[block]  # blocks differ: both systems do worse in the hard ones
        pair = [make(n, k, rng, hard, label, block) for n, k in (("net", "shest"), ("base", "linear"))]
        row = next(r for r in compare.differences(pair) if r["score"] == "weighted")
        covered += row["low"] <= 0 <= row["high"]
        assert (row["p"] > 0.05) == (row["low"] <= 0 <= row["high"]), "one t behind both"
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


def test_every_pair_with_linear_and_with_the_best_stands_once_and_p_is_corrected_for_all_of_them(pair):
    rng = np.random.default_rng(2)
    label, block = rng.choice(TYPES, 2_000), rng.integers(0, 10, 2_000)
    systems = [
        make("net", "shest", rng, 0.8, label, block),
        make("twin", "shest", rng, 0.8, label, block),
        make("base", "linear", rng, 0.6, label, block),
        make("none", "mean", rng, 0.0, label, block),
    ]
    rows = [row for row in compare.differences(systems) if row["score"] == "weighted"]
    leader = compare.best(systems, "weighted").system
    other = {"net": "twin", "twin": "net"}[leader]
    pairs = [(row["system"], row["reference"], row["best"]) for row in rows]
    assert sorted(pairs) == sorted(
        [
            ("net", "base", False),
            ("twin", "base", False),
            ("none", "base", False),
            (other, leader, True),
            ("none", leader, True),
        ]
    )
    corrected = multipletests([row["p"] for row in rows], method="holm")[1]
    assert [row["p_holm"] for row in rows] == pytest.approx(corrected)
    verdict = next(v for v in compare.verdicts(systems, compare.differences(systems)) if v["score"] == "weighted")
    assert verdict["level"] == [other]
    assert {b["system"] for b in verdict["behind"]} == {"base", "none"}


def test_p_is_that_of_a_paired_t_test_where_blocks_are_alike():
    """Of means of equal blocks the jackknife is the ordinary standard error."""
    rng = np.random.default_rng(3)
    one, other = rng.normal(0.3, 1, 12), rng.normal(0, 1, 12)
    gap = one - other
    without = (gap.sum() - gap) / 11
    assert metrics.jackknife_p(gap.mean(), without) == pytest.approx(stats.ttest_rel(one, other).pvalue)
    assert metrics.jackknife_p(0.0, np.zeros(5)) is None
    assert metrics.jackknife_p(0.1, np.array([0.1])) is None
    assert metrics.holm([0.02, None, 0.9, 0.01]) == pytest.approx([0.04, None, 0.9, 0.03])


def test_other_units_and_genes_are_not_compared_and_said(pair):
    for e in pair:
        e.pearson, e.genes = {"median": 0.2}, {"scored": 5}
        e.expression_unit = "expected counts per cell, of one kind"
        e.common = {"pearson": 0.1}
    pair[1].expression_unit = "counts per cell, of another"
    assert compare.difference(*pair, "pearson_median")["difference"] == 0
    assert compare.set_apart(pair) == []
    pair[1].expression_unit = COMMON
    assert compare.difference(*pair, "pearson_median") is None
    assert compare.difference(*pair, "pearson_common")["difference"] == 0
    assert "R of logs is compared alone" in compare.set_apart(pair)[0]["why"]
    pair[1].genes_digest = "others"
    assert compare.difference(*pair, "pearson_median") is None
    assert compare.difference(*pair, "weighted")
    assert "predicts other genes" in compare.set_apart(pair)[0]["why"]
    shared = [replace(e, ground="shared", genes_digest="same", expression_unit="counts") for e in pair]
    assert compare.set_apart(pair + shared) == [], "they are compared on what they share"
    assert {row["ground"] for row in compare.differences(pair + shared) if row["score"] == "pearson_median"} == {
        "shared"
    }
    pair[1].units_digest = "others"
    assert compare.differences(pair) == []
    assert "is scored on 2,000 cells, net on 2,000 others" in compare.set_apart(pair)[0]["why"]
    pair[0].apart = "cannot be compared"
    assert [row["system"] for row in compare.set_apart(pair)] == ["net"]


def test_a_lower_calibration_error_is_better(pair):
    pair[0].calibration, pair[1].calibration = {"ece_after": 0.2}, {"ece_after": 0.1}
    assert compare.best(pair, "ece").system == "base"


def test_costs_are_read_off_weights_and_jobs(tmp_path):
    save_file({"w": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32)}, tmp_path / "m.safetensors")
    for name, seconds in (("fit0", 10), ("fit1", 20), ("predict", 4)):
        (tmp_path / f"{name}.tsv").write_text(f"s\tmax_rss\n99\t1\n{seconds}\t{seconds * 10}\n")
    fits, predicts = [tmp_path / "fit0.tsv", tmp_path / "fit1.tsv"], [tmp_path / "predict.tsv"]
    found = costs.cost(tmp_path / "m.safetensors", fits, predicts, 200)
    assert found["parameters"] == 17
    assert found["bytes"] == (tmp_path / "m.safetensors").stat().st_size
    assert (found["fit_seconds"], found["fit_mb"], found["units_per_second"], found["predict_mb"]) == (15, 200, 50, 40)
    nothing = costs.cost(tmp_path / "m.safetensors", [], [tmp_path / "gone.tsv"], 200)
    assert nothing["fit_seconds"] is nothing["units_per_second"] is None
