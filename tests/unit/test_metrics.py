"""Scores against independent code on random input."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from scipy.spatial import cKDTree
from sklearn import metrics as sk

from shest.score import evaluate, metrics

TYPES = list("ABCDE")
RNG = np.random.default_rng(7)


def labels(n=400, kinds="ABCD"):
    actual = RNG.choice(list(kinds), n)
    called = np.where(RNG.random(n) < 0.6, actual, RNG.choice(list("ABCE"), n))
    return actual, called


def test_f1_and_balanced_accuracy_equal_scikit_learn():
    actual, called = labels()
    scores = evaluate.score_types(actual, called, TYPES)
    present = sorted(set(actual))
    for average in ("weighted", "macro"):
        expected = sk.f1_score(actual, called, labels=present, average=average, zero_division=0)
        assert scores["f1"][average] == pytest.approx(expected, abs=1e-8)
    per_class = sk.f1_score(actual, called, labels=present, average=None, zero_division=0)
    assert [scores["f1"]["per_class"][t] for t in present] == pytest.approx(list(per_class), abs=1e-8)
    assert scores["f1"]["per_class"]["E"] is None
    recall = sk.recall_score(actual, called, labels=present, average="macro", zero_division=0)
    assert scores["balanced_accuracy"] == pytest.approx(recall, abs=1e-8)
    assert np.array_equal(scores["confusion"]["counts"], sk.confusion_matrix(actual, called, labels=TYPES))


def test_a_type_outside_the_list_is_refused():
    with pytest.raises(ValueError, match="not in the list"):
        metrics.confusion_matrix(np.array(["Z"]), np.array(["A"]), TYPES)


def expression(n=300, genes=130):
    actual = RNG.poisson(2.0, (n, genes)).astype(float)
    actual[:, 3] = 0
    predicted = actual * 0.3 + RNG.gamma(2, 1, (n, genes))
    predicted[:, 5] = 1.7
    block = RNG.integers(0, 6, n)
    block[:6] = np.arange(6)
    scored = evaluate.Scored(
        np.array(["A"] * n), RNG.random((n, 2)) * 500, block, sparse.csc_matrix(actual), [f"g{i}" for i in range(genes)]
    )
    return scored, actual, predicted


def test_correlations_equal_scipy_gene_by_gene():
    scored, actual, predicted = expression()
    genes, summary = evaluate.score_expression(scored, lambda part: predicted[:, part], None)
    keep = [i for i in range(130) if i not in (3, 5)]
    for i in keep:
        assert genes["pearson"][i] == pytest.approx(stats.pearsonr(actual[:, i], predicted[:, i])[0], abs=1e-8)
        assert genes["spearman"][i] == pytest.approx(stats.spearmanr(actual[:, i], predicted[:, i])[0], abs=1e-8)
    assert genes["pearson"][[3, 5]].tolist() == [0.0, 0.0]
    assert summary["pearson"]["median"] == pytest.approx(np.median(genes["pearson"]))
    assert summary["pearson"]["share_above_0.3"] == np.mean(genes["pearson"] > 0.3)


def test_a_baseline_is_scored_as_the_prediction_is_on_any_number_of_threads():
    scored, _, predicted = expression()
    weights = metrics.resample_blocks(int(scored.block.max()) + 1, 20, 1)
    read = lambda part: predicted[:, part]  # noqa: E731
    genes, summary = evaluate.score_expression(scored, read, weights, {"same": read})
    assert genes["pearson_same"].to_numpy() == pytest.approx(genes["pearson"].to_numpy(), abs=1e-9)
    assert summary["baselines"]["same"]["pearson"] == pytest.approx(summary["pearson"])
    again, other = evaluate.score_expression(scored, read, weights, {"same": read}, threads=3)
    assert again.equals(genes)
    assert other == summary


def test_correlation_survives_large_offsets_and_small_spreads():
    x = RNG.normal(0, 1e-4, (500, 1))
    y = x + RNG.normal(0, 1e-4, (500, 1))
    sums = metrics.block_sums(x + 1e4, y + 1e4, np.zeros(500, int), 1)
    assert metrics.pearson_from_sums(sums)[0, 0] == pytest.approx(np.corrcoef(x.T, y.T)[0, 1], abs=1e-6)


def test_block_bootstrap_of_the_median_equals_recomputing_it_on_repeated_cells():
    scored, actual, predicted = expression(genes=20)
    weights = metrics.resample_blocks(6, 15, seed=1)
    _, summary = evaluate.score_expression(scored, lambda part: predicted[:, part], weights)
    medians = []
    for draw in weights:
        rows = np.concatenate([np.repeat(np.flatnonzero(scored.block == b), k) for b, k in enumerate(draw)])
        with np.errstate(invalid="ignore"):
            r = [np.corrcoef(actual[rows, g], predicted[rows, g])[0, 1] for g in range(20)]
        medians.append(np.median(np.nan_to_num(r)))
    assert summary["interval"] == pytest.approx(metrics.interval(np.array(medians)), abs=1e-8)


def test_block_bootstrap_of_types_equals_recomputing_it_on_repeated_cells():
    actual, called = labels()
    block = np.arange(400) % 7
    weights = metrics.resample_blocks(7, 20, seed=3)
    found = evaluate.type_intervals(actual, called, TYPES, block, weights)
    values = []
    for draw in weights:
        rows = np.concatenate([np.repeat(np.flatnonzero(block == b), k) for b, k in enumerate(draw)])
        present = sorted(set(actual[rows]))
        values.append(sk.f1_score(actual[rows], called[rows], labels=present, average="macro", zero_division=0))
    assert found["macro"] == pytest.approx(metrics.interval(np.array(values)), abs=1e-8)


def test_morans_i_equals_the_dense_formula():
    scored, actual, _ = expression(n=120, genes=6)
    graph = evaluate.neighbour_graph(scored.xy)
    w = graph.toarray()
    w = w / w.sum(axis=1, keepdims=True)
    z = actual - actual.mean(axis=0)
    expected = [len(z) / w.sum() * (v @ w @ v) / (v @ v) if v.any() else np.nan for v in z.T]
    assert evaluate.moran(actual, scored.genes, graph) == pytest.approx(expected, abs=1e-8, nan_ok=True)


def test_nearest_distances_equal_a_tree_and_leave_the_cell_itself_out():
    xy, kind = RNG.random((200, 2)) * 100, RNG.choice(list("AB"), 200)
    kind[0] = "C"
    found = metrics.nearest_distances(xy, kind, list("ABCD"))
    a, b = xy[kind == "A"], xy[kind == "B"]
    assert found["A", "B"] == pytest.approx(cKDTree(b).query(a)[0], abs=1e-8)
    assert found["A", "A"] == pytest.approx(cKDTree(a).query(a, k=2)[0][:, 1], abs=1e-8)
    assert ("C", "C") not in found
    assert not any("D" in pair for pair in found)


def test_flipped_labels_and_a_permuted_gene_lower_just_what_they_should():
    scored, actual, _ = expression(n=4000, genes=6)
    predicted = actual + RNG.normal(0, 0.5, actual.shape)
    before, _ = evaluate.score_expression(scored, lambda part: predicted[:, part], None)
    predicted[:, 2] = RNG.permutation(predicted[:, 2])
    after, _ = evaluate.score_expression(scored, lambda part: predicted[:, part], None)
    assert abs(after["pearson"][2]) < 0.06
    assert before["pearson"].drop(2).equals(after["pearson"].drop(2))
    truth = RNG.choice(list("AB"), 4000)
    called = truth.copy()
    flipped = RNG.choice(4000, 400, replace=False)
    called[flipped] = np.where(called[flipped] == "A", "B", "A")
    assert evaluate.score_types(truth, called, ["A", "B"])["f1"]["weighted"] == pytest.approx(0.9, abs=0.005)


def test_mutations_move_every_metric_by_what_they_should():
    """Flip 10 % of the labels to other types at random, and permute one gene over the cells."""
    rng = np.random.default_rng(5)
    n, types = 6000, list("ABC")
    xy = rng.random((n, 2)) * 1000
    truth = np.array(types)[np.minimum((xy[:, 0] / 334).astype(int), 2)]  # in bands: expression follows place
    mean = np.array([[1, 5, 2, 2], [4, 1, 2, 5], [2, 2, 6, 1]])[pd.Categorical(truth, types).codes]
    counts, expected = rng.poisson(mean), mean + rng.normal(0, 0.1, mean.shape)
    called = truth.copy()
    flipped = rng.choice(n, n // 10, replace=False)
    called[flipped] = [rng.choice([t for t in types if t != truth[i]]) for i in flipped]
    mutated = expected.copy()
    mutated[:, 1] = rng.permutation(mutated[:, 1])
    scored = evaluate.Scored(truth, xy, metrics.grid_blocks(xy, 250), sparse.csc_matrix(counts), list("wxyz"))

    found = evaluate.score_types(truth, called, types)
    assert evaluate.score_types(truth, truth, types)["f1"]["weighted"] == 1
    assert found["f1"]["weighted"] == pytest.approx(0.9, abs=0.005)
    assert found["f1"]["macro"] == pytest.approx(0.9, abs=0.005)
    assert found["balanced_accuracy"] == pytest.approx(0.9, abs=0.01)
    matrix = np.array(found["confusion"]["counts"])
    assert matrix.sum() - np.trace(matrix) == n // 10

    before, summary = evaluate.score_expression(scored, lambda part: expected[:, part], None)
    after, lower = evaluate.score_expression(scored, lambda part: mutated[:, part], None)
    for name in ("pearson", "spearman"):
        assert abs(after[name][1]) < 0.05 < before[name][1]
        assert before[name].drop(1).equals(after[name].drop(1))
    assert (summary["pearson"]["share_above_0.3"], lower["pearson"]["share_above_0.3"]) == (1.0, 0.75)

    smooth, held = (evaluate.score_moran(scored, lambda part, v=v: v[:, part])[0] for v in (expected, mutated))
    assert smooth["moran_predicted"][1] > 0.9
    assert abs(held["moran_predicted"][1]) < 0.03
    assert smooth["moran_actual"].equals(held["moran_actual"])

    same, moved = (evaluate.score_distances(xy, truth, calls, types) for calls in (truth, called))
    assert {d["wasserstein"] for d in same} == {0.0}
    cross = next(d for d in moved if (d["from"], d["to"]) == ("A", "C"))  # far bands; flipped cells bring them close
    assert cross["median_predicted"] < cross["median_annotated"] / 3
    assert cross["wasserstein"] == pytest.approx(cross["median_annotated"], rel=0.5)


def test_grid_blocks_number_the_occupied_squares():
    xy = np.array([[0, 0], [9, 9], [11, 0], [-1, 0]])
    assert pd.Series(metrics.grid_blocks(xy, 10)).nunique() == 3
    assert metrics.grid_blocks(xy, 10)[0] == metrics.grid_blocks(xy, 10)[1]
