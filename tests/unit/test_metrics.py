"""Scores against independent code on random input."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import squidpy as sq
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
        assert getattr(scores, average) == pytest.approx(expected, abs=1e-8)
    per_class = sk.f1_score(actual, called, labels=present, average=None, zero_division=0)
    assert [scores.per_class[t] for t in present] == pytest.approx(list(per_class), abs=1e-8)
    assert scores.per_class["E"] is None
    recall = sk.recall_score(actual, called, labels=present, average="macro", zero_division=0)
    assert scores.balanced_accuracy == pytest.approx(recall, abs=1e-8)
    assert np.array_equal(scores.counts, sk.confusion_matrix(actual, called, labels=TYPES))


def test_a_type_outside_the_list_is_refused():
    with pytest.raises(ValueError, match="not in the list"):
        metrics.confusion_matrix(np.array(["Z"]), np.array(["A"]), TYPES)


def expression(n=300, genes=130):
    actual = RNG.poisson(2.0, (n, genes)).astype(float)
    actual[:, 3] = 0
    predicted = actual * 0.3 + RNG.gamma(2, 1, (n, genes))
    predicted[:, 5] = 1.7
    predicted = predicted.astype(np.float32)
    block = RNG.integers(0, 6, n)
    block[:6] = np.arange(6)
    scored = evaluate.Scored(
        np.array(["A"] * n), RNG.random((n, 2)) * 500, block, sparse.csc_matrix(actual), [f"g{i}" for i in range(genes)]
    )
    return scored, actual, predicted


def test_correlations_equal_scipy_gene_by_gene():
    scored, actual, predicted = expression()
    genes, summary = evaluate.score_expression(scored, lambda part: predicted[:, part])
    keep = [i for i in range(130) if i not in (3, 5)]
    for i in keep:
        assert genes["pearson"][i] == pytest.approx(stats.pearsonr(actual[:, i], predicted[:, i])[0], abs=1e-8)
        assert genes["spearman"][i] == pytest.approx(stats.spearmanr(actual[:, i], predicted[:, i])[0], abs=1e-8)
    assert genes["pearson"][[3, 5]].tolist() == [0.0, 0.0]
    assert summary["pearson"]["median"] == pytest.approx(np.median(genes["pearson"]))
    assert summary["pearson"]["share_above_0.3"] == np.mean(genes["pearson"] > 0.3)


def test_the_number_of_threads_does_not_matter():
    scored, _, predicted = expression()
    genes, summary = evaluate.score_expression(scored, lambda part: predicted[:, part])
    again, other = evaluate.score_expression(scored, lambda part: predicted[:, part], threads=3)
    assert again.equals(genes)
    assert other == summary


def test_within_type_correlation_sees_only_what_types_do_not_tell():
    n = 900
    kind = np.repeat(list("ABC"), n // 3)
    level = np.repeat([1.0, 5.0, 9.0], n // 3)
    noise = RNG.normal(0, 1, (n, 2))
    actual = np.stack([level + noise[:, 0], level + noise[:, 1]], axis=1)
    predicted = np.stack([level, level + noise[:, 1]], axis=1)
    scored = evaluate.Scored(kind, RNG.random((n, 2)), np.zeros(n, int), sparse.csc_matrix(actual), ["type", "more"])
    genes, summary = evaluate.score_expression(scored, lambda part: predicted[:, part])
    assert genes["pearson"].min() > 0.9
    assert genes["pearson_within_type"].tolist() == pytest.approx([0.0, 1.0], abs=1e-6)
    for g in range(2):
        centred = [v[:, g] - pd.Series(v[:, g]).groupby(kind).transform("mean").to_numpy() for v in (actual, predicted)]
        if g:
            assert genes["pearson_within_type"][g] == pytest.approx(np.corrcoef(*centred)[0, 1])
    assert summary["pearson"]["within_type"] == pytest.approx(0.5, abs=1e-6)


def test_correlation_survives_large_offsets_and_small_spreads():
    x = (RNG.normal(0, 0.1, (500, 1)) + 1e4).astype(np.float32)
    y = x + RNG.normal(0, 0.1, (500, 1)).astype(np.float32)
    sums = metrics.group_sums(x, y, np.zeros(500, int), 1)
    expected = np.corrcoef(x.T.astype(float), y.T.astype(float))[0, 1]
    assert metrics.pearson_from_sums(sums)[0, 0] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("kind", ["few values", "many values", "signs", "one value"])
def test_ranks_equal_scipy(kind):
    n = 3_000
    values = {
        "few values": RNG.poisson(1.3, (n, 4)),
        "many values": np.round(RNG.lognormal(0, 3, (n, 4)), 2),
        "signs": np.where(RNG.random((n, 4)) < 0.2, -0.0, RNG.normal(0, 1e-3, (n, 4))),
        "one value": np.full((n, 4), 0.3),
    }[kind].astype(np.float32)
    assert np.array_equal(metrics.ranks(values), stats.rankdata(values, axis=0))


def test_the_median_without_a_block_is_that_of_the_other_cells():
    scored, actual, predicted = expression(genes=20)
    scored.cell_type = RNG.choice(list("ABC"), 300)
    genes, summary = evaluate.score_expression(scored, lambda part: predicted[:, part])
    actual, predicted, kind = pd.DataFrame(actual), pd.DataFrame(predicted, dtype=float), scored.cell_type
    assert set(summary["without"]) == set(summary["intervals"]) >= set(evaluate.MEDIANS)
    for block in range(6):
        rows = scored.block != block
        sides = [side[rows] for side in (actual, predicted)]
        within = [side - side.groupby(kind[rows]).transform("mean") for side in sides]
        for name, (one, other) in (("pearson_median", sides), ("pearson_within_type", within)):
            assert summary["without"][name][block] == pytest.approx(one.corrwith(other).fillna(0).median(), abs=1e-8)
        rho = sides[0].corrwith(sides[1], method="spearman").fillna(0).median()
        assert summary["without"]["spearman_median"][block] == pytest.approx(rho, abs=5e-3), "by the ranks among all"
    for name, column in evaluate.MEDIANS.items():
        low, high = summary["intervals"][name]
        assert low < genes[column].median() < high


def test_scores_without_a_block_are_those_of_the_other_cells():
    actual, called = labels()
    block = np.arange(400) % 7
    intervals, without = evaluate.type_intervals(actual, called, TYPES, block)
    for b in range(7):
        rows = block != b
        present = sorted(set(actual[rows]))
        for average in ("weighted", "macro"):
            expected = sk.f1_score(actual[rows], called[rows], labels=present, average=average, zero_division=0)
            assert without[average][b] == pytest.approx(expected)
    low, high = intervals["weighted"]
    assert low < evaluate.score_types(actual, called, TYPES).weighted < high


@pytest.mark.parametrize("blocks", [5, 9, 20, 50])
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_intervals_cover_what_they_promise(blocks, spread):
    """Accuracy over blocks that differ (beta-binomial), of like and of unlike sizes."""
    rng, covered, draws = np.random.default_rng(blocks), 0, 1_500
    for _ in range(draws):
        size = np.maximum(rng.lognormal(np.log(150), spread, blocks), 10).astype(int)
        hits = rng.binomial(size, rng.beta(8, 2, blocks))
        without = metrics.leave_one_out(hits) / metrics.leave_one_out(size)
        low, high = metrics.jackknife_interval(hits.sum() / size.sum(), without, "share")
        covered += low <= 0.8 <= high
    assert 0.92 <= covered / draws <= 0.97


def test_an_interval_of_what_does_not_vary_is_none():
    assert metrics.jackknife_interval(1.0, np.ones(6), "share") is None
    assert metrics.jackknife_interval(0.5, np.array([0.4]), "share") is None


def test_morans_i_equals_the_dense_formula():
    scored, actual, _ = expression(n=120, genes=6)
    nearest = metrics.neighbours(scored.xy, evaluate.NEIGHBOURS)
    w = np.zeros((120, 120))
    for i, place in enumerate(scored.xy):
        w[i, np.argsort(np.linalg.norm(scored.xy - place, axis=1))[1:7]] = 1 / 6
    z = actual - actual.mean(axis=0)
    expected = [len(z) / w.sum() * (v @ w @ v) / (v @ v) if v.any() else np.nan for v in z.T]
    found = metrics.morans_i(actual, nearest)
    assert found == pytest.approx(expected, abs=1e-8, nan_ok=True)
    cells = ad.AnnData(actual, obsp={"spatial_connectivities": sparse.csr_matrix(w)})
    names = list(cells.var_names[np.isfinite(found)])
    theirs = sq.gr.spatial_autocorr(cells, genes=names, mode="moran", n_perms=None, copy=True)["I"]
    assert found[np.isfinite(found)] == pytest.approx(theirs.reindex(names).to_numpy(), abs=1e-6)


def test_drawn_counts_are_as_rough_as_the_actual_and_expectations_are_not():
    rng = np.random.default_rng(2)
    xy = rng.random((3_000, 2)) * 1000
    expected = (1.5 + np.sin(xy[:, :1] / 150 + np.arange(8))).astype(np.float32)
    actual, drawn = (rng.poisson(expected).astype(np.float32) for _ in range(2))
    scored = evaluate.Scored(
        np.array(["A"] * 3_000), xy, np.zeros(3_000, int), sparse.csc_matrix(actual), [f"g{i}" for i in range(8)]
    )
    genes, summary = evaluate.score_expression(scored, lambda part: expected[:, part], drawn=sparse.csc_matrix(drawn))
    assert (genes["moran_predicted"] > 0.9).all()
    assert (genes["moran_drawn"] - genes["moran_actual"]).abs().max() < 0.06
    assert genes["moran_drawn"].tolist() == pytest.approx(metrics.morans_i(drawn, metrics.neighbours(xy, 6)).tolist())
    assert summary["moran"]["median_drawn"] == pytest.approx(genes["moran_drawn"].median())
    assert "6 nearest scored cells" in summary["moran"]["graph"]
    alone, without = evaluate.score_expression(scored, lambda part: expected[:, part])
    assert "moran_drawn" not in alone
    assert without["moran"]["median_drawn"] is without["moran"]["correlation_drawn"] is None


def test_the_ceiling_is_what_the_truth_itself_reaches():
    rng = np.random.default_rng(4)
    kind = rng.choice(list("AB"), 2_000)
    true = np.where(kind == "A", 1.0, 4.0)[:, None] * rng.lognormal(0, 0.5, (2_000, 3))
    counts, guess = rng.poisson(true), np.where(kind == "A", 1.0, 4.0)[:, None] * np.ones((1, 3))
    scored = evaluate.Scored(
        kind, rng.random((2_000, 2)), np.zeros(2_000, int), sparse.csc_matrix(counts.astype(np.float32)), list("xyz")
    )
    genes, summary = evaluate.score_expression(
        scored, lambda part: guess[:, part], truth=lambda part: np.where(np.arange(3) < 2, true, np.nan)[:, part]
    )
    for g in range(2):
        assert genes["ceiling"][g] == pytest.approx(np.corrcoef(true[:, g], counts[:, g])[0, 1], abs=1e-6)
        inside = [v - pd.Series(v).groupby(kind).transform("mean") for v in (true[:, g], counts[:, g])]
        assert genes["ceiling_within_type"][g] == pytest.approx(np.corrcoef(*inside)[0, 1], abs=1e-6)
    assert np.isnan(genes["ceiling"][2]), "a gene whose truth is not known"
    assert summary["pearson"]["ceiling"] == pytest.approx(genes["ceiling"].median())
    assert genes["pearson"][0] < genes["ceiling"][0]
    assert "ceiling" not in evaluate.score_expression(scored, lambda part: guess[:, part])[1]["pearson"]


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
    before, _ = evaluate.score_expression(scored, lambda part: predicted[:, part])
    predicted[:, 2] = RNG.permutation(predicted[:, 2])
    after, _ = evaluate.score_expression(scored, lambda part: predicted[:, part])
    assert abs(after["pearson"][2]) < 0.06
    assert before["pearson"].drop(2).equals(after["pearson"].drop(2))
    truth = RNG.choice(list("AB"), 4000)
    called = truth.copy()
    flipped = RNG.choice(4000, 400, replace=False)
    called[flipped] = np.where(called[flipped] == "A", "B", "A")
    assert evaluate.score_types(truth, called, ["A", "B"]).weighted == pytest.approx(0.9, abs=0.005)


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
    assert evaluate.score_types(truth, truth, types).weighted == 1
    assert found.weighted == pytest.approx(0.9, abs=0.005)
    assert found.macro == pytest.approx(0.9, abs=0.005)
    assert found.balanced_accuracy == pytest.approx(0.9, abs=0.01)
    matrix = np.array(found.counts)
    assert matrix.sum() - np.trace(matrix) == n // 10

    before, summary = evaluate.score_expression(scored, lambda part: expected[:, part])
    after, lower = evaluate.score_expression(scored, lambda part: mutated[:, part])
    for name in ("pearson", "spearman"):
        assert abs(after[name][1]) < 0.05 < before[name][1]
        assert before[name].drop(1).equals(after[name].drop(1))
    assert (summary["pearson"]["share_above_0.3"], lower["pearson"]["share_above_0.3"]) == (1.0, 0.75)

    assert before["moran_predicted"][1] > 0.9
    assert abs(after["moran_predicted"][1]) < 0.03
    assert before["moran_actual"].equals(after["moran_actual"])

    same, moved = (evaluate.score_distances(xy, truth, calls, types) for calls in (truth, called))
    assert {d["wasserstein"] for d in same} == {0.0}
    cross = next(d for d in moved if (d["from"], d["to"]) == ("A", "C"))  # far bands; flipped cells bring them close
    assert cross["median_predicted"] < cross["median_annotated"] / 3
    assert cross["wasserstein"] == pytest.approx(cross["median_annotated"], rel=0.5)


def test_grid_blocks_number_the_occupied_squares():
    xy = np.array([[0, 0], [9, 9], [11, 0], [-1, 0]])
    assert pd.Series(metrics.grid_blocks(xy, 10)).nunique() == 3
    assert metrics.grid_blocks(xy, 10)[0] == metrics.grid_blocks(xy, 10)[1]
