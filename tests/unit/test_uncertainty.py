"""Calibration and the parts of the variance, against constructed truth."""

import numpy as np
import pytest

from shest.systems import uncertainty


def drawn(n=20_000, classes=4, scale=2.0, seed=0):
    """Logits, and labels that are drawn from exactly their softmax."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(n, classes))
    p = uncertainty.softmax(logits)
    return logits, (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)


def test_calibrated_probabilities_have_no_error():
    logits, label = drawn()
    assert uncertainty.calibration_error(uncertainty.softmax(logits), label) < 0.015


@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_temperature_is_recovered_and_calibrates(factor):
    logits, label = drawn()
    wrong = factor * logits[None]
    assert uncertainty.calibration_error(uncertainty.ensemble(wrong), label) > 0.08
    temperature = uncertainty.fit_temperature(wrong[:, :10_000], label[:10_000])
    assert temperature == pytest.approx(factor, rel=0.05)
    after = uncertainty.calibration_error(uncertainty.ensemble(wrong[:, 10_000:], temperature), label[10_000:])
    assert after < 0.02


def test_few_cells_all_called_right_do_not_drive_the_temperature_to_its_bound():
    logits = np.array([[[3.0, 0], [0, 3], [2, 0]]])
    assert 0.3 < uncertainty.fit_temperature(logits, np.array([0, 1, 0])) < 1
    assert uncertainty.fit_temperature(np.empty((1, 0, 2)), np.empty(0, int)) == 1


def test_calibration_error_by_hand():
    probability = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert uncertainty.calibration_error(probability, np.array([0, 0, 0, 1])) == pytest.approx((0.2 + 0.2) / 4)
    assert uncertainty.calibration_error(probability, np.full(4, -1)) == pytest.approx(0.75)


def test_entropy_and_disagreement():
    assert uncertainty.entropy(np.array([[1.0, 0], [0.5, 0.5]])) == pytest.approx([0, np.log(2)])
    logits = np.array([[[2.0, 0], [2, 0]], [[2, 0], [0, 1]], [[3, 0], [0, 0.5]]])
    called = uncertainty.ensemble(logits)
    np.testing.assert_allclose(uncertainty.disagreement(logits, called), [0, 2 / 3 if called[1, 0] > 0.5 else 1 / 3])
    assert np.isnan(uncertainty.disagreement(logits[:1], uncertainty.ensemble(logits[:1]))).all()


def test_variances_add_up_to_that_of_the_mixture():
    rng = np.random.default_rng(1)
    means, variances = rng.gamma(2, 1, (5, 3)), rng.gamma(2, 1, (5, 3))
    aleatoric, epistemic = uncertainty.decompose(means, variances)
    samples = rng.normal(means[:, :, None], np.sqrt(variances)[:, :, None], (5, 3, 200_000))
    mixture = aleatoric + epistemic * 4 / 5  # five members are all there is of the mixture, no sample of more
    np.testing.assert_allclose(mixture, samples.transpose(1, 0, 2).reshape(3, -1).var(axis=1), rtol=0.02)


def test_one_member_knows_no_epistemic_variance():
    aleatoric, epistemic = uncertainty.decompose(np.ones((1, 3)), np.ones((1, 3)))
    assert (aleatoric == 1).all()
    assert np.isnan(epistemic).all()


def test_f1_grows_as_uncertain_cells_are_set_aside():
    logits, label = drawn(scale=1.5)
    probability = uncertainty.softmax(logits)
    rows = uncertainty.risk_coverage(uncertainty.entropy(probability), label, probability.argmax(axis=1))
    scores = [row["weighted"] for row in rows]
    assert rows[0]["cells"] == len(label)
    assert rows[-1]["cells"] == len(label) // 10
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.2
    blind = uncertainty.risk_coverage(np.random.default_rng(0).random(len(label)), label, probability.argmax(axis=1))
    assert abs(blind[4]["weighted"] - blind[0]["weighted"]) < 0.03


def test_reliability_bins_hold_all_cells():
    logits, label = drawn(500)
    rows = uncertainty.reliability(uncertainty.softmax(logits), label)
    assert sum(row["cells"] for row in rows) == 500
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
