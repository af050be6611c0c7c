"""STImage: negative binomials recovered from embeddings, an ensemble's uncertainty, and what is kept of a fit."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import nbinom

from shest.draw import stimage, style
from shest.labels.training_set import TrainingSet
from shest.run import systems
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


def test_no_gene_is_expected_above_its_largest_training_count(linked):
    truth, system, _ = linked
    largest, far = truth.counts[600:].max(axis=0), truth.x * 12
    found = system.predict(far)
    assert (found.expected <= largest * 1.0001).all()
    assert (found.expected > 0.999 * largest).any()
    assert np.isfinite(found.aleatoric).all()
    free, _ = fitted(data_of(truth.x, truth.counts), bounded=False)
    assert free.predict(far).expected.max() > 100 * largest.max()
    near = system.predict(truth.x).expected, free.predict(truth.x).expected
    assert np.mean(np.isclose(*near, rtol=1e-5)) > 0.999


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
    a, b = system.logits(k, x)
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


# on patches

PATCHES = {
    "backbone": "test_resnet",
    "weights": "random",
    "side_um": 8.0,
    "px": 32,
    "members": 2,
    "epochs": 80,
    "batch": 16,
    "learning_rate": 0.05,
    "patience": 80,
}


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """Units on a slide of two colours; half of the genes follow the colour."""
    from unit.test_patch_systems import make_set

    return make_set(tmp_path_factory.mktemp("slide"), count=160)


def on_patches(data, scratch=None, **settings):
    entry = {"kind": "stimage", "settings": PATCHES | settings}
    system = base.spec_of("stimage").create(base.settings_of(entry, {"seed": 7}))
    system.scratch = scratch
    return system, system.fit(data, lambda n: None)


TUNED = {"trained": "all", "epochs": 25, "learning_rate": 0.02}


@pytest.mark.parametrize("own", [{}, TUNED], ids=["frozen", "tuned"])
def test_on_a_backbone_it_tells_what_the_patches_tell_and_is_kept(slide, tmp_path, own):
    system, rows = on_patches(slide, **own)
    found = system.predict(slide.source.take(slide.val))
    counts = slide.counts[slide.val].toarray()
    r = [np.corrcoef(found.expected[:, g], counts[:, g])[0, 1] for g in range(counts.shape[1])]
    assert np.median(r[::2]) > 0.5, "genes that follow the colour"
    assert abs(np.median(r[1::2])) < 0.35, "genes that do not"
    assert (found.aleatoric > found.expected).all(), "a negative binomial varies more than Poisson's"
    assert (found.epistemic > 0).any()
    drawn = system.draw(slide.source.take(slide.val), np.arange(len(slide.val), dtype=np.uint64))
    assert drawn.mean(axis=0) == pytest.approx(found.expected.mean(axis=0), rel=0.35, abs=0.5)
    assert {row["member"] for row in rows} == {0, 1}
    assert set().union(*rows) <= set(base.HISTORY)
    info = {"kind": "stimage", "settings": system.settings, "genes": slide.genes, "classes": []}
    base.save(tmp_path / "m.safetensors", tmp_path / "m.json", base.Trained(system, info))
    again = base.load(tmp_path / "m.safetensors", tmp_path / "m.json").system
    x = slide.source.take(slide.val)
    np.testing.assert_array_equal(again.predict(x).expected, found.expected)
    np.testing.assert_array_equal(again.draw(x, np.arange(len(x), dtype=np.uint64)), drawn)


def test_a_frozen_backbone_is_the_same_for_all_members_and_a_tuned_one_each_members_own(slide):
    frozen, tuned = (on_patches(slide, **(own | {"epochs": 1}))[0] for own in ({}, TUNED))
    weights = [module.backbone.state_dict() for module in frozen.networks.modules + tuned.networks.modules]
    assert len(weights) == 1 + 2
    assert frozen.describe()["parameters"]["networks trained"] == 0
    assert tuned.describe()["parameters"]["networks trained"] > 1000
    name = next(iter(weights[1]))
    assert not np.allclose(weights[1][name], weights[2][name]), "seeds do not overlap"
    assert len({w.tobytes() for w in frozen.weight}) == 2


def test_a_tuned_fit_that_was_cut_off_goes_on_where_it_was(slide, tmp_path):
    whole, rows = on_patches(slide, tmp_path, **(TUNED | {"epochs": 2}))
    told = []
    again = base.spec_of("stimage").create(whole.settings)
    again.scratch = tmp_path
    assert again.fit(slide, told.append) == rows
    assert sum(told) == again.steps()
    for name, value in whole.tensors().items():
        assert value.tobytes() == again.tensors()[name].tobytes(), name


def test_raw_input_is_0_to_255_and_scaled_input_what_the_backbone_expects(slide):
    x, seen = slide.source.take(slide.val[:2]), {}
    for kind in ("raw", "scaled"):
        system, _ = on_patches(slide, input=kind, epochs=1)
        backbone = system.networks.modules[0].backbone
        given = []
        hook = backbone.register_forward_pre_hook(lambda module, x, given=given: given.append(x[0].numpy()))
        system.predict(x)
        hook.remove()
        seen[kind] = given[0]
        mean, std = (np.array(backbone.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
    plain = np.moveaxis(x[:], -1, 1).astype(float)
    assert np.allclose(seen["raw"], plain, atol=1e-3)
    assert np.allclose(seen["scaled"], (plain / 255 - mean) / std, atol=1e-4)


def test_what_it_reads_goes_by_its_settings():
    spec = base.spec_of("stimage")
    plain, patches = ({"kind": "stimage", "settings": own} for own in ({}, {"backbone": "resnet50", "side_um": 70}))
    assert spec.reading(base.settings_of(plain, {"seed": 1})) == "embeddings"
    assert spec.reading(base.settings_of(patches, {"seed": 1})) == "patches"
    assert base.largest_window([{"kind": "stimage", "settings": base.settings_of(plain, {"seed": 1})}], 30.0) == 30
    assert base.largest_window([{"kind": "stimage", "settings": base.settings_of(patches, {"seed": 1})}], 30.0) == 70
    config = {"systems": {"a": plain, "b": patches}, "encoders": [{"name": "e"}], "train": {"seed": 1}}
    filled = systems.fill(config)
    assert (filled["a"]["encoder"], filled["b"]["encoder"]) == ("e", None)


# its figure


def test_the_table_of_members_has_each_alone_and_the_first_together():
    rng = np.random.default_rng(0)
    actual = rng.normal(size=(200, 3))
    made = [(actual + rng.normal(0, 2, actual.shape)).astype(np.float32) for _ in range(4)]
    table = stimage.member_table(actual, made)
    alone = table[table["members"] == 1]["median_r"].to_numpy()
    assert alone == pytest.approx(
        [np.median([np.corrcoef(actual[:, g], m[:, g])[0, 1] for g in range(3)]) for m in made], abs=1e-5
    )
    last = table[table["members"] == 4]["median_r"].item()
    mean = np.mean(made, axis=0)
    assert last == pytest.approx(np.median([np.corrcoef(actual[:, g], mean[:, g])[0, 1] for g in range(3)]), abs=1e-5)
    assert last > alone.max(), "noise of seeds averages out"


def test_members_mean_is_what_is_predicted(linked):
    truth, system, _ = linked
    means = list(system.member_means(truth.x[:50]))
    assert len(means) == 3
    assert np.allclose(np.mean(means, axis=0), system.predict(truth.x[:50]).expected, rtol=1e-5)


def test_panels_draw_what_they_are_given_and_say_so_in_their_data():
    figure, axes = style.plt.subplots(1, 3)
    rng = np.random.default_rng(1)
    xy, values = rng.random((30, 2)) * 100, rng.random(30)
    shown = stimage.value_map(axes[0], xy, values, (100, 100), "G, expected", "counts")
    assert shown["value"].tolist() == values.tolist()
    r = {(s, k): rng.normal(0.1 * n, 0.1, 50) for n, (s, k) in enumerate([("C2", "a"), ("C2", "b"), ("C3", "a")])}
    boxes = stimage.boxes(axes[1], r).set_index(["sample", "system"])
    assert boxes.loc[("C3", "a"), "q0.5"] == pytest.approx(np.median(r["C3", "a"]))
    assert len(axes[1].patches) == 3
    stimage.members(axes[2], stimage.member_table(rng.random((9, 2)), [rng.random((9, 2)) for _ in range(3)]))
    assert [len(line.get_xdata()) for line in axes[2].lines] == [3, 3]
    style.plt.close(figure)


def test_published_genes_are_shown_where_they_are_else_the_highest():
    assert stimage.two_genes(["A", "ATP1A1", "CD63"], np.array([9, 1, 1])) == ["CD63", "ATP1A1"]
    assert stimage.two_genes(["A", "B", "CD63"], np.array([1, 3, 2])) == ["B", "CD63"]
