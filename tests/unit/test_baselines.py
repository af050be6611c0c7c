"""Baselines against scikit-learn and plain formulas."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge
from support.simulated import pearson, simulate

from shest.systems.linear import baselines


@pytest.fixture(scope="module")
def fitted():
    data, truth = simulate(n=1_200, signal=2.5)
    return data, truth, baselines.fit(data)


def test_logistic_regression_is_about_as_good_as_the_truth_allows(fitted):
    data, truth, base = fitted
    probability = base.types(data.embeddings.take(truth.test))
    assert (probability.argmax(axis=1) == data.label[truth.test]).mean() > 0.85
    np.testing.assert_allclose(probability.sum(axis=1), 1)


def test_ridge_equals_scikit_learn(monkeypatch):
    data, truth = simulate(n=500)
    monkeypatch.setattr(baselines, "PENALTIES", (0.1,))
    base = baselines.fit(data)
    x = base.standardise(data.embeddings.take(data.train))
    other = Ridge(alpha=0.1 * len(x)).fit(x, np.log1p(data.counts[data.train].toarray()))
    np.testing.assert_allclose(base.ridge_weight, other.coef_.T, atol=1e-4)
    np.testing.assert_allclose(base.ridge_bias, other.intercept_, atol=1e-4)
    found = base.ridge(data.embeddings.take(truth.test))
    expected = np.expm1(np.maximum(other.predict(base.standardise(data.embeddings.take(truth.test))), 0))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_penalty_is_chosen_on_validation_cells(monkeypatch):
    data, _ = simulate(n=500, signal=0.0)
    monkeypatch.setattr(baselines, "PENALTIES", (1e-6, 1e6))
    assert np.abs(baselines.fit(data).ridge_weight).max() < 1e-4  # nothing to learn: the strong one


def test_class_means_by_hand(fitted):
    data, truth, base = fitted
    counts, label = data.counts[data.train].toarray(), data.label[data.train]
    np.testing.assert_allclose(base.class_mean[2], counts[label == 2].mean(axis=0), rtol=1e-5)
    x = data.embeddings.take(truth.test)
    np.testing.assert_array_equal(base.class_means(x), base.class_mean[base.types(x).argmax(axis=1)])
    assert np.median(pearson(data.counts[truth.test].toarray(), base.class_means(x))) > 0.3


def test_samples_without_a_gene_do_not_count_for_it():
    data, _ = simulate(n=800)
    sample = np.arange(2_300) % 2
    measured = np.ones((2, 30), bool)
    measured[1, 10:] = False
    counts = data.counts.toarray()
    counts[sample == 1, 10:] = 0
    joint = baselines.fit(replace(data, counts=sparse.csr_matrix(counts), measured=measured, sample=sample))
    half = data.train[sample[data.train] == 0]
    own = counts[half][data.label[half] == 1][:, 10:].mean(axis=0)
    np.testing.assert_allclose(joint.class_mean[1, 10:], own, rtol=1e-5)
    x = data.embeddings.take(data.val)
    full = baselines.fit(data).ridge(x)[:, 10:].mean()
    assert joint.ridge(x)[:, 10:].mean() == pytest.approx(full, rel=0.1)


def test_two_classes_and_a_class_without_cells():
    data, _ = simulate(n=600, classes=2)
    base = baselines.fit(data)
    assert (base.types(data.embeddings.take(data.val)).argmax(axis=1) == data.label[data.val]).mean() > 0.95
    weight, bias = baselines.fit_logistic(np.eye(4), np.array([0, 0, 2, 2]), np.empty((0, 4)), np.empty(0, int), 3, 0)
    assert ((np.eye(4) @ weight + bias).argmax(axis=1) == [0, 0, 2, 2]).all()


def test_baselines_survive_the_disk(fitted, tmp_path):
    data, truth, base = fitted
    baselines.save(tmp_path / "b.safetensors", base)
    again = baselines.load(tmp_path / "b.safetensors")
    x = data.embeddings.take(truth.test)
    np.testing.assert_array_equal(base.ridge(x), again.ridge(x))
    np.testing.assert_array_equal(base.types(x), again.types(x))
