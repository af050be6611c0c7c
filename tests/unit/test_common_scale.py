"""Predictions of any unit on one scale: correlations as NumPy has them, whoever predicts counts or logarithms."""

import numpy as np
import pytest
from scipy import sparse
from support.scores import evaluation

from shest.io.expression import COMMON, LOG1P_MEDIAN, normalise
from shest.score import common_scale, compare

COUNTS = "expected counts per cell"


@pytest.fixture(scope="module")
def tissue():
    """Counts of 500 units of two types, what was expected of them, and their blocks."""
    rng = np.random.default_rng(3)
    kind, block = rng.choice(["a", "b"], 500), rng.integers(0, 5, 500)
    expected = rng.gamma(2, 1, (500, 9)) * np.where(kind == "a", 2, 1)[:, None] * np.arange(1, 10)
    return sparse.csr_matrix(rng.poisson(expected)), expected, kind, block


def scored(values, unit, tissue, median=None):
    counts, _, kind, block = tissue
    total = np.asarray(counts.sum(axis=1), float).ravel()
    return common_scale.score(lambda part: values[part], counts, total, unit, median, kind, block)


def logs(values):
    return np.log10(1 + 1e4 * values / values.sum(axis=1, keepdims=True))


def test_scores_are_the_correlations_of_logs_at_one_depth(tissue, monkeypatch):
    counts, expected, kind, block = tissue
    true, found = logs(counts.toarray()), logs(expected)
    scores, intervals, without = scored(expected, COUNTS, tissue)
    by_gene = [np.corrcoef(true[:, k], found[:, k])[0, 1] for k in range(9)]
    assert scores["pearson"] == pytest.approx(np.median(by_gene), abs=1e-5)
    assert scores["by_unit"] == pytest.approx(
        np.mean([np.corrcoef(*rows)[0, 1] for rows in zip(true, found, strict=True)]), abs=1e-5
    )
    centred = [v - np.array([v[kind == k].mean(axis=0) for k in kind]) for v in (true, found)]
    within = [np.corrcoef(centred[0][:, k], centred[1][:, k])[0, 1] for k in range(9)]
    assert scores["within_type"] == pytest.approx(np.median(within), abs=1e-5)
    first = block != 0
    left = np.median([np.corrcoef(true[first, k], found[first, k])[0, 1] for k in range(9)])
    assert without[0] == pytest.approx(left, abs=1e-5)
    low, high = intervals["pearson_common"]
    assert low < scores["pearson"] < high
    assert scores["genes_above"] == sum(r > 0.3 for r in by_gene) > 0
    assert scores["genes_above_null"] == 0
    monkeypatch.setattr(common_scale, "ROWS", 64)
    assert scored(expected, COUNTS, tissue)[0] == pytest.approx(scores)


def test_counts_and_logarithms_of_the_same_are_scored_alike(tissue):
    expected, sums = tissue[1], tissue[1].sum(axis=1)
    of_counts = scored(expected, COUNTS, tissue)[0]
    median = np.full(500, 70.0)
    as_logs = normalise(sparse.csr_matrix(expected), sums, LOG1P_MEDIAN, median).toarray()
    assert scored(as_logs, LOG1P_MEDIAN, tissue, median)[0] == pytest.approx(of_counts, abs=1e-4)
    as_logs = normalise(sparse.csr_matrix(expected), sums, COMMON).toarray()
    assert scored(as_logs, COMMON, tissue)[0] == pytest.approx(of_counts, abs=1e-4)


def test_means_without_an_image_score_across_genes_and_in_no_gene(tissue):
    mean = np.tile(tissue[0].toarray().mean(axis=0), (500, 1))
    scores, _, _ = scored(mean, COUNTS, tissue)
    assert scores["pearson"] == scores["within_type"] == 0
    assert scores["by_unit"] > 0.5


def test_medians_of_other_scales_have_no_difference_and_those_of_one_scale_have():
    common = {"pearson": 0.3, "within_type": 0.1, "by_unit": 0.6, "genes_above": 4, "genes_above_null": 0}
    lower = common | {"pearson": 0.2}
    base = evaluation("base", "linear", expression_unit=COUNTS, common=lower, intervals=with_blocks(0.2))
    net = evaluation("net", "net", expression_unit=COMMON, common=common, intervals=with_blocks(0.3))
    net.pearson["within_type"] = 0.1
    found = {row["score"]: row for row in compare.differences([net, base])}
    assert "pearson_median" not in found
    assert found["pearson_common"]["difference"] == pytest.approx(0.1)
    net.expression_unit = "counts per cell, otherwise"
    assert "pearson_median" in {row["score"] for row in compare.differences([net, base])}
    row = compare.rows([net])[["pearson_common", "pearson_common_by_unit", "expression_unit"]].iloc[0].tolist()
    assert row == [0.3, 0.6, "counts per cell, otherwise"]


def with_blocks(value):
    rest = [value - 0.01, value, value + 0.02]
    return {"n_blocks": 3, "without": {"pearson_common": rest, "pearson_median": rest}}
