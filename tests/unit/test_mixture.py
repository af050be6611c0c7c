"""The mixture of the reference's profiles: by hand, against a general optimiser, and through gene factors."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, sparse

from shest.labels import annotate, mixture

NAMES = ["a", "b", "c", "d"]


def data(counts, labels=None) -> ad.AnnData:
    obs = pd.DataFrame(index=[f"c{i}" for i in range(len(counts))])
    if labels is not None:
        obs["subtype"] = pd.Categorical(labels)
    found = ad.AnnData(sparse.csr_matrix(np.asarray(counts, np.float32)), obs=obs)
    found.var_names = [f"G{i}" for i in range(found.n_vars)]
    return found


def draw(profile, subtypes, rng, depth=80, factors=1.0) -> np.ndarray:
    rates = profile[subtypes] * factors
    rates /= rates.sum(axis=1, keepdims=True)
    return np.array([rng.multinomial(n, row) for n, row in zip(rng.poisson(depth, len(rates)), rates, strict=True)])


@pytest.fixture(scope="module")
def profile() -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(60, 0.5), 4)


def sample(profile, shares, sd=0.0, seed=1, n=800):
    """A reference of equal shares, and a sample of others that its platform sees through gene factors; its truth."""
    rng = np.random.default_rng(seed)
    known = np.repeat(np.arange(4), 60)
    truth = rng.choice(4, n, p=shares)
    reference = data(draw(profile, known, rng), np.array(NAMES)[known])
    return data(draw(profile, truth, rng, factors=np.exp(rng.normal(0, sd, 60)))), reference, np.array(NAMES)[truth]


def test_profiles_by_hand():
    reference = data([[3, 1, 0], [0, 8, 0], [0, 0, 0], [0, 1, 1]], ["a", "a", "a", "b"])
    mean = np.array([0.75, 0.25 + 1 + 0.5, 0.5]) / 3  # over the three cells that have counts
    expected = np.array([(np.array([0.75, 1.25, 0]) + mean) / 3, (np.array([0, 0.5, 0.5]) + mean) / 2])
    found = mixture.profiles(reference)
    assert found.index.tolist() == ["a", "b"]
    np.testing.assert_allclose(found, expected, atol=3e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_em_by_hand():
    """Single transcripts, two of gene 1 and one of gene 2: the likeliest weight w has 3/4 w + 1/4 (1 - w) = 2/3."""
    profile, counts = np.array([[0.75, 0.25], [0.25, 0.75]]), sparse.csr_matrix([[1.0, 0], [1, 0], [0, 1]])
    likelihood = mixture.likelihoods(counts, profile)
    np.testing.assert_allclose(likelihood, [[1, 1 / 3], [1, 1 / 3], [1 / 3, 1]], rtol=1e-6)
    np.testing.assert_allclose(mixture.estimate_weights(likelihood, most=1), [7 / 12, 5 / 12], rtol=1e-6)
    weights = mixture.estimate_weights(likelihood, tolerance=1e-9)
    np.testing.assert_allclose(weights, [5 / 6, 1 / 6], atol=1e-6)
    by_cell = mixture.responsibilities(likelihood, weights)
    np.testing.assert_allclose(by_cell, [[15 / 16, 1 / 16], [15 / 16, 1 / 16], [5 / 8, 3 / 8]], atol=1e-6)


def test_em_finds_what_a_general_optimiser_finds(profile):
    rng = np.random.default_rng(2)
    shares = np.array([0.6, 0.25, 0.1, 0.05])
    truth = rng.choice(4, 3000, p=shares)
    likelihood = mixture.likelihoods(sparse.csr_matrix(draw(profile, truth, rng, depth=4)), profile)
    weights = mixture.estimate_weights(likelihood, tolerance=1e-9)
    best = optimize.minimize(
        lambda z: -np.log(likelihood @ (np.exp(z) / np.exp(z).sum())).mean(), np.zeros(4), tol=1e-12
    )
    np.testing.assert_allclose(weights, np.exp(best.x) / np.exp(best.x).sum(), atol=1e-4)
    np.testing.assert_allclose(weights, shares, atol=0.04)


def test_weights_do_not_depend_on_blocks_nor_on_the_run(profile, monkeypatch):
    cells, reference, _ = sample(profile, [0.7, 0.1, 0.1, 0.1])
    once, again = mixture.fit(cells, reference), mixture.fit(cells, reference)
    pd.testing.assert_frame_equal(once, again, check_exact=True)
    monkeypatch.setattr(mixture, "BLOCK", 37)
    pd.testing.assert_frame_equal(once, mixture.fit(cells, reference), atol=1e-5)
    np.testing.assert_allclose(once.sum(axis=1), 1, atol=1e-5)


def test_a_gene_that_the_reference_lacks_says_nothing(profile):
    cells, reference, _ = sample(profile, [0.7, 0.1, 0.1, 0.1])
    reference.obs["subtype"] = reference.obs["subtype"].cat.reorder_categories(NAMES)
    keep = np.r_[0:60, 180:190]  # few cells of some subtypes
    reference = reference[keep].copy()
    reference.X[:, 0] = 0
    more, bare = cells.copy(), cells.copy()
    more.X[:, 0], bare.X[:, 0] = 5, 0
    pd.testing.assert_frame_equal(mixture.fit(more, reference), mixture.fit(bare, reference), atol=1e-4)


@pytest.mark.parametrize(("sd", "off", "right"), [(0.0, 0.02, 0.99), (1.0, 0.05, 0.95)])
def test_composition_comes_back_also_through_gene_factors(profile, sd, off, right):
    shares = np.array([0.75, 0.15, 0.08, 0.02])
    cells, reference, truth = sample(profile, shares, sd)
    found = mixture.fit(cells, reference)
    assert (found.idxmax(axis=1).to_numpy() == truth).mean() > right
    transcripts = pd.Series(annotate.transcripts(cells), cells.obs_names)
    estimate = mixture.composition(found, transcripts)
    expected = transcripts.groupby(truth).sum() / transcripts.sum()
    assert np.abs(estimate - expected).sum() / 2 < off


def test_composition_counts_transcripts_and_has_no_zero():
    shares = pd.DataFrame([[1.0, 0, 0], [0.5, 0.5, 0]], columns=["a", "b", "c"])
    found = mixture.composition(shares, pd.Series([10.0, 30.0]))
    np.testing.assert_allclose(found, [25 / 40, 15 / 40, 0], atol=1e-5)
    assert found["c"] == pytest.approx(mixture.LEAST)
    assert found.sum() == pytest.approx(1)
