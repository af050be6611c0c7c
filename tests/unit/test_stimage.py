"""STImage: negative binomials recovered from embeddings, an ensemble's uncertainty, and what is kept of a fit."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import nbinom

from shest.labels.training_set import TrainingSet
from shest.systems import base

GENES, DIM = 12, 6
QUICK = {"members": 3, "epochs": 40, "batch": 256, "learning_rate": 0.02, "patience": 5}


class Memory:
    """Embeddings in memory, read as the cache's."""

    orientation_invariant, fingerprint = True, "memory"

    def __init__(self, values):
        self.values, self.dim = values, values.shape[1]

    def take(self, units, views=0):
        return self.values[units]


def data_of(x, counts, val=600):
    n = len(x)
    zeros = np.zeros(n, np.int64)
    names = [f"G{k}" for k in range(counts.shape[1])]
    measured = np.ones((1, counts.shape[1]), bool)
    units = np.arange(n)
    return TrainingSet(
        Memory(x), sparse.csr_matrix(counts), measured, zeros, zeros, units[val:], units[:val], ["a"], names
    )


def made(link, n=6000, seed=0, depth=None):
    """Embeddings and counts by a known layer; without a link no feature says anything of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, DIM)).astype(np.float32)
    a = rng.uniform(0.5, 2, GENES) + link * x @ rng.normal(0, 0.3, (DIM, GENES))
    b = rng.uniform(-1, 0.5, GENES) + link * x @ rng.normal(0, 0.3, (DIM, GENES))
    r, p = np.logaddexp(0, a), 1 / (1 + np.exp(-b))
    s = np.ones((n, 1)) if depth is None else depth[:, None]
    p_seen = 1 / (1 + s * (1 - p) / p)
    return SimpleNamespace(x=x, r=r, p=p, mean=r * (1 - p) / p, counts=rng.negative_binomial(r, p_seen))


def fitted(data, **settings):
    entry = {"kind": "stimage", "settings": QUICK | settings}
    system = base.spec_of("stimage").create(base.settings_of(entry, {"seed": 42}))
    return system, system.fit(data, lambda n: None)


@pytest.fixture(scope="module")
def linked():
    truth = made(1.0)
    system, rows = fitted(data_of(truth.x, truth.counts))
    return truth, system, rows


def test_mean_and_variance_of_a_known_link_are_recovered(linked):
    truth, system, _ = linked
    found = system.predict(truth.x)
    assert np.median(np.abs(found.expected / truth.mean - 1)) < 0.06
    assert np.median(np.abs(found.aleatoric / (truth.mean / truth.p) - 1)) < 0.12


def test_intervals_cover_counts_that_were_never_seen(linked):
    truth, system, _ = linked
    new = made(1.0, seed=0).x, np.random.default_rng(9).negative_binomial(truth.r, truth.p)
    drawn = np.stack([system.draw(new[0], np.arange(len(new[0]), dtype=np.uint64) + 10**6 * k) for k in range(80)])
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0, method="inverted_cdf")
    nominal = []  # of whole numbers an interval between quantiles holds more than 90 %
    for r, p in zip(truth.r.ravel()[::97], truth.p.ravel()[::97], strict=True):
        ends = nbinom.ppf([0.05, 0.95], r, p)
        nominal.append(nbinom.cdf(ends[1], r, p) - nbinom.cdf(ends[0] - 1, r, p))
    covered = ((new[1] >= low) & (new[1] <= high)).mean()
    assert covered == pytest.approx(np.mean(nominal), abs=0.02)
    assert covered >= 0.88


def test_nothing_is_found_where_nothing_is(linked):
    truth = made(0.0, seed=3)
    system, _ = fitted(data_of(truth.x, truth.counts))
    new = made(0.0, n=3000, seed=3)
    found = system.predict(np.random.default_rng(4).normal(size=(3000, DIM)).astype(np.float32)).expected
    r = [np.corrcoef(found[:, g], new.counts[:, g])[0, 1] for g in range(GENES)]
    assert abs(np.median(r)) < 0.05
    assert np.median(found.std(axis=0) / found.mean(axis=0)) < 0.1


def test_members_disagree_more_about_what_they_never_saw(linked):
    truth, system, _ = linked
    known, strange = (system.predict(truth.x * scale).epistemic for scale in (1, 4))
    share = [(e / system.predict(truth.x * s).expected ** 2).mean() for e, s in ((known, 1), (strange, 4))]
    assert share[1] > 3 * share[0]


def test_a_member_alone_has_no_epistemic_variance():
    truth = made(1.0, n=1500)
    system, _ = fitted(data_of(truth.x, truth.counts), members=1, epochs=2)
    assert np.isnan(system.predict(truth.x[:5]).epistemic).all()


def test_best_weights_are_kept_and_the_same_seed_gives_the_same_bytes(linked):
    truth, system, rows = linked
    again, _ = fitted(data_of(truth.x, truth.counts))
    for name, value in system.tensors().items():
        np.testing.assert_array_equal(value, again.tensors()[name])
    best = min(row["val_loss"] for row in rows if row["member"] == 0)
    r, p = (v[:600] for v in _member(system, truth.x, 0))
    assert -nbinom.logpmf(truth.counts[:600], r, p).mean() == pytest.approx(best, rel=1e-5)
    assert len({value.tobytes() for value in system.weight}) == 3  # seeds do not overlap


def _member(system, x, k):
    a, b = list(system._logits(x))[k]
    return np.logaddexp(0, a.numpy().astype(float)), 1 / (1 + np.exp(-b.numpy().astype(float)))


def test_exposure_takes_depth_out_of_the_variance():
    """Depth that no feature tells is noise to a plain model; a known exposure leaves each gene its own variance."""
    depth = np.random.default_rng(5).lognormal(0, 1, 6000)
    truth = made(1.0, depth=depth)
    shares = truth.mean / truth.mean.sum(axis=1, keepdims=True)
    noise, apart = {}, {}
    for exposure in ("none", "library"):
        system, _ = fitted(data_of(truth.x, truth.counts), exposure=exposure)
        found = system.predict(truth.x)
        noise[exposure] = np.median(found.aleatoric / found.expected**2)
        apart[exposure] = np.median(np.abs(found.expected / found.expected.sum(axis=1, keepdims=True) / shares - 1))
    actual = np.median(1 / (truth.mean * truth.p))  # (1 - p) / p^2 r over the mean squared, at depth 1
    assert noise["library"] < 1.5 * actual
    assert noise["none"] > 1.5 * noise["library"]
    assert apart["library"] < 0.1
    assert np.median(found.expected.sum(axis=1)) == pytest.approx(np.median(truth.counts.sum(axis=1)), rel=0.1)


def test_as_published_it_is_fitted_to_logarithms():
    truth = made(1.0, n=3000)
    system, _ = fitted(data_of(truth.x, truth.counts), target="log1p", members=2)
    found = system.predict(truth.x)
    assert system.expression_unit == "log1p counts"
    assert found.expected.mean() == pytest.approx(np.log1p(truth.counts).mean(), rel=0.1)
    assert system.draw(truth.x, np.arange(3000, dtype=np.uint64)) is None


def test_saved_and_loaded_it_predicts_the_same(linked, tmp_path):
    truth, system, _ = linked
    info = {"kind": "stimage", "settings": system.settings, "genes": [f"G{k}" for k in range(GENES)], "classes": []}
    base.save(tmp_path / "model.safetensors", tmp_path / "model.json", base.Trained(system, info))
    again = base.load(tmp_path / "model.safetensors", tmp_path / "model.json").system
    np.testing.assert_array_equal(again.predict(truth.x[:9]).expected, system.predict(truth.x[:9]).expected)
