"""High or low by gene: labels within each sample, a planted link, and genes that say nothing."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from support.simulated import Array

from shest.labels.training_set import TrainingSet
from shest.systems import base
from shest.systems.high_low.system import elastic_net, high


@pytest.fixture(scope="module")
def made():
    """Two samples, the second four times as deep; one linked gene, one that is noise, one that is never seen."""
    rng = np.random.default_rng(0)
    n = 1200
    x, sample = rng.normal(size=(n, 5)), np.repeat([0, 1], n // 2)
    depth = np.where(sample, 4.0, 1.0)
    counts = np.stack([rng.poisson(depth * np.exp(1 + x[:, 0])), rng.poisson(depth * 2), np.zeros(n)], axis=1)
    units = rng.permutation(n)
    data = TrainingSet(
        Array(x),
        sparse.csr_matrix(counts),
        np.array([[True, True, True], [True, False, True]]),
        sample,
        np.zeros(n, np.int64),
        np.sort(units[:900]),
        units[:0],
        ["a"],
        ["linked", "noise", "never"],
    )
    system = base.spec_of("high_low").create(base.settings_of({"kind": "high_low"}, {"seed": 1}))
    system.fit(data, lambda n: None)
    return data, counts, sample, np.sort(units[900:]), system


def test_high_is_above_the_mean_of_its_own_sample():
    counts = sparse.csr_matrix(np.array([[0.0], [2.0], [10.0], [20.0]]))
    assert high(counts, np.array([0, 0, 1, 1])).ravel().tolist() == [False, True, False, True]


def test_a_linked_gene_is_told_and_noise_is_not(made):
    data, _, sample, test, system = made
    truth = high(data.counts, sample)[test]
    found = system.predict(data.source.take(test)).expected
    assert roc_auc_score(truth[:, 0], found[:, 0]) > 0.8
    assert abs(roc_auc_score(truth[:, 1], found[:, 1]) - 0.5) < 0.1
    assert found[:, 2].max() < 1e-5
    assert ((found >= 0) & (found <= 1)).all()


def test_the_penalty_leaves_features_out_that_say_nothing(made):
    *_, system = made
    assert abs(system.weight[0, 0]) > 10 * np.abs(system.weight[1:, 0]).max()


@pytest.mark.parametrize(("strength", "l1_ratio"), [(0.1, 0.5), (1.0, 0.9), (0.02, 0.0)])
def test_all_genes_at_once_have_the_weights_of_scikit_learn(strength, l1_ratio):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 8)) @ rng.normal(size=(8, 8))  # correlated features
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
    label = rng.random((300, 5)) < 1 / (1 + np.exp(-x[:, :5] + 1))
    label[:, 4] = False
    measured = np.ones((300, 5), bool)
    measured[:120, 1] = False
    weight, bias, unfinished = elastic_net(x, label, measured, strength, l1_ratio, 5000)
    assert unfinished == 0
    for gene in range(4):
        rows = measured[:, gene]
        model = LogisticRegression(
            solver="saga", penalty="elasticnet", C=strength, l1_ratio=l1_ratio, max_iter=20_000, tol=1e-7
        ).fit(x[rows], label[rows, gene])
        assert weight[:, gene] == pytest.approx(model.coef_[0], abs=0.01)
        assert bias[gene] == pytest.approx(model.intercept_[0], abs=0.01)
    assert (weight[:, 4] == 0).all()
    assert bias[4] < -10
    assert elastic_net(x, label, measured, strength, l1_ratio, 2)[2] > 0, "what still moves is counted"


def test_saved_and_loaded_it_predicts_the_same(made, tmp_path):
    data, *_, system = made
    info = {"kind": "high_low", "settings": system.settings, "genes": data.genes, "classes": []}
    base.save(tmp_path / "m.safetensors", tmp_path / "m.json", base.Trained(system, info))
    again = base.load(tmp_path / "m.safetensors", tmp_path / "m.json").system
    x = data.source.take(np.arange(7))
    np.testing.assert_array_equal(again.predict(x).expected, system.predict(x).expected)
