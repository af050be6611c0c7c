"""The engine: every cell and view encoded once, padded batches, and features equal to a plain forward pass."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import morphometrics_reference

from shest.core.errors import InputError
from shest.encode import cache, morphometrics, runner, spec, timm_encoder
from shest.tiles import quadruple, shards

TINY = {"name": "tiny", "architecture": "vit_tiny_patch16_224", "weights": "random", "features": 192}


def prepare(entry, precision, batch):
    return runner.prepare(spec.complete(entry), precision, batch)


def shard(folder, name, n, seed):
    """Write a small tile shard and return its entry in tiles.json."""
    from safetensors.numpy import save_file as save

    rng = np.random.default_rng(seed)
    windows = rng.integers(0, 255, (n, 64, 64, 3), dtype=np.uint8)
    masks = np.packbits(rng.random((n, 112 * 112)) < 0.3, axis=1)
    folder.mkdir(exist_ok=True)
    save({"windows": windows, "masks": masks}, folder / name)
    from shest.core.files import sha256

    return {"file": name, "sha256": sha256(folder / name), "cells": [f"{name}{i}" for i in range(n)]}


@pytest.fixture(scope="module")
def record():
    return prepare(TINY, "fp32", 4)


@pytest.fixture
def encoded(monkeypatch):
    """Count the images that any encoder encodes."""
    counted = []

    def count(cls):
        plain = cls.encode

        def encode(self, windows, masks, view):
            counted.append(len(windows))
            return plain(self, windows, masks, view)

        monkeypatch.setattr(cls, "encode", encode)

    count(timm_encoder.TimmEncoder)
    count(morphometrics.Morphometrics)
    return counted


def read(record, work, folder, sample="s"):
    from shest.core.files import write_json

    write_json(folder / "index.json", runner.index(record, sample, work, folder))
    cells = list(dict.fromkeys((sample, c) for entry, _, _ in work for c in entry["cells"]))
    return cache.Embeddings([folder / "index.json"], cells)


def test_features_equal_a_plain_timm_forward_pass(tmp_path, record):
    import timm

    entry = shard(tmp_path / "tiles", "a", 6, 0)
    work = [(entry, 0, None), (entry, 5, None)]
    runner.run(record, work, tmp_path / "tiles", tmp_path / "cache", 1)
    table = read(record, work[:1] + work[1:], tmp_path / "cache")
    torch.manual_seed(0)
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    windows, masks = shards.read_shard(tmp_path / "tiles" / "a")
    for view in (0, 5):
        x = (
            torch.from_numpy(quadruple.apply_dihedral(quadruple.assemble(windows, masks), view)).permute(0, 3, 1, 2)
            / 255
        )
        mean, std = (torch.tensor(spec.IMAGENET[k])[:, None, None] for k in ("mean", "std"))
        x = (x - mean) / std
        with torch.inference_mode():
            expected = plain(x)
        found = torch.from_numpy(table.take(np.arange(6), view).astype(np.float32))
        assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.99999


def test_a_second_run_encodes_nothing_and_a_changed_shard_only_itself(tmp_path, record, encoded):
    folder = tmp_path / "tiles"
    work = [(shard(folder, name, 5, seed), 0, None) for seed, name in enumerate("ab")]
    assert runner.run(record, work, folder, tmp_path / "cache", 1) == 10
    assert sum(encoded) == 10
    assert runner.run(record, work, folder, tmp_path / "cache", 1) == 0
    work[1] = (shard(folder, "b", 5, 99), 0, None)
    assert runner.run(record, work, folder, tmp_path / "cache", 1) == 5
    assert sum(encoded) == 15


def test_only_the_missing_cells_of_a_further_view_are_encoded(tmp_path, record, encoded):
    entry = shard(tmp_path / "tiles", "a", 6, 0)
    cache_folder = tmp_path / "cache"
    for rows, new in (([1, 4], 2), ([1, 2, 4], 1), ([2], 0)):
        work = [(entry, 3, np.array(rows, np.int32))]
        assert runner.run(record, work, tmp_path / "tiles", cache_folder, 1) == new
    whole = [(entry, 3, None)]
    runner.run(record, whole, tmp_path / "tiles", tmp_path / "other", 1)
    partly = read(record, [(entry, 3, np.array([1, 2, 4], np.int32))], cache_folder)
    fully = read(record, whole, tmp_path / "other")
    assert np.allclose(partly.take([1, 2, 4], 3), fully.take([1, 2, 4], 3), atol=2e-3)


def test_embeddings_do_not_depend_on_who_encodes_which_shards(tmp_path, record):
    folder = tmp_path / "tiles"
    work = [(shard(folder, name, n, n), 0, None) for name, n in (("a", 3), ("b", 5), ("c", 9))]
    runner.run(record, work, folder, tmp_path / "one", 1)
    for part in range(2):
        runner.run(record, work[part::2], folder, tmp_path / "two", 1)
    for path in (tmp_path / "one").rglob("*.npy"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_weights_precision_and_batch_size_change_the_fingerprint_and_names_do_not(tmp_path):
    import timm

    base = prepare(TINY, "fp32", 4)["fingerprint"]
    assert prepare(TINY | {"name": "other"}, "fp32", 4)["fingerprint"] == base
    assert prepare(TINY, "bf16", 4)["fingerprint"] != base
    assert prepare(TINY, "fp32", 8)["fingerprint"] != base
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict(), tmp_path / "w.safetensors")
        found.append(prepare(TINY | {"weights": str(tmp_path / "w.safetensors")}, "fp32", 4)["fingerprint"])
    assert len({base, *found}) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": "/nowhere/model.safetensors"}, "are not there"),
        ({"architecture": "vit_of_nobody"}, "timm cannot build vit_of_nobody"),
        ({"features": 100}, "gives 192 features, not 100"),
    ],
)
def test_bad_entries_are_named(change, said):
    with pytest.raises(InputError, match=said):
        prepare(TINY | change, "fp32", "auto")


def test_weights_of_another_architecture_are_refused(tmp_path):
    import timm

    torch.manual_seed(0)
    save_file(timm.create_model("resnet10t", num_classes=0).state_dict(), tmp_path / "model.safetensors")
    bad = TINY | {"weights": str(tmp_path)}
    with pytest.raises(InputError, match="not the weights of vit_tiny_patch16_224"):
        prepare(bad, "fp32", "auto")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no weights that can be read safely"):
        prepare(bad, "fp32", "auto")


def test_an_offline_hub_says_what_to_fetch_and_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"Fetch model\.safetensors and config\.json of bioptimus/H-optimus-0 by hand"):
        prepare("h-optimus-0", "fp32", 1)


def test_a_changed_assembly_of_tiles_changes_every_fingerprint(monkeypatch):
    before = [prepare(entry, "fp32", 4)["fingerprint"] for entry in (TINY, "morphometrics")]
    monkeypatch.setattr(quadruple, "VERSION", quadruple.VERSION + 1)
    after = [prepare(entry, "fp32", 4)["fingerprint"] for entry in (TINY, "morphometrics")]
    assert len({*before, *after}) == 4


def test_entries_are_completed_by_the_registry_and_once_is_enough():
    whole = spec.complete({"name": "h-optimus-0", "weights": "w"})
    assert (whole["weights"], whole["features"], whole["gflop"]) == ("w", 1536, 608)
    assert spec.complete(whole) == whole
    assert set(whole) == set(spec.complete(TINY))
    assert spec.complete(TINY)["gflop"] is None
    assert spec.complete("morphometrics") == {"name": "morphometrics"}


def test_unknown_names_list_the_known_ones():
    with pytest.raises(InputError, match=r"morphometrics, h-optimus-0"):
        prepare("h-optimus", "fp32", 1)


def test_a_local_folder_carries_mean_and_std(tmp_path):
    import json

    import timm

    torch.manual_seed(0)
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}}))
    found = prepare(TINY | {"weights": str(tmp_path)}, "fp32", 4)
    assert tuple(found["settings"]["mean"]) == (0.1, 0.2, 0.3)
    own = prepare(TINY | {"weights": str(tmp_path), "mean": [0, 0, 0], "std": [1, 1, 1]}, "fp32", 4)
    assert tuple(own["settings"]["mean"]) == (0, 0, 0)


def test_the_engine_needs_no_zarr_spatialdata_snakemake_or_anndata(root):
    import subprocess
    import sys

    code = (
        "import sys; sys.modules.update(dict.fromkeys(['zarr', 'spatialdata', 'snakemake', 'anndata', 'pandas']));"
        "import shest.encode.runner, shest.encode.timm_encoder, shest.encode.weights, shest.encode.cache;"
        "import shest.tiles.quadruple, shest.tiles.shards"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root / "workflow", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def blobs(n=12):
    from scipy import ndimage

    rng = np.random.default_rng(0)
    windows = ndimage.gaussian_filter(rng.random((n, 112, 112, 3)), (0, 4, 4, 0))
    windows = (255 * (windows - windows.min()) / np.ptp(windows)).astype(np.uint8)
    yy, xx = np.mgrid[:112, :112]
    masks = np.stack([((yy - 50 - k) ** 2 / 900 + (xx - 60 + k) ** 2 / (300 + 40 * k)) < 1 for k in range(n)])
    return windows, masks


@pytest.mark.parametrize("view", range(1, 8))
def test_morphometrics_are_the_same_in_every_view(view):
    windows, masks = blobs()
    flip, k = divmod(view, 4)
    turned = [np.rot90(np.flip(a, 2) if flip else a, k, axes=(1, 2)).copy() for a in (windows, masks)]
    base, found = morphometrics.features(windows, masks), morphometrics.features(*turned)
    assert np.allclose(found, base, rtol=1e-4, atol=2e-2 * np.abs(base).max(axis=0))
    assert np.median(np.abs(found - base)) < 1e-5


def test_morphometrics_are_those_of_scikit_image_and_scipy():
    """But for ties of local patterns, which rounding decides there."""
    windows, masks = blobs(6)
    noise = np.random.default_rng(1).integers(-40, 40, windows.shape)
    windows = np.clip(windows + noise, 0, 255).astype(np.uint8)
    masks[3, 0:40, 100:112] = True  # a second part, at the edge
    masks[4] = False
    masks[4, 50:52, 60] = True
    masks[5] = False
    known, found = (module.features(windows, masks) for module in (morphometrics_reference, morphometrics))
    names = np.array(morphometrics.feature_names())
    pattern = np.char.startswith(names, "lbp")
    assert np.allclose(found[:, ~pattern], known[:, ~pattern], rtol=2e-6, atol=1e-7), names[
        ~np.isclose(found, known, rtol=2e-6, atol=1e-7).all(axis=0)
    ]
    assert np.abs(found[:, pattern] - known[:, pattern]).max() < 2e-3


def test_threads_change_no_measure():
    rng = np.random.default_rng(3)
    windows = rng.integers(0, 255, (50, 60, 60, 3), dtype=np.uint8)
    masks = np.packbits(rng.random((50, 112 * 112)) < 0.3, axis=1)
    one, three = (morphometrics.Morphometrics(n).encode(windows, masks, 0) for n in (1, 3))
    assert np.array_equal(one, three)
    assert morphometrics.Morphometrics(2).encode(windows[:0], masks[:0], 0).shape == (
        0,
        len(morphometrics.feature_names()),
    )


def test_morphometrics_measure_what_they_say():
    windows, masks = blobs(1)
    names = morphometrics.feature_names()
    values = dict(zip(names, morphometrics.features(windows, masks)[0], strict=True))
    assert len(set(names)) == len(names)
    assert values["shape_area"] == masks.sum()
    assert values["shape_major"] == pytest.approx(60, rel=0.03)
    assert values["shape_minor"] == pytest.approx(2 * 300**0.5, rel=0.03)
    assert values["nucleus_mean_r"] == pytest.approx(windows[masks][:, 0].mean(), rel=1e-5)
    assert values["window_std_g"] == pytest.approx(windows[..., 1].std(), rel=1e-5)
    assert sum(values[f"lbp_window_{k}"] for k in range(10)) == pytest.approx(1, abs=1e-5)
    from skimage.color import rgb2hed

    assert values["nucleus_mean_h"] == pytest.approx(rgb2hed(windows[0])[..., 0][masks[0]].mean(), rel=1e-4)


def test_morphometrics_of_a_nucleus_between_pixels_are_finite():
    windows, masks = blobs(2)
    assert np.isfinite(morphometrics.features(windows, np.zeros_like(masks))).all()
