"""The linear system and the mean against scikit-learn and plain formulas."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score
from support.simulated import simulate

from shest.systems import base, regression, uncertainty
from shest.systems.linear import system as linear
from shest.systems.mean.system import Mean


def fit(data):
    fitted = linear.Linear({"seed": 42})
    fitted.fit(data, lambda steps: None)
    return fitted


def types(system, x):
    return uncertainty.softmax(system.predict(x).type_logits[0])


@pytest.fixture(scope="module")
def fitted():
    data, truth = simulate(n=1_200, signal=2.5)
    return data, truth, fit(data)


def test_logistic_regression_is_about_as_good_as_the_truth_allows(fitted):
    data, truth, model = fitted
    probability = types(model, data.source.take(truth.test))
    assert (probability.argmax(axis=1) == data.label[truth.test]).mean() > 0.85
    np.testing.assert_allclose(probability.sum(axis=1), 1)


def test_ridge_equals_scikit_learn(monkeypatch):
    data, truth = simulate(n=500)
    monkeypatch.setattr(regression, "PENALTIES", (0.1,))
    base = fit(data)
    x = base._standardise(data.source.take(data.train))
    other = Ridge(alpha=0.1 * len(x)).fit(x, np.log1p(data.counts[data.train].toarray()))
    np.testing.assert_allclose(base.ridge_weight, other.coef_.T, atol=1e-4)
    np.testing.assert_allclose(base.ridge_bias, other.intercept_, atol=1e-4)
    found = base.predict(data.source.take(truth.test)).expected
    expected = np.expm1(np.maximum(other.predict(base._standardise(data.source.take(truth.test))), 0))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_penalty_is_chosen_on_validation_cells(monkeypatch):
    data, _ = simulate(n=500, signal=0.0)
    monkeypatch.setattr(regression, "PENALTIES", (1e-6, 1e6))
    assert np.abs(fit(data).ridge_weight).max() < 1e-4  # nothing to learn: the strong one


def test_the_mean_is_that_of_the_training_cells_and_looks_at_nothing():
    data, _ = simulate(n=1_200)
    mean = Mean({})
    assert mean.fit(data, lambda steps: None) == []
    predicted = mean.predict(np.empty((7, 0)))
    counts, label = data.counts[data.train].toarray(), data.label[data.train]
    np.testing.assert_allclose(predicted.expected, np.tile(counts.mean(axis=0), (7, 1)), rtol=1e-5)
    np.testing.assert_allclose(np.exp(predicted.type_logits[0, 3]), np.bincount(label) / len(label), rtol=1e-5)


def test_samples_without_a_gene_do_not_count_for_it():
    data, _ = simulate(n=800)
    sample = np.arange(2_300) % 2
    measured = np.ones((2, 30), bool)
    measured[1, 10:] = False
    counts = data.counts.toarray()
    counts[sample == 1, 10:] = 0
    partial = replace(data, counts=sparse.csr_matrix(counts), measured=measured, sample=sample)
    mean = Mean({})
    mean.fit(partial, lambda steps: None)
    half = data.train[sample[data.train] == 0]
    np.testing.assert_allclose(mean.expected[10:], counts[half][:, 10:].mean(axis=0), rtol=1e-5)
    x = data.source.take(data.val)
    full = fit(data).predict(x).expected[:, 10:].mean()
    assert fit(partial).predict(x).expected[:, 10:].mean() == pytest.approx(full, rel=0.1)


def test_two_classes_and_a_class_without_cells():
    data, _ = simulate(n=600, classes=2)
    base = fit(data)
    assert (types(base, data.source.take(data.val)).argmax(axis=1) == data.label[data.val]).mean() > 0.95
    weight, bias, _ = regression.fit_logistic(
        np.eye(4), np.array([0, 0, 2, 2]), np.empty((0, 4)), np.empty(0, int), 3, 0
    )
    assert ((np.eye(4) @ weight + bias).argmax(axis=1) == [0, 0, 2, 2]).all()


def test_the_history_says_what_each_penalty_costs(fitted):
    data, _, _ = fitted
    rows = linear.Linear({}).fit(data, lambda steps: None)
    parts = dict.fromkeys(regression.WEIGHTS, regression.INVERSE_PENALTIES) | {"ridge": regression.PENALTIES}
    for part, strengths in parts.items():
        assert [row["step"] for row in rows if row["part"] == part] == list(strengths)
    own = [row for row in rows if row["part"] == "ridge"]
    assert [row for row in own if row["best"]][-1]["val_loss"] == min(row["val_loss"] for row in own)
    assert set().union(*rows) <= set(base.HISTORY)


def test_the_selection_score_is_the_mean_of_two_f1():
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(0, 3, 200), rng.integers(0, 4, 200)
    expected = [f1_score(label, predicted, labels=[0, 1, 2], average=a, zero_division=0) for a in ("weighted", "macro")]
    assert regression.selection_score(label, predicted, 4) == pytest.approx(np.mean(expected))


def test_balanced_classes_weigh_alike():
    data, truth = simulate(n=3_000, signal=1.2, seed=3)
    rng = np.random.default_rng(0)
    train = data.train[(data.label[data.train] != 0) | (rng.random(len(data.train)) < 0.05)]
    x, test = data.source.values[train].astype(float), data.source.values[truth.test].astype(float)
    recalls = []
    for weight in (None, "balanced"):
        model = LogisticRegression(C=0.1, max_iter=300, class_weight=weight)
        slopes, offsets = regression._logistic(x, data.label[train], 4, model)
        called = (test @ slopes + offsets).argmax(axis=1)
        recalls.append((called[data.label[truth.test] == 0] == 0).mean())
    assert recalls[1] > recalls[0] + 0.2
