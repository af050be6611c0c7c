"""The fused zero-inflated negative binomial against SciPy, finite differences and simulated truth."""

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.special import digamma, expit, gammaln
from scipy.stats import nbinom

from shest.systems import zinb

LOGITS = (-40.0, -8.0, -1.0, 0.3, 4.0, 30.0)
COUNTS = (0, 1, 2, 17, 1_000, 100_000)


def softplus(x):
    return np.logaddexp(0.0, np.asarray(x, dtype=np.float64))


def expected(a, b, c, k):
    """-log P(k) by SciPy, with the inflation in closed form."""
    mu, theta = softplus(a), softplus(b)
    log_nb = nbinom.logpmf(k, theta, 1 / (1 + mu / theta))
    inflated = np.where(np.asarray(k) == 0, np.logaddexp(-softplus(-c), -softplus(c) + log_nb), -softplus(c) + log_nb)
    return -inflated


def loss(a, b, c, counts, dtype=torch.float64, measured=None):
    logits = [torch.tensor(np.atleast_2d(x), dtype=dtype, requires_grad=True) for x in (a, b, c)]
    value = zinb.nll(*logits, zinb.nonzero(sparse.csr_matrix(np.atleast_2d(counts))), measured)
    value.backward()
    return value.detach().item(), [logit.grad.numpy() for logit in logits]


def random_batch(seed, n=7, g=11, scale=1.5):
    rng = np.random.default_rng(seed)
    return [scale * rng.normal(size=(n, g)) for _ in range(3)], rng.poisson(0.8, size=(n, g))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("a", [-6.0, 0.3, 4.0, 50.0])
@pytest.mark.parametrize("b", [-6.0, 0.3, 4.0, 50.0])
@pytest.mark.parametrize("c", [-12.0, 0.2, 12.0])
def test_equals_scipy(a, b, c, count):
    value, _ = loss(a, b, c, count)
    assert value == pytest.approx(expected(a, b, c, count), rel=1e-6)


def test_mean_over_a_batch_equals_scipy():
    (a, b, c), counts = random_batch(0, n=300, g=400)  # more than one chunk, dense and sparse
    value, _ = loss(a, b, c, counts)
    assert value == pytest.approx(expected(a, b, c, counts).mean(), rel=1e-10)


def test_float32_and_bfloat16_stay_close_to_float64():
    (a, b, c), counts = random_batch(1, n=300, g=400)
    exact, slopes = loss(a, b, c, counts)
    value, single = loss(a, b, c, counts, torch.float32)
    assert value == pytest.approx(exact, rel=1e-6)
    for one, other in zip(slopes, single, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6 / one.size)
    half = [torch.tensor(x).bfloat16().requires_grad_() for x in (a, b, c)]
    value = zinb.nll(*half, zinb.nonzero(sparse.csr_matrix(counts)))
    value.backward()
    assert value.dtype == torch.float32
    assert half[0].grad.dtype == torch.bfloat16
    assert value.item() == pytest.approx(exact, rel=5e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", COUNTS)
def test_finite_at_every_limit(dtype, count):
    """mu to 0, theta to 0 and infinity, pi to 0 and 1: loss and gradients stay finite."""
    grid = np.array([-1e4, -200.0, *LOGITS, 200.0, 1e4])
    a, b, c = (axis.ravel() for axis in np.meshgrid(grid, grid, grid))
    value, slopes = loss(a, b, c, np.full(a.size, count), dtype)
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_limits_have_the_right_value():
    poisson = 3.0 - 2 * np.log(3.0) + np.log(2.0)
    a = np.log(np.expm1(3.0))
    assert loss(a, 1e7, -50.0, 2, torch.float32)[0] == pytest.approx(poisson, rel=1e-5)
    assert loss(a, 0.0, 60.0, 0, torch.float32)[0] == pytest.approx(0.0, abs=1e-6)
    assert loss(-60.0, 0.0, -60.0, 0, torch.float32)[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_equal_finite_differences(masked):
    (a, b, c), counts = random_batch(2, n=3, g=5)
    measured = torch.ones(3, 5, dtype=torch.bool)
    if masked:
        measured[1, 2:] = False
        counts[1, 2:] = 0
    held = zinb.nonzero(sparse.csr_matrix(counts))
    logits = [torch.tensor(x, requires_grad=True) for x in (a, b, c)]
    assert torch.autograd.gradcheck(lambda *x: zinb.nll(*x, held, measured if masked else None), logits)


def test_unmeasured_genes_do_not_count():
    (a, b, c), counts = random_batch(3)
    measured = np.ones(counts.shape, dtype=bool)
    measured[:, 4:] = False
    value, slopes = loss(a, b, c, counts, measured=torch.tensor(measured))
    assert value == pytest.approx(expected(a, b, c, counts)[measured].mean(), rel=1e-10)
    assert all((slope[~measured] == 0).all() and (slope[measured] != 0).all() for slope in slopes)


def test_large_counts_in_a_batch_keep_their_gradient_direction():
    for count, sign in ((100_000, -1), (0, 1)):
        _, (by_mu, _, _) = loss(5.0, 0.0, -3.0, count, torch.float32)
        assert np.sign(by_mu) == sign


def test_lgamma_digamma_equal_scipy():
    x = np.concatenate([10.0 ** np.linspace(-30, 8, 400), np.linspace(0.1, 40, 400)])
    lgamma, slope = zinb.lgamma_digamma(torch.tensor(x))
    np.testing.assert_allclose(lgamma.numpy(), gammaln(x), rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(slope.numpy(), digamma(x), rtol=1e-9, atol=1e-9)


def test_softplus_is_exact_in_float32():
    x = np.linspace(-80, 80, 1001).astype(np.float32)
    np.testing.assert_allclose(zinb.softplus(torch.tensor(x)).numpy(), softplus(x), rtol=2e-6)


def test_nonzero_reads_a_csr_block():
    counts = np.array([[0, 2, 0], [1, 0, 700]])
    held = zinb.nonzero(sparse.csr_matrix(counts))
    assert held.index.tolist() == [1, 3, 5]
    assert held.count.tolist() == [2, 1, 700]
    np.testing.assert_allclose(held.log_factorial.numpy(), gammaln([3, 2, 701]))
    stored_zero = sparse.csr_matrix((np.array([0.0, 3.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 2))
    assert zinb.nonzero(stored_zero).index.tolist() == [1]


def test_moments_equal_scipy_and_samples():
    a, b, c = 1.2, 0.4, -0.8
    mean, variance = (t.item() for t in zinb.mean_variance(*(torch.tensor(x, dtype=torch.float64) for x in (a, b, c))))
    mu, theta, pi = softplus(a), softplus(b), expit(c)
    nb = nbinom(theta, 1 / (1 + mu / theta))
    assert mean == pytest.approx((1 - pi) * mu)
    assert variance == pytest.approx((1 - pi) * (nb.var() + mu**2) - mean**2)
    rng = np.random.default_rng(0)
    drawn = nb.rvs(400_000, random_state=rng) * (rng.random(400_000) >= pi)
    assert drawn.mean() == pytest.approx(mean, rel=0.02)
    assert drawn.var() == pytest.approx(variance, rel=0.04)


@pytest.mark.parametrize("pi", [0.0, 0.3, 0.6])
def test_recovers_mu_and_pi_of_simulated_counts(pi):
    """The zero branch is taken: inflation is told apart from a small mean."""
    rng = np.random.default_rng(7)
    mu, theta = np.array([3.0, 5.0, 8.0]), np.array([2.0, 4.0, 3.0])
    counts = rng.negative_binomial(theta, theta / (theta + mu), size=(20_000, 3)) * (rng.random((20_000, 3)) >= pi)
    held = zinb.nonzero(sparse.csr_matrix(counts))
    logits = [torch.zeros(1, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    optimiser = torch.optim.LBFGS(logits, max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def step():
        optimiser.zero_grad()
        value = zinb.nll(*(logit.expand(20_000, 3).contiguous() for logit in logits), held)
        value.backward()
        return value

    optimiser.step(step)
    found_mu, found_pi = softplus(logits[0].detach()), expit(logits[2].detach().numpy())
    np.testing.assert_allclose(found_mu[0], mu, rtol=0.08)
    np.testing.assert_allclose(found_pi[0], pi, atol=0.05)
