"""Training on simulated embeddings with known truth, and the guards around it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from support.simulated import pearson, simulate

from shest.core.errors import InputError
from shest.labels import training_set
from shest.systems import base, numerics, uncertainty
from shest.systems.linear.system import Linear
from shest.systems.shest import heads, training
from shest.systems.shest.system import Shest

CPU = torch.device("cpu")
SMALL = heads.Settings(
    epochs=25, batch=256, classifier_hidden=(64, 32), reconstructor_hidden=(64, 64), learning_rate=0.01, patience=8
)


def trained(data, settings=SMALL):
    system = Shest(vars(settings))
    return system.fit(data, lambda steps: None), system


def of_fit(fit, data, settings):
    system = Shest(vars(settings))
    system.assemble(fit, data.source.dim, len(data.classes), len(data.genes))
    return system


def predict(system, x, temperature=1.0):
    found = system.predict(x)
    named = {"expected": found.expected, "aleatoric": found.aleatoric, "epistemic": found.epistemic}
    named |= uncertainty.describe(found.type_logits, temperature)
    return {name: np.asarray(value, np.float32) for name, value in named.items()}


@pytest.fixture(scope="module")
def typed():
    """Cells whose type is plain, and a model of two members trained on them."""
    data, truth = simulate()
    fit = training.fit(data, replace(SMALL, members=2), CPU)
    built = of_fit(fit, data, replace(SMALL, members=2))
    return data, truth, fit, built, predict(built, data.source.take(truth.test))


def test_type_means_are_learnt(typed):
    data, truth, _, _, predicted = typed
    actual = data.counts[truth.test].toarray()
    oracle = pearson(actual, truth.mu[data.label[truth.test]])
    found = pearson(actual, predicted["expected"])
    assert (predicted["probability"].argmax(axis=1) == data.label[truth.test]).mean() > 0.97
    assert np.median(found) >= 0.95 * np.median(oracle)
    np.testing.assert_allclose(predicted["expected"].mean(axis=0), truth.expected[truth.test].mean(axis=0), rtol=0.15)


def test_inflation_is_learnt(typed):
    """pi is told apart from a small mean: its median over genes is the simulated one."""
    data, truth, _, built, _ = typed
    x = (torch.from_numpy(data.source.take(truth.test)).float() - built.mean) / built.std
    with torch.inference_mode():
        _, _, pi = built.members[0]["reconstructor"](x)
    assert torch.sigmoid(pi).median().item() == pytest.approx(0.3, abs=0.05)


def test_variances_are_those_of_the_data(typed):
    data, truth, _, _, predicted = typed
    residual = (data.counts[truth.test].toarray() - predicted["expected"]) ** 2
    total = predicted["aleatoric"] + predicted["epistemic"]
    assert np.median(residual.mean(axis=0) / total.mean(axis=0)) == pytest.approx(1, abs=0.15)
    assert (predicted["epistemic"] >= 0).all()
    assert 0 < predicted["epistemic"].mean() < predicted["aleatoric"].mean()


def test_both_variances_are_those_of_the_members(typed):
    data, truth, fit, _, predicted = typed
    x, settings = data.source.take(truth.test), replace(SMALL, members=1)
    single = [training.Fit(fit.mean, fit.std, [member]) for member in fit.members]
    alone = [predict(of_fit(f, data, settings), x) for f in single]
    means, variances = (np.stack([p[name] for p in alone]) for name in ("expected", "aleatoric"))
    aleatoric, epistemic = uncertainty.decompose(means, variances)
    np.testing.assert_allclose(predicted["aleatoric"], aleatoric, rtol=1e-4)
    np.testing.assert_allclose(predicted["epistemic"], epistemic, rtol=1e-3, atol=1e-5)
    assert all(np.isnan(p["epistemic"]).all() and np.isnan(p["disagreement"]).all() for p in alone)


def test_prediction_does_not_depend_on_the_block(typed):
    data, truth, _, built, predicted = typed
    part = predict(built, data.source.take(truth.test[100:150]))
    for name, values in part.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, predicted[name][100:150], rtol=0.03, atol=0.02)


def test_probabilities_are_calibrated_after_scaling():
    data, truth = simulate(n=4_800, signal=1.6, tests=10_000)
    _, built = trained(data)
    val, test = (built.predict(data.source.take(cells)).type_logits for cells in (data.val, truth.test))
    temperature = uncertainty.fit_temperature(val, data.label[data.val])
    error = uncertainty.calibration_error(uncertainty.ensemble(test, temperature), data.label[truth.test])
    assert error < 0.04  # a temperature from some 480 validation cells, an error from 10,000


def test_shuffled_labels_score_at_chance():
    data, truth = simulate()
    rng = np.random.default_rng(1)
    data = replace(data, label=rng.permutation(data.label))
    _, built = trained(data)
    called = predict(built, data.source.take(truth.test))["probability"].argmax(axis=1)
    assert (called == data.label[truth.test]).mean() == pytest.approx(0.25, abs=0.06)


def test_embeddings_without_signal_find_none():
    data, truth = simulate(signal=0.0)
    _, built = trained(data)
    predicted = predict(built, data.source.take(truth.test))
    assert (predicted["probability"].argmax(axis=1) == data.label[truth.test]).mean() == pytest.approx(0.25, abs=0.06)
    assert abs(np.median(pearson(data.counts[truth.test].toarray(), predicted["expected"]))) < 0.04


@pytest.mark.parametrize(("within", "found"), [(0.0, False), (0.6, True)])
def test_a_link_within_types_is_found_where_there_is_one(within, found):
    data, truth = simulate(within=within)
    _, built = trained(data)
    predicted = predict(built, data.source.take(truth.test))["expected"]
    actual, label = data.counts[truth.test].toarray(), data.label[truth.test]
    inside = [pearson(actual[label == t], predicted[label == t]) for t in range(4)]
    linked, free = np.median([r[::2] for r in inside]), np.median([r[1::2] for r in inside])
    assert bool(linked > 0.2) is found
    assert abs(free) < 0.06


def linear_types(data, x):
    linear = Linear({"seed": 42})
    linear.fit(data, lambda steps: None)
    return linear.predict(x).type_logits[0].argmax(axis=1)


def test_heads_come_close_to_logistic_regression_on_small_data():
    """Within 0.02 over a few seeds, on 1,500 cells with overlapping types."""
    gaps = []
    for seed in range(3):
        data, truth = simulate(n=1_500, signal=2.0, seed=seed, tests=4_000)
        _, built = trained(data, replace(SMALL, batch=1024, epochs=40))
        x, label = data.source.take(truth.test), data.label[truth.test]
        head = (predict(built, x)["probability"].argmax(axis=1) == label).mean()
        gaps.append((linear_types(data, x) == label).mean() - head)
    assert np.mean(gaps) < 0.02


def states_equal(one, other):
    return all(
        torch.equal(value, b[head][name])
        for a, b in zip(one.members, other.members, strict=True)
        for head in a
        for name, value in a[head].items()
    )


def test_weights_repeat_bit_by_bit_and_follow_the_seed():
    data, _ = simulate(n=600, tests=200)
    settings = replace(SMALL, epochs=3, members=2)
    torch.manual_seed(1)
    first = training.fit(data, settings, CPU)
    torch.manual_seed(2)  # what ran before does not matter
    assert states_equal(first, training.fit(data, settings, CPU))
    assert first.rows == training.fit(data, settings, CPU).rows
    assert not states_equal(first, training.fit(data, replace(settings, seed=1), CPU))
    assert not torch.equal(*(m["classifier"]["cell_type.weight"] for m in first.members))


def test_best_weights_are_restored_for_each_head():
    """With far too large steps at the end the last weights are not the best."""
    data, _ = simulate(n=600, tests=200, signal=1.0)
    settings = replace(SMALL, epochs=15, patience=15)
    fit = training.fit(data, settings, CPU)
    built = of_fit(fit, data, settings)
    loader = training.Loader(data, fit.mean, fit.std, CPU)
    for head in heads.HEADS:
        rows = [row for row in fit.rows if row["part"] == head]
        trainer = training.Trainer(head, built.members[0][head], settings, CPU)
        identity = np.zeros(len(data.val), np.int64)
        assert trainer.validate(loader.batches(data.val, identity, 256)) == min(row["val_loss"] for row in rows)
        assert [row["best"] for row in rows].count(True) >= 1
        assert [row for row in rows if row["best"]][-1]["val_loss"] == min(row["val_loss"] for row in rows)


def test_training_stops_when_the_validation_loss_no_longer_falls():
    data, _ = simulate(n=600, tests=200, signal=0.0)
    fit = training.fit(data, replace(SMALL, epochs=40, patience=3), CPU)
    for head in heads.HEADS:
        rows = [row for row in fit.rows if row["part"] == head]
        assert len(rows) < 40
        assert [row["best"] for row in rows][-3:] == [False] * 3


def test_a_loss_that_is_not_finite_names_step_head_and_ranges():
    data, _ = simulate(n=600, tests=200)
    with pytest.raises(
        base.Diverged, match=r"of the (classifier|reconstructor) .* at step 2; parameters: hidden"
    ) as caught:
        training.fit(data, replace(SMALL, learning_rate=1e30), CPU)
    assert caught.value.good
    assert all(np.isfinite(value).all() for value in caught.value.good.values())


def test_unmeasured_genes_are_masked_out_of_the_loss():
    """Sample 1 lacks the last genes: whatever its counts say there, the weights are the same."""
    data, _ = simulate(n=600, tests=200)
    measured = np.ones((2, 30), bool)
    measured[1, 20:] = False
    sample = np.arange(800) % 2
    counts = data.counts.toarray()
    counts[sample == 1, 20:] = 0
    lied = counts.copy()
    lied[sample == 1, 20:] = 50
    settings = replace(SMALL, epochs=3)
    fits = [
        training.fit(replace(data, counts=sparse.csr_matrix(c), measured=measured, sample=sample), settings, CPU)
        for c in (counts, lied)
    ]
    assert states_equal(*fits)
    unmasked = training.fit(replace(data, counts=sparse.csr_matrix(counts), sample=np.zeros(800, int)), settings, CPU)
    assert not states_equal(fits[0], unmasked)


@pytest.mark.parametrize(("views", "expected"), [(1, {0}), ("sampled", set(range(8))), (8, set(range(8)))])
def test_training_asks_for_the_configured_views(views, expected):
    data, _ = simulate(n=600, tests=200)
    data.source.asked.clear()
    training.fit(data, replace(SMALL, epochs=1, views=views), CPU)
    assert set(np.concatenate(data.source.asked)) == expected


def test_moments_by_blocks_equal_numpy():
    data, _ = simulate(n=600, tests=200)
    mean, std = training_set.moments(data.source, data.train, block=70)
    x = data.source.values[data.train].astype(np.float64)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std, x.std(axis=0), rtol=1e-4)


def info(data, settings, **more):
    return {
        "kind": "shest",
        "genes": data.genes,
        "classes": data.classes,
        "dim": data.source.dim,
        "settings": vars(settings),
        "fingerprint": "abc",
        "temperature": 1.0,
        **more,
    }


def test_a_system_survives_the_disk(typed, tmp_path):
    data, truth, _, _, predicted = typed
    settings = replace(SMALL, members=2, epochs=1)
    _, built = trained(data, settings)
    paths = tmp_path / "model.safetensors", tmp_path / "model.json"
    base.save(*paths, base.Trained(built, info(data, settings)))
    loaded = base.load(*paths)
    x = data.source.take(truth.test)
    again, before = (predict(system, x) for system in (loaded.system, built))
    assert all(np.array_equal(again[name], values) for name, values in before.items())
    assert set(before) == set(predicted)
    assert (loaded.genes, loaded.info["members"], loaded.info["device"]) == (data.genes, 2, "cpu")
    loaded.check_fingerprint("abc", "x.json")
    with pytest.raises(InputError, match="fingerprint other"):
        loaded.check_fingerprint("other", "x.json")


def test_a_model_whose_parts_do_not_belong_together_is_refused(typed, tmp_path):
    data, _, fit, _, _ = typed
    paths = tmp_path / "model.safetensors", tmp_path / "model.json"
    built = of_fit(fit, data, replace(SMALL, members=2))
    built.fitted_on = "cpu"
    base.save(*paths, base.Trained(built, info(data, replace(SMALL, members=2), genes=["one"])))
    with pytest.raises(InputError, match="not the weights that"):
        base.load(*paths)
    paths[0].write_bytes(b"half a file")
    with pytest.raises(InputError, match="not the weights that"):
        base.load(*paths)
    base.save(*paths, base.Trained(built, info(data, SMALL, kind="chest")))
    with pytest.raises(InputError, match=r"no kind of system chest\. Did you mean shest"):
        base.load(*paths)


def test_a_cpu_trains_in_float32_unless_asked_otherwise():
    for precision, mixed in (("auto", False), ("fp32", False), ("bf16", True)):
        with numerics.autocast(CPU, precision):
            assert torch.is_autocast_enabled("cpu") is mixed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_weights_repeat_on_a_gpu():
    data, _ = simulate(n=600, tests=200)
    fits = [training.fit(data, replace(SMALL, epochs=3), torch.device("cuda:0")) for _ in range(2)]
    assert states_equal(*fits)
