"""Systems that train on patches: their sizes as published, what stays frozen, going on after a kill, what is learnt."""

import json
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from shest.core import files
from shest.core.errors import InputError
from shest.io.expression import COMMON, LOG1P, LOG1P_MEDIAN, LOG10_CP10K, normalise, to_common
from shest.labels.training_set import TrainingSet, without_zeros
from shest.run import one_slide
from shest.systems import base, colour
from shest.systems.augment import augment
from shest.systems.histospace import network as histospace_network
from shest.systems.patch_training import Plan, Targets, Work, evaluate, parameters, train
from shest.systems.single_patch import network as single_network
from shest.systems.single_patch.system import published
from shest.tiles.patch import Cut, Patches, PatchSize, Taken, write_patches

GENES = 12
SMALL = {
    "single_patch": {
        "px": 32,
        "side_um": 8.0,
        "backbone": "test_resnet",
        "weights": "random",
        "hidden": 16,
        "batch": 16,
    },
    "histospace": {"px": 32, "side_um": 8.0, "ae_epochs": 2, "ae_batch": 16, "batch": 16, "stain": "none"},
}


def settings(kind, **own):
    """Settings of a small system, filled in."""
    entry = {"kind": kind, "settings": SMALL[kind] | {"epochs": 2, "augment": "mpa"} | own}
    return base.settings_of(entry, {"seed": 3})


def make_set(folder, count=96, link=True):
    """Units on a slide of two colours; half of the genes follow the colour, all have a level of their own."""
    rng = np.random.default_rng(5)
    image = np.full((3, 320, 320), 200, np.uint8)
    image[:, :, 160:] = np.array([150, 90, 160])[:, None, None]
    image = image + (30 * np.sin(np.arange(320) / 3)).astype(int)[None, :, None]
    image = (image - rng.integers(0, 40, image.shape)).astype(np.uint8)
    x = np.where(np.arange(count) % 2, 240, 70) + rng.uniform(-50, 50, count)
    centres = np.stack([x, rng.uniform(20, 300, count)], axis=1)
    ids = np.array([f"u{k:03}" for k in range(count)])
    place, size = folder / "samples/s/patches/8um_32px", PatchSize(8.0, 32)
    index = write_patches(place, image, ids, centres, size, (0.25, 0.25), 128, 1)
    files.write_json(place / "patches.json", index)
    level = 5 * 2.0 ** np.arange(GENES)[::-1] ** 0.5
    effect = np.where((np.arange(GENES) % 2 == 0)[None] & (centres[:, 0] > 160)[:, None], 6.0 if link else 1.0, 1.0)
    counts = rng.poisson(level * effect)
    source = Patches([place / "patches.json"], [("s", unit) for unit in ids])
    split = np.arange(count)
    return TrainingSet(
        source,
        sparse.csr_matrix(counts),
        np.ones((1, GENES), bool),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        split[: count * 2 // 3],
        split[count * 2 // 3 :],
        ["a"],
        [f"g{k}" for k in range(GENES)],
    )


def fitted(kind, data, scratch=None, **own):
    system = base.spec_of(kind).create(settings(kind, **own))
    system.scratch = scratch
    return system, system.fit(data, lambda n: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("patches"))


# sizes


def test_histospace_has_the_sizes_that_were_published():
    whole = histospace_network.AutoEncoder("AE3")
    assert parameters(whole.encoder) == 93_696
    for genes in (1, 50):
        module = histospace_network.Predictor(whole.encoder, 128, genes)
        assert parameters(module, trained=True) == 2_245_248 + 257 * genes
        assert parameters(module) - parameters(module, trained=True) == 93_696
    x = torch.zeros(2, 3, 128, 128)
    assert whole.encoder(x).shape == (2, 128, 16, 16)
    assert whole(x).shape == x.shape
    sizes = [parameters(histospace_network.Encoder(variant)) for variant in ("AE1", "AE2", "AE3")]
    kinds = [{type(layer).__name__ for layer in histospace_network.Encoder(v)} for v in ("AE1", "AE2", "AE3")]
    assert sizes == [93_248, 93_248, 93_696]
    assert [len(names) for names in kinds] == [2, 3, 4]


def test_what_the_published_decoder_cannot_show_the_mended_one_can():
    dark = torch.full((1, 3, 16, 16), -0.8)
    for as_published, reached in ((True, False), (False, True)):
        whole = histospace_network.AutoEncoder("AE1", as_published)
        whole.decoder[-2].bias.data.fill_(-20.0)
        assert bool((whole(dark) < -0.5).all()) == reached


def test_the_head_of_a_single_patch_has_the_size_that_was_published():
    assert parameters(single_network.head(1280, 3467, {"hidden": 3000, "dropout": 0.5})) == 14_247_467


@pytest.mark.parametrize(
    ("backbone", "trained", "backbone_trained"),
    [("resnet18", "all", "all"), ("resnet18", 0, 0), ("efficientnet_b0", 1, 412_160 + 2560 - 0)],
)
def test_a_frozen_backbone_is_frozen_and_trains_no_moments(backbone, trained, backbone_trained):
    module = single_network.build(settings("single_patch", backbone=backbone, trained=trained), 5)
    wanted = parameters(module.backbone) if backbone_trained == "all" else backbone_trained
    if trained != 1:
        assert parameters(module.backbone, trained=True) == wanted
    else:
        assert 0 < parameters(module.backbone, trained=True) < parameters(module.backbone)
    before = {k: v.clone() for k, v in module.state_dict().items() if k.startswith("backbone")}
    module.train()(torch.rand(4, 3, 32, 32))
    moved = [k for k, v in module.state_dict().items() if k in before and not torch.equal(v, before[k])]
    assert bool(moved) == (trained != 0)


def test_as_published_is_the_rule_of_the_families():
    rule = {name: published({"backbone": name})["trained"] for name in ("resnet50", "efficientnet_b7", "densenet121")}
    assert rule == {"resnet50": 0, "efficientnet_b7": "all", "densenet121": 9}
    module = single_network.build(settings("single_patch", bgr=True), 3).eval()
    other = single_network.build(settings("single_patch"), 3).eval()
    other.load_state_dict(module.state_dict())
    x = torch.rand(2, 3, 32, 32)
    assert torch.allclose(module(x), other(x.flip(1)))
    assert not torch.allclose(module(x), other(x))


# targets


def test_targets_are_logs_at_one_depth():
    hand = np.array([[0, 3, 1], [2, 0, 0], [0, 0, 0]])
    counts, sums = sparse.csr_matrix(hand), hand.sum(axis=1)
    logs = normalise(counts, sums, LOG10_CP10K).toarray()
    assert np.allclose(logs[0], [0, np.log10(7501), np.log10(2501)])
    assert np.allclose(logs[1], [np.log10(10001), 0, 0])
    assert (logs[2] == 0).all()
    medians = normalise(counts, sums, LOG1P_MEDIAN, 3.0).toarray()
    assert np.allclose(medians[:2], np.log1p([[0, 2.25, 0.75], [3, 0, 0]]))
    each = normalise(counts, sums, LOG1P_MEDIAN, np.array([8.0, 3.0, 1.0])).toarray()
    assert np.allclose(each[:2], np.log1p([[0, 6, 2], [3, 0, 0]]))
    assert (normalise(counts, sums, "expected counts per cell").toarray() == hand).all()


def test_predictions_of_any_unit_come_to_one_scale():
    hand = np.array([[0, 3, 1], [2, 0, 6]])
    counts, sums = sparse.csr_matrix(hand), hand.sum(axis=1)
    common = normalise(counts, sums, COMMON).toarray()
    for unit, median in (
        (LOG10_CP10K, None),
        (LOG1P_MEDIAN, np.array([5.0, 7.0])),
        (LOG1P, None),
        ("counts per cell", None),
    ):
        given = normalise(counts, sums, unit, median).toarray()
        assert np.allclose(to_common(given, unit, median), common, atol=1e-5), unit


def test_the_median_depth_is_of_the_training_units(data):
    data = replace(data, train=data.train[::2])
    targets = Targets(data, LOG1P_MEDIAN)
    sums = data.counts.toarray().sum(axis=1)
    assert targets.median == np.median(sums[data.train]) != np.median(sums)
    assert np.allclose(targets.mean(), targets.take(data.train).mean(axis=0), atol=1e-5)


# what is learnt from


def rare_set(data):
    """The set with a gene that few training units have, though all validation units do, and units of few genes."""
    counts = data.counts.toarray()
    counts[data.train, 3] = np.arange(len(data.train)) < 0.4 * len(data.train)
    counts[data.val, 3] = 9
    counts[data.train, 5] = np.arange(len(data.train)) < 0.6 * len(data.train)
    counts[data.train[50], :9] = counts[data.train[50], 11] = 0
    counts[data.val[2], :9] = counts[data.val[2], 11] = 0
    return replace(data, counts=sparse.csr_matrix(counts))


def test_genes_and_units_with_many_zeros_are_left_out_by_training_units_alone(data):
    data = rare_set(data)
    system = base.spec_of("histospace").create(settings("histospace", max_zeros=0.5, stain="none"))
    chosen = system.choose(data)
    assert chosen.genes == [gene for gene in data.genes if gene != "g3"], "g3 is there in 40 % of the training units"
    assert (chosen.counts.toarray() == np.delete(data.counts.toarray(), 3, axis=1)).all()
    assert set(data.train) - set(chosen.train) == {data.train[50]}
    assert set(data.val) - set(chosen.val) == {data.val[2]}
    system.fit(chosen, lambda n: None)
    train, val = len(data.train), len(data.val)
    assert system.describe()["filters"] == {
        "genes": {"of": GENES, "kept": GENES - 1},
        "train": {"of": train, "kept": train - 1},
        "val": {"of": val, "kept": val - 1},
    }
    assert system.predict(data.source.take(np.arange(3))).expected.shape == (3, GENES - 1)


def test_a_gene_is_judged_where_it_was_measured(data):
    counts, half = data.counts.toarray(), np.arange(len(data.sample)) % 2
    counts[half == 1, 4] = 0
    two = replace(
        data, counts=sparse.csr_matrix(counts), sample=half, measured=np.ones((2, GENES), bool) & (half[:2, None] >= 0)
    )
    assert "g4" not in without_zeros(two, 0.5).genes
    measured = two.measured.copy()
    measured[1, 4] = False
    assert "g4" in without_zeros(replace(two, measured=measured), 0.5).genes
    with pytest.raises(InputError, match="no gene has a share of zeros below"):
        without_zeros(replace(data, counts=data.counts * 0), 0.5)


def test_all_genes_are_learnt_unless_as_published(data):
    data = rare_set(data)
    published = {"as_published": True}
    kept = [({}, GENES), (published, GENES - 1)]
    kept += [(published | {"max_zeros": most}, genes) for most, genes in ((0.3, GENES - 2), (0.9, GENES))]
    for own, genes in kept:
        system = base.spec_of("histospace").create(settings("histospace", **own))
        assert len(system.choose(data).genes) == genes


@pytest.mark.parametrize("kind", ["single_patch", "histospace"])
def test_the_control_exchanges_counts_within_a_sample_and_part(kind, data):
    two = replace(data, sample=np.arange(len(data.sample)) % 2, measured=np.ones((2, GENES), bool))
    system, plain = (base.spec_of(kind).create(settings(kind, shuffle=shuffle)) for shuffle in (True, False))
    assert plain.choose(two) is two
    before, after = two.counts.toarray(), system.choose(two).counts.toarray()
    assert (system.choose(two).counts != system.choose(two).counts).nnz == 0, "seeded"
    for part in (two.train, two.val):
        for sample in range(2):
            rows = part[two.sample[part] == sample]
            assert sorted(map(tuple, before[rows])) == sorted(map(tuple, after[rows]))
            assert (before[rows] != after[rows]).any(axis=1).mean() > 0.8


# augmentation


@pytest.mark.parametrize("kind", ["mpa", "stnet"])
def test_augmentation_is_seeded_and_none_changes_nothing(kind):
    x = torch.rand(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = [augment(x.clone(), kind, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert torch.equal(augment(x, "none", torch.Generator()), x)
    assert made[0].min() >= 0
    assert made[0].max() <= 1
    same = [(patch - other).abs().max() < 1e-6 for patch, other in zip(made[0], x, strict=True)]
    assert sum(same) < 12


def test_mpa_changes_no_colour_and_mirrors_as_often_as_not():
    x = torch.zeros(400, 3, 16, 16)
    x[:, :, :, :8] = torch.tensor([0.9, 0.2, 0.5]).view(1, 3, 1, 1)
    made = augment(x, "mpa", torch.Generator().manual_seed(1))
    lit = made.amax(dim=(2, 3))
    assert torch.allclose(lit, torch.tensor([0.9, 0.2, 0.5]).expand(400, 3), atol=0.02)
    sides = torch.stack([made[:, 0, :, :4].mean((1, 2)), made[:, 0, :, -4:].mean((1, 2))])
    upper = torch.stack([made[:, 0, :4].mean((1, 2)), made[:, 0, -4:].mean((1, 2))])
    for a, b in ((sides[0], sides[1]), (sides[1], sides[0]), (upper[0], upper[1]), (upper[1], upper[0])):
        assert 0.15 < float((a > b + 0.3).float().mean()) < 0.4


# training


def square(module, x, rows):
    return ((module(x) - torch.from_numpy(np.asarray(rows) % 2).float()[:, None]) ** 2).mean()


def plain(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 1)
    )


def work_of(data, scratch=None, **plan):
    plan = {"epochs": 4, "batch": 8, "learning_rate": 0.05, "seed": 1} | plan
    device = torch.device("cpu")
    return Work("plain", data.source, data.train, data.val, square, Plan(**plan), device, scratch, "key")


def test_the_best_weights_are_restored_and_their_loss_is_the_recorded_one(data):
    module = plain()
    rows = train(module, work_of(data, learning_rate=0.3, epochs=2), lambda n: None)
    losses = [row["val_loss"] for row in rows]
    assert losses.index(min(losses)) < len(losses) - 1, "a later epoch is worse, or the test shows nothing"
    assert evaluate(module, work_of(data), data.val) == min(losses)
    assert [row["best"] for row in rows] == [loss == min(losses[: k + 1]) for k, loss in enumerate(losses)]


def test_the_learning_rate_falls_by_a_cosine_or_stays(data):
    for schedule, last in (("cosine", 0.0), ("constant", 0.05)):
        rows = train(plain(), work_of(data, schedule=schedule, patience=9), lambda n: None)
        rates = [row["learning_rate"] for row in rows]
        assert rates[-1] == pytest.approx(last, abs=0.001)
        assert rates == sorted(rates, reverse=True)


def test_training_stops_when_validation_does_not_improve(data):
    told = []
    rows = train(plain(), work_of(data, learning_rate=0.3, epochs=30, patience=2), told.append)
    assert len(rows) < 30
    assert [row["best"] for row in rows[-2:]] == [False, False]
    assert sum(told) == 30


def test_batches_whose_gradients_are_gathered_are_one_batch(data):
    states, norms = [], []
    data = replace(data, train=data.train[:60])  # the last step is of fewer
    for batch, accumulate in ((16, 1), (4, 4)):
        module = plain()
        rows = train(module, work_of(data, batch=batch, accumulate=accumulate, epochs=2), lambda n: None)
        norms.append([row["gradient_norm"] for row in rows])
        states.append(torch.cat([p.flatten() for p in module.parameters()]))
    assert torch.allclose(*states, atol=1e-5)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


CUT_OFF = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
import torch
torch.set_num_threads(1)
from unit.test_patch_systems import make_set, fitted
from shest.systems import patch_training
keep = patch_training._Run.keep
def kept(self, path, key):
    keep(self, path, key)
    if self.work.name == {name!r} and self.epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
patch_training._Run.keep = kept
fitted({kind!r}, make_set(Path({folder!r})), Path({scratch!r}))
"""


@pytest.mark.parametrize(("kind", "part"), [("single_patch", "network"), ("histospace", "predictor")])
def test_a_fit_that_was_killed_goes_on_to_the_same_bytes(kind, part, tmp_path, data):
    scratch, root = tmp_path / "scratch", Path(__file__).resolve().parents[2]
    path = [str(root / "workflow"), str(root / "tests")]
    code = CUT_OFF.format(path=path, name=part, kind=kind, folder=str(tmp_path), scratch=str(scratch))
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (scratch / f"{part}.checkpoint").is_file()
    epochs = []
    system = base.spec_of(kind).create(settings(kind))
    system.scratch = scratch
    rows = system.fit(make_set(tmp_path), epochs.append)
    whole, expected = fitted(kind, data)
    assert rows == expected
    for name, value in whole.tensors().items():
        assert value.tobytes() == system.tensors()[name].tobytes(), name
    assert sum(epochs) == system.steps()
    other, _ = fitted(kind, data, learning_rate=0.01)
    assert any(v.tobytes() != other.tensors()[k].tobytes() for k, v in whole.tensors().items()), "the test can fail"


# the systems


@pytest.mark.parametrize("as_published", [False, True])
def test_the_encoder_is_frozen_to_the_bit_unless_as_published(data, monkeypatch, as_published):
    from shest.systems.histospace import system as module

    seen = {}
    real = module.train

    def watched(network, work, advance):
        if work.name == "predictor":
            seen["before"] = {k: v.clone() for k, v in network.encoder.state_dict().items()}
        return real(network, work, advance)

    monkeypatch.setattr(module, "train", watched)
    system, rows = fitted("histospace", data, as_published=as_published)
    changed = [k for k, v in system.module.encoder.state_dict().items() if not torch.equal(v, seen["before"][k])]
    assert all("running" in name or "num_batches" in name for name in changed)
    assert bool(changed) == as_published
    assert [row["part"] for row in rows] == ["autoencoder"] * 2 + ["predictor"] * 2


def test_the_autoencoder_comes_below_a_picture_of_one_colour(data):
    system, _ = fitted("histospace", data, ae_epochs=12, ae_learning_rate=0.003, epochs=1)
    facts = system.describe()["autoencoder"]
    assert facts["rebuilding_error"] < facts["mean_colour_error"]


@pytest.mark.parametrize(
    ("kind", "own"), [("single_patch", {}), ("single_patch", {"head": "ridge"}), ("histospace", {"stain": "cast"})]
)
def test_a_system_that_was_saved_predicts_the_same(kind, own, data, tmp_path):
    system, rows = fitted(kind, data, **own)
    assert set().union(*rows) <= set(base.HISTORY)
    info = {"kind": kind, "settings": settings(kind, **own), "genes": data.genes, "classes": []}
    base.save(tmp_path / "m.safetensors", tmp_path / "m.json", base.Trained(system, info))
    loaded = base.load(tmp_path / "m.safetensors", tmp_path / "m.json")
    x = data.source.take(np.arange(20))
    found, again = (s.predict(x) for s in (system, loaded.system))
    assert found.type_logits is None
    assert found.expected.shape == (20, GENES)
    assert np.array_equal(found.expected, again.expected)
    assert (found.expected >= 0).all()
    assert loaded.system.describe() == json.loads(json.dumps(system.describe()))
    parts = np.concatenate([system.predict(data.source.take(np.arange(k, k + 5))).expected for k in (0, 5, 10, 15)])
    assert np.allclose(parts, found.expected, atol=1e-4), "a unit's neighbours in its batch change nothing"


@pytest.mark.parametrize("kind", ["single_patch", "histospace"])
def test_a_package_cuts_the_patches_of_a_slide_and_predicts_of_them_the_same(kind, data, tmp_path):
    system, _ = fitted(kind, data, stain="cast") if kind == "histospace" else fitted(kind, data)
    image = np.random.default_rng(3).integers(0, 255, (3, 200, 220), np.uint8)
    table = pd.DataFrame({"cell_id": ["b", "a", "c"], "x": [50.0, 3.0, 190.0], "y": [60.0, 4.0, 150.0]})
    info = {"kind": kind, "settings": system.settings, "genes": data.genes, "classes": []}
    nothing = np.empty((3, 0))
    where = (base.Trained(system, info), "new", image, table, nothing, (0.25, 0.25), 64, tmp_path, 1)
    with one_slide.seen_of(*where) as seen:
        assert len(seen(slice(1, 3))) == 2
        found = system.predict(seen(slice(0, 3))).expected
        pixels = seen(slice(0, 1))[:][0]
    assert not list(tmp_path.iterdir()), "patches are gone"
    assert (pixels == np.moveaxis(image[:, 45:77, 35:67], 0, -1)).all()
    index = write_patches(
        tmp_path / "new/patches/8um_32px",
        image,
        table["cell_id"].to_numpy(str),
        table[["x", "y"]].to_numpy(),
        PatchSize(8.0, 32),
        (0.25, 0.25),
        64,
        1,
    )
    files.write_json(tmp_path / "new/patches/8um_32px/patches.json", index)
    patches = Patches([tmp_path / "new/patches/8um_32px/patches.json"], [("new", c) for c in table["cell_id"]])
    assert np.allclose(system.predict(patches.take(np.arange(3))).expected, found, atol=1e-5)
    in_memory = Cut(patches.take(np.arange(3))[:], "new")
    assert np.allclose(system.predict(in_memory).expected, found, atol=1e-5)


def correlations(system, data):
    """r across units, median over the genes that follow the image; r across genes, mean over units; scored on val."""
    found = system.predict(data.source.take(data.val)).expected
    counts = data.counts[data.val]
    sums = np.asarray(counts.sum(axis=1)).ravel()
    true = normalise(counts, sums, system.expression_unit, system.median).toarray()
    by_gene = [np.corrcoef(found[:, k], true[:, k])[0, 1] for k in range(0, GENES, 2)]
    by_unit = [np.corrcoef(a, b)[0, 1] for a, b in zip(found, true, strict=True)]
    return np.nan_to_num(np.median(by_gene)), np.mean(by_unit)


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("single_patch", {"augment": "none", "batch": 8, "dropout": 0.1, "epochs": 12, "learning_rate": 0.002}),
        ("histospace", {"augment": "none", "ae_learning_rate": 0.001, "learning_rate": 0.001, "epochs": 6}),
    ],
)
def test_shuffled_patches_lose_what_the_image_tells_and_keep_what_needs_no_image(kind, own, tmp_path):
    linked = correlations(*with_system(kind, make_set(tmp_path), own))
    shuffled = correlations(*with_system(kind, make_set(tmp_path), own | {"shuffle": True}))
    assert linked[0] > 0.6
    assert abs(shuffled[0]) < 0.35
    assert shuffled[1] > 0.5
    assert abs(linked[1] - shuffled[1]) < 0.3


def with_system(kind, data, own):
    """A system fitted on what it chooses, and the set as it is."""
    system = base.spec_of(kind).create(settings(kind, **own))
    system.fit(system.choose(data), lambda n: None)
    return system, data


# colours


def test_the_cast_goes_and_stains_come_to_those_of_the_template():
    rng = np.random.default_rng(0)
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    other = np.array([[0.55, 0.75, 0.37], [0.15, 0.96, 0.22]])
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    amount = rng.gamma(2, 0.35, (40_000, 2)) * rng.integers(0, 2, (40_000, 2))
    amount[:4000] = 0
    pictures = [
        np.clip(256 * np.exp(-(amount * strength) @ v) - 1, 0, 255) for v, strength in ((vectors, 1.0), (other, 0.7))
    ]
    template, pale = (np.clip(np.rint(p), 0, 255).astype(np.uint8) for p in pictures)
    pale = (pale * np.array([1.0, 0.9, 0.8])).astype(np.uint8)
    assert np.percentile(np.clip(pale * colour.cast(pale), 0, 255), 99, axis=0) == pytest.approx([255] * 3, abs=1)
    own, stains = colour.colour_of(template, "macenko", None)
    changed, none = colour.colour_of(pale, "macenko", stains)
    assert none is not None

    def applied(which, pixels):
        patches = torch.from_numpy(pixels.reshape(1, 200, 200, 3)).permute(0, 3, 1, 2).float() / 255
        return which.apply(patches)[0].permute(1, 2, 0).reshape(-1, 3).numpy() * 255

    apart = np.abs(pale.astype(float) - template).mean()
    left = np.abs(applied(changed, pale) - applied(own, template)).mean()
    assert left < apart / 3
    same, _ = colour.colour_of(pale, "none", stains)
    assert np.allclose(applied(same, pale), pale, atol=0.01)


def stained_pixels(vectors, seed, haematoxylin=0.5, strength=1.0, n=40_000):
    """Pixels of two planted stains, (2, 3); ``haematoxylin``: share of pixels that have any."""
    rng = np.random.default_rng(seed)
    amount = rng.gamma(2, 0.3, (n, 2)) * (rng.random((n, 2)) < (haematoxylin, 0.8)) * strength
    pixels = 256 * np.exp(-amount @ np.asarray(vectors)) - 1 + rng.normal(0, 2, (n, 3))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def unit(vectors):
    return np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)


def degrees(one, other):
    return np.degrees(np.arccos(np.clip((one * other).sum(axis=1), -1, 1)))


PLANTED = [unit([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]]), unit([[0.55, 0.75, 0.37], [0.15, 0.96, 0.22]])]


@pytest.mark.parametrize("vectors", PLANTED)
def test_planted_stains_are_found_by_vahadanes_dictionary_where_macenkos_angles_miss_a_rare_one(vectors):
    for share in (0.1, 0.5):
        found = colour.vahadane(stained_pixels(vectors, 1, share))
        assert degrees(found, vectors).max() < 4
    rare = stained_pixels(vectors, 2, 0.1)
    by_angles = colour.estimate(rare, "macenko").vectors[:1]
    assert degrees(by_angles, vectors[:1])[0] > degrees(colour.vahadane(rare)[:1], vectors[:1])[0] + 2


def test_vahadane_needs_stained_pixels():
    assert colour.vahadane(np.full((5000, 3), 245, np.uint8)) is None
    assert np.isfinite(colour.estimate(np.full((5000, 3), 245, np.uint8), "vahadane").vectors).all()


@pytest.mark.parametrize("kind", ["macenko", "vahadane"])
def test_a_sample_takes_on_the_stains_of_the_target(kind):
    target, other = (stained_pixels(v, 5, strength=k) for v, k in zip(PLANTED, (1.0, 0.6), strict=True))
    wanted = stained_pixels(PLANTED[0], 5)
    _, template = colour.colour_of(target, kind, None)
    changed, own = colour.colour_of(other, kind, template)
    patches = torch.from_numpy(other.reshape(1, 200, 200, 3)).permute(0, 3, 1, 2).float() / 255
    found = changed.apply(patches)[0].permute(1, 2, 0).reshape(-1, 3).numpy() * 255
    assert np.abs(found - wanted).mean() < np.abs(other.astype(float) - wanted).mean() / 3
    assert degrees(own.vectors[:2], PLANTED[1]).max() < 5


class Two:
    """Patches of two samples, each with its own stains."""

    px = 100
    units = tuple((name, f"{name}{k}") for name in ("a", "b") for k in range(3))

    def __init__(self):
        parts = [stained_pixels(v, k, n=30_000).reshape(3, 100, 100, 3) for k, v in enumerate(PLANTED)]
        self.pixels = np.concatenate(parts)

    def take(self, units, views=0):
        return Taken(self, np.asarray(units))

    def read(self, units):
        return self.pixels[units]


@pytest.mark.parametrize(("target", "first"), [(None, "a"), ("b", "b"), ("held out", "a")])
def test_the_target_is_the_first_training_sample_or_the_named_one(target, first):
    source, none = Two(), np.zeros(6, np.int64)
    data = TrainingSet(
        source, sparse.csr_matrix((6, 1)), np.ones((1, 1), bool), none, none, np.arange(6), none[:0], [], ["g"]
    )
    colours = colour.Colours({"stain": "vahadane", "stain_target": target})
    colours.learn(data)
    assert next(iter(colours.of)) == first
    assert np.allclose(colours.of[first].matrix, np.eye(3), atol=1e-5)
    other = "b" if first == "a" else "a"
    assert not np.allclose(colours.of[other].matrix, np.eye(3), atol=0.02)
    again = colour.Colours({"stain": "vahadane", "stain_target": target})
    again.restore(colours.tensors())
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    names = [name for name, _ in source.units]
    assert torch.equal(again.apply(x, names), colours.apply(x, names))
    assert torch.allclose(colours.apply(x, names)[:3], colours.of["a"].apply(x[:3]))


def test_stains_of_a_system_change_what_its_network_sees(data):
    plain, brought = (fitted("single_patch", data, epochs=1, stain=kind)[0] for kind in ("none", "cast"))
    x = data.source.take(np.arange(6))
    assert not plain.colours.of
    assert set(brought.colours.of) == {"s"}
    seen = {}
    for name, system in (("none", plain), ("cast", brought)):
        look = system.look
        system.look = lambda patches, look=look, name=name: seen.update({name: patches.numpy()}) or look(patches)
        system.predict(x)
    assert np.percentile(np.moveaxis(seen["cast"], 1, -1).reshape(-1, 3), 99, axis=0) == pytest.approx(
        [1] * 3, abs=0.02
    )
    assert np.percentile(seen["none"], 99) < 0.95
