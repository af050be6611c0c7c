"""The fused negative binomial against SciPy, finite differences and simulated truth."""

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.special import expit
from scipy.stats import nbinom

from shest.systems import nb, zinb

LOGITS = (-40.0, -8.0, -1.0, 0.3, 4.0, 30.0)


def softplus(x):
    return np.logaddexp(0.0, np.asarray(x, dtype=np.float64))


def expected(a, b, k):
    return -nbinom.logpmf(k, softplus(a), expit(np.asarray(b, dtype=np.float64)))


def loss(a, b, counts, dtype=torch.float64, measured=None):
    logits = [torch.tensor(np.atleast_2d(x), dtype=dtype, requires_grad=True) for x in (a, b)]
    value = nb.nll(*logits, zinb.nonzero(sparse.csr_matrix(np.atleast_2d(counts))), measured)
    value.backward()
    return value.detach().item(), [logit.grad.numpy() for logit in logits]


def random_batch(seed, n=7, g=11, scale=1.5):
    rng = np.random.default_rng(seed)
    return [scale * rng.normal(size=(n, g)) for _ in range(2)], rng.poisson(0.8, size=(n, g))


@pytest.mark.parametrize("count", [0, 1, 2, 17, 1_000, 100_000])
@pytest.mark.parametrize("a", [-6.0, 0.3, 4.0, 50.0])
@pytest.mark.parametrize("b", [-6.0, -0.4, 0.3, 6.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_scipy(a, b, count, dtype):
    value, _ = loss(a, b, count, dtype)
    assert value == pytest.approx(expected(a, b, count), rel=1e-6)


def test_mean_over_a_batch_equals_scipy_in_every_precision():
    (a, b), counts = random_batch(0, n=300, g=400)  # more than one chunk, dense and sparse
    exact = expected(a, b, counts).mean()
    value, slopes = loss(a, b, counts)
    assert value == pytest.approx(exact, rel=1e-10)
    single, close = loss(a, b, counts, torch.float32)
    assert single == pytest.approx(exact, rel=1e-6)
    for one, other in zip(slopes, close, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6 / one.size)
    half = [torch.tensor(x).bfloat16().requires_grad_() for x in (a, b)]
    value = nb.nll(*half, zinb.nonzero(sparse.csr_matrix(counts)))
    value.backward()
    assert half[0].grad.dtype == torch.bfloat16
    assert value.item() == pytest.approx(exact, rel=5e-3)
    np.testing.assert_allclose(half[1].grad.float().numpy(), slopes[1], rtol=0.05, atol=1e-2 / slopes[1].size)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_equal_finite_differences(masked):
    (a, b), counts = random_batch(2, n=3, g=5)
    measured = torch.ones(3, 5, dtype=torch.bool)
    if masked:
        measured[1, 2:] = False
    held = zinb.nonzero(sparse.csr_matrix(counts))
    logits = [torch.tensor(x, requires_grad=True) for x in (a, b)]
    assert torch.autograd.gradcheck(lambda *x: nb.nll(*x, held, measured if masked else None), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unmeasured_genes_do_not_count(dtype):
    (a, b), counts = random_batch(3)
    measured = np.ones(counts.shape, dtype=bool)
    measured[:, 4:] = False
    value, slopes = loss(a, b, counts, dtype, torch.tensor(measured))
    assert value == pytest.approx(expected(a, b, counts)[measured].mean(), rel=1e-6)
    assert all((slope[~measured] == 0).all() and (slope[measured] != 0).all() for slope in slopes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [0, 1, 100_000])
def test_finite_at_every_limit(dtype, count):
    grid = np.array([-1e4, -200.0, *LOGITS, 200.0, 1e4])
    a, b = (axis.ravel() for axis in np.meshgrid(grid, grid))
    value, slopes = loss(a, b, np.full(a.size, count), dtype)
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_moments_and_draws_are_those_of_the_distribution():
    a, b = torch.tensor([[0.5, 2.0, -1.0]]), torch.tensor([[0.3, -1.5, 1.0]])
    mean, variance = nb.mean_variance(a, b)
    right = [nbinom.stats(softplus(x), expit(y)) for x, y in zip(a[0].numpy(), b[0].numpy(), strict=True)]
    np.testing.assert_allclose(np.stack([mean[0], variance[0]], axis=1), np.array(right, float), rtol=1e-5)
    n = 40_000
    drawn = nb.draw(a.repeat(n, 1), b.repeat(n, 1), np.arange(n, dtype=np.uint64), 7).astype(float)
    np.testing.assert_allclose(drawn.mean(axis=0), mean[0], rtol=0.05)
    np.testing.assert_allclose(drawn.var(axis=0), variance[0], rtol=0.08)


def test_the_same_for_any_number_of_threads():
    (a, b), counts = random_batch(4, n=900, g=700)
    threads = torch.get_num_threads()
    found = []
    for n in (1, 2):
        torch.set_num_threads(n)
        found.append(loss(a, b, counts, torch.float32)[0])
    torch.set_num_threads(threads)
    assert found[0] == found[1]
