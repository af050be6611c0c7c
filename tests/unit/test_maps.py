"""How predicted maps agree with measured ones, against plain sums over pairs of cells."""

import numpy as np
import pytest
from scipy import sparse, stats
from sklearn.metrics import jaccard_score, roc_auc_score

from shest.score import evaluate, maps, metrics

N, GENES, K = 150, 5, 6


@pytest.fixture(scope="module")
def tissue():
    """Places, counts and predictions that follow them; the last gene's prediction is constant."""
    rng = np.random.default_rng(3)
    xy = rng.random((N, 2)) * 100
    rate = 2 + 1.5 * np.sin(xy[:, :1] / 15 + np.arange(GENES))
    actual = rng.poisson(rate).astype(np.float32)
    predicted = (rate * rng.lognormal(0, 0.3, (N, GENES))).astype(np.float32)
    predicted[:, -1] = 0.3
    return xy, actual, predicted


def weights(xy):
    """Rows of a dense W: 1 / 6 to each of the six nearest."""
    w = np.zeros((N, N))
    for i, place in enumerate(xy):
        w[i, np.argsort(np.linalg.norm(xy - place, axis=1))[1 : K + 1]] = 1 / K
    return w


def scored(xy, actual, block=None, fold=None):
    block = np.zeros(N, int) if block is None else block
    names = [f"g{g}" for g in range(actual.shape[1])]
    return evaluate.Scored(np.array(["A", "B"] * (N // 2)), xy, block, sparse.csc_matrix(actual), names, fold)


def test_bivariate_moran_equals_a_double_sum(tissue):
    xy, actual, predicted = tissue
    found = maps.map_sums(actual, predicted, metrics.neighbours(xy, K), np.zeros(N, int))
    total, w = found.total(), weights(xy)
    z = [
        (v.astype(float) - v.mean(axis=0, dtype=float)) / v.std(axis=0, dtype=float) for v in (actual, predicted[:, :4])
    ]
    expected = [
        sum(z[1][i, g] * w[i, j] * z[0][j, g] for i in range(N) for j in range(N) if w[i, j]) / N for g in range(4)
    ]
    assert maps.bivariate_moran(*total, found.floor) == pytest.approx([*expected, 0.0], abs=1e-9)
    assert min(expected) > 0.2
    alone = [sum(v @ w[i] * v[i] for i in range(N)) / (v @ v) for v in z[0].T]
    assert maps.morans_i(total[0], 0) == pytest.approx(alone, abs=1e-9)


def test_the_overlap_of_high_places_is_the_jaccard_index_of_the_smoothed_maps(tissue):
    xy, actual, predicted = tissue
    found = maps.map_sums(actual, predicted, metrics.neighbours(xy, K), np.zeros(N, int))
    smooth = (weights(xy) * K + np.eye(N)) / (K + 1)
    high = [np.stack([stats.zscore(smooth @ v[:, g].astype(float)) > 0 for g in range(4)]) for v in (actual, predicted)]
    table = maps.overlap(*found.total())
    for g in range(4):
        low_first = jaccard_score(high[0][g], high[1][g], average=None)
        assert table["iou_high"][g] == pytest.approx(low_first[1])
        assert table["iou_low"][g] == pytest.approx(low_first[0])
    assert table["iou_high"][4] == table["iou_chance"][4] == 0, "a flat map is high nowhere"


def test_chance_is_what_shuffled_maps_reach(tissue):
    xy, actual, predicted = tissue
    found = maps.map_sums(actual, predicted, metrics.neighbours(xy, K), np.zeros(N, int)).total()
    rng, a, p = np.random.default_rng(0), int(found[0][5, 0]), int(found[0][6, 0])
    x, y = (np.arange(N) < k for k in (a, p))
    shuffled = [jaccard_score(x, rng.permutation(y)) for _ in range(2_000)]
    assert maps.overlap(*found)["iou_chance"][0] == pytest.approx(np.mean(shuffled), abs=0.005)


def test_without_a_block_its_cells_still_are_neighbours(tissue):
    xy, actual, predicted = tissue
    block = np.arange(N) % 3
    found = maps.map_sums(actual, predicted, metrics.neighbours(xy, K), block)
    z, v = (values[:, 0].astype(float) - values[:, 0].mean(dtype=float) for values in (actual, predicted))
    rest = block != 1
    expected = v[rest] @ (weights(xy) @ z)[rest] / np.sqrt((z[rest] ** 2).sum() * (v[rest] ** 2).sum())
    assert maps.bivariate_moran(*found.without(), found.floor)[1, 0] == pytest.approx(expected, abs=1e-9)


def test_the_null_moves_predictions_along_the_tissue(tissue):
    xy, actual, predicted = tissue
    order, moved = maps.along(xy), maps.shifts(N)
    assert sorted(order) == list(range(N))
    step = np.linalg.norm(np.diff(xy[order], axis=0), axis=1)
    assert np.median(step) < np.median(np.linalg.norm(np.diff(xy, axis=0), axis=1)) / 4, "neighbours in the order"
    spread = np.sqrt(((actual - actual.mean(0)) ** 2).sum(0) * ((predicted - predicted.mean(0)) ** 2).sum(0))
    spread[4] = 0
    found = maps.null_correlations(actual, predicted, order, moved, spread)
    assert found.shape == (maps.SHIFTS, GENES)
    expected = stats.pearsonr(actual[order, 1], np.roll(predicted[order, 1], -moved[2]))[0]
    assert found[2, 1] == pytest.approx(expected, abs=1e-5)
    assert (found[:, 4] == 0).all()


def test_the_auc_is_of_high_cells_by_what_is_predicted_and_without_a_block_of_the_others(tissue):
    xy, actual, predicted = tissue
    predicted = np.round(predicted, 0)  # ties
    block = np.arange(N) % 4
    actual = np.column_stack([actual, np.full(N, 3, np.float32)])
    predicted = np.column_stack([predicted, predicted[:, 0]])
    genes, summary = evaluate.score_expression(scored(xy, actual, block), lambda part: predicted[:, part])
    high = actual > actual.mean(axis=0, dtype=float)
    expected = [roc_auc_score(high[:, g], predicted[:, g]) for g in range(GENES)]
    assert genes["auc_high"][:GENES].tolist() == pytest.approx(expected)
    assert genes["auc_high"][GENES - 1] == 0.5, "a constant prediction tells nothing"
    assert np.isnan(genes["auc_high"][GENES]), "a gene that does not vary is nowhere high"
    assert summary["auc"]["median"] == pytest.approx(np.median(expected))
    assert min(expected[:4]) > 0.6
    for b in range(4):
        rest = block != b
        without = np.median([roc_auc_score(high[rest, g], predicted[rest, g]) for g in range(GENES)])
        assert summary["without"]["auc_high"][b] == pytest.approx(without)
    low, top = summary["intervals"]["auc_high"]
    assert low < summary["auc"]["median"] < top
    upside_down = evaluate.score_expression(scored(xy, actual, block), lambda part: -predicted[:, part])[0]
    assert upside_down["auc_high"][:GENES].tolist() == pytest.approx([1 - value for value in expected])


def test_r_within_a_unit_is_across_genes_and_all_scores_come_out_of_one_pass(tissue):
    xy, actual, predicted = tissue
    genes, summary = evaluate.score_expression(scored(xy, actual, np.arange(N) % 4), lambda part: predicted[:, part])
    by_unit = [stats.pearsonr(*np.log1p([actual[i], predicted[i]]))[0] if np.ptp(actual[i]) else 0 for i in range(N)]
    assert summary["unitwise"]["median"] == pytest.approx(np.median(by_unit), abs=1e-6)
    without = np.median(np.array(by_unit)[np.arange(N) % 4 != 2])
    assert summary["without"]["unit_r"][2] == pytest.approx(without, abs=1e-6)
    logs = scored(xy, np.log1p(actual))
    logs.in_logs = True
    _, of_logs = evaluate.score_expression(logs, lambda part: np.log1p(predicted)[:, part])
    assert of_logs["unitwise"]["median"] == pytest.approx(np.median(by_unit), abs=1e-6), (
        "logarithms are not taken twice"
    )
    assert summary["pearson"]["n_above_0.3"] == (genes["pearson"] >= 0.3).sum() == 4
    assert summary["pearson"]["null"]["highest"] < 4
    assert summary["pearson"]["null"]["p"] == pytest.approx(1 / 6)
    assert summary["moran"]["bivariate"] == pytest.approx(genes["moran_bivariate"].median())
    assert summary["iou"]["high"] > summary["iou"]["chance"] > 0
    assert set(evaluate.SCALES) - {"pearson_top"} == set(summary["intervals"])
    shuffled = np.random.default_rng(1).permutation(predicted)
    _, chance = evaluate.score_expression(scored(xy, actual), lambda part: shuffled[:, part])
    assert abs(chance["moran"]["bivariate"]) < 0.1
    assert chance["iou"]["high"] < summary["iou"]["high"] - 0.1


def test_the_best_genes_are_chosen_in_other_folds(monkeypatch):
    """Noise that looks best where it is chosen looks like nothing where it was not."""
    rng = np.random.default_rng(5)
    xy, genes = rng.random((N, 2)), 60
    actual, predicted = rng.poisson(3, (N, genes)).astype(np.float32), rng.random((N, genes)).astype(np.float32)
    predicted[:, 0] = actual[:, 0]
    monkeypatch.setattr(evaluate, "TOP", 3)
    block = np.arange(N) % 6
    fold = np.array(["0", "1"])[block % 2]
    table, summary = evaluate.score_expression(scored(xy, actual, block, fold), lambda part: predicted[:, part])

    def crossed(rows):
        r = {}
        for f in "01":
            part = rows & (fold == f)
            r[f] = np.array([stats.pearsonr(actual[part, g], predicted[part, g])[0] for g in range(genes)])
        return np.median([*r["1"][np.argsort(-r["0"])[:3]], *r["0"][np.argsort(-r["1"])[:3]]])

    top = summary["pearson"]["top"]
    assert top["median"] == pytest.approx(crossed(block >= 0), abs=1e-6)
    assert top["genes"] == 3
    assert top["median"] < table["pearson"].nlargest(3).median() - 0.05, "no choice on the cells that are scored"
    without = [crossed(block != b) for b in range(6)]
    assert summary["without"]["pearson_top"] == pytest.approx(without, abs=1e-6)
    mixed = np.array(["0", "1"])[np.arange(N) // 75]
    for other in (None, np.full(N, "0"), mixed):
        alone = evaluate.score_expression(scored(xy, actual, block, other), lambda part: predicted[:, part])[1]
        assert alone["pearson"]["top"] is None
