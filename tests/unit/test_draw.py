"""Counts drawn from zero-inflated negative binomials, against SciPy and the ensemble's own expectation."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest, nbinom

from shest.systems import base, zinb, zinb_draw
from shest.systems.linear.system import Linear
from shest.systems.shest.heads import HEADS, Settings, build_heads
from shest.systems.shest.system import Shest

N = 200_000


def draw(mu, theta, pi, n=N, keys=None, seed=1, threads=1):
    """Draw n cells of one gene each."""
    keys = np.arange(n, dtype=np.uint64) if keys is None else keys
    columns = (np.broadcast_to(np.asarray(v, np.float32), (n, 1)).copy() for v in (mu, theta, pi))
    return zinb_draw.draw(*columns, keys, seed, threads)[:, 0]


@pytest.mark.parametrize("mu", [0.01, 0.7, 20, 300])
@pytest.mark.parametrize("theta", [0.05, 1.5, 200])
@pytest.mark.parametrize("pi", [0, 0.3])
def test_drawn_counts_are_distributed_as_scipy_says(mu, theta, pi):
    counts, known = draw(mu, theta, pi), nbinom(theta, theta / (theta + mu))
    for k in np.unique(np.r_[0, 1, known.ppf([0.3, 0.6, 0.9, 0.99]).astype(int)]):
        p = pi + (1 - pi) * known.cdf(k)
        assert (counts <= k).mean() == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / N) + 1e-5), k


def test_hundreds_of_counts_are_as_good_as_normal():
    counts, known = draw(3_000, 500, 0.25, n=20_000), nbinom(500, 500 / 3_500)
    assert (counts == 0).mean() == pytest.approx(0.25, abs=0.015)
    assert kstest(counts[counts > 0], known.cdf).statistic < 0.02
    assert draw(1e9, 1e6, 0, n=3).tolist() == [65_535] * 3


def test_what_is_drawn_of_a_cell_hangs_on_its_key_and_the_seed_alone():
    rng = np.random.default_rng(0)
    mu, theta, pi = (rng.random((500, 30)).astype(np.float32) * scale for scale in (3, 2, 0.5))
    keys = base.unit_keys("s", map(str, range(500)))
    whole = zinb_draw.draw(mu, theta, pi, keys, 7, 1)
    assert np.array_equal(zinb_draw.draw(mu, theta, pi, keys, 7, 3), whole)
    some = rng.permutation(500)[:70]
    assert np.array_equal(zinb_draw.draw(mu[some], theta[some], pi[some], keys[some], 7, 2), whole[some])
    assert not np.array_equal(zinb_draw.draw(mu, theta, pi, keys, 8, 1), whole)


def test_cells_genes_and_seeds_are_drawn_apart():
    same = [np.full((4_000, 50), v, np.float32) for v in (2.0, 1.0, 0.1)]
    keys = np.arange(4_000, dtype=np.uint64)
    one, other = (zinb_draw.draw(*same, keys, seed, 1).astype(float) for seed in (0, 1))
    r = np.corrcoef(np.hstack([one[:, :20], other[:, :20]]).T) - np.eye(40)
    assert np.abs(r).max() < 0.09  # 5 standard errors
    assert np.abs(np.corrcoef(one[:-1, 0], one[1:, 0])[0, 1]) < 0.08


def test_keys_are_of_the_name_and_the_sample():
    keys = base.unit_keys("s", ["a", "b"])
    assert keys.dtype == np.uint64
    assert base.unit_keys("s", ["b"])[0] == keys[1] != keys[0]
    assert base.unit_keys("t", ["a"])[0] != keys[0]


@pytest.fixture
def ensemble():
    """Three members that do not agree."""
    system = Shest({"members": 3, "classifier_hidden": [8], "reconstructor_hidden": [8], "seed": 3})
    torch.manual_seed(0)
    system.members = [build_heads(6, 3, 20, Settings.of(system.settings)) for _ in range(3)]
    for heads in system.members:
        for name in HEADS:
            heads[name].eval()
    system.mean, system.std = torch.zeros(6), torch.ones(6)
    return system


def test_draws_of_an_ensemble_have_its_expectation_and_variance(ensemble):
    n = 30_000
    x = np.repeat(np.random.default_rng(0).normal(size=(1, 6)), n, axis=0).astype(np.float32)
    counts, found = ensemble.draw(x, base.unit_keys("s", map(str, range(n)))), ensemble.predict(x[:1])
    assert counts.dtype == np.uint16
    variance = (found.aleatoric + found.epistemic * 2 / 3)[0]  # three members are all there is of the mixture
    error = np.sqrt(variance / n)
    assert (np.abs(counts.mean(axis=0) - found.expected[0]) < 5 * error + 1e-4).all()
    assert np.median(counts.var(axis=0) / variance) == pytest.approx(1, abs=0.05)


def test_a_block_of_cells_is_drawn_as_all_of_them_are(ensemble):
    x, keys = np.random.default_rng(1).normal(size=(90, 6)).astype(np.float32), base.unit_keys("s", map(str, range(90)))
    assert np.array_equal(ensemble.draw(x[20:50], keys[20:50]), ensemble.draw(x, keys)[20:50])


def test_a_system_without_a_distribution_draws_nothing():
    assert Linear({}).draw(np.zeros((2, 3)), np.zeros(2, np.uint64)) is None


def test_logits_are_read_as_the_moments_read_them():
    logits = [torch.full((40_000, 1), v) for v in (0.4, 0.9, -1.0)]
    counts = zinb.draw(*logits, np.arange(40_000, dtype=np.uint64), 5)
    mean, variance = (float(v[0, 0]) for v in zinb.mean_variance(*logits))
    assert counts.mean() == pytest.approx(mean, rel=0.04)
    assert counts.var() == pytest.approx(variance, rel=0.08)
