"""Patches: slices of the image at full size, resampled by µm, mirrored at the edge with a word, whatever the blocks."""

import numpy as np
import pytest

from shest.core import files
from shest.systems import base
from shest.tiles.patch import Patches, PatchSize, mirrored, write_patches

MPP = (0.25, 0.25)


def field(height, width, mpp):
    """A smooth colour field of a place in µm, (3, height, width) uint8."""
    y, x = np.mgrid[:height, :width] * mpp + mpp / 2
    wave = np.stack([np.sin(x / 9 + k) + np.cos(y / 7 - k) + np.sin((x + y) / 11 * (k + 1)) for k in range(3)])
    return np.clip(150 + 30 * wave, 0, 255).astype(np.uint8)


def units(count, height, width, seed=0):
    """Ids and places, the first of them near a corner."""
    centres = np.random.default_rng(seed).uniform((0, 0), (width - 1, height - 1), (count, 2))
    centres[0] = 3, 5
    return np.array([f"u{k:03}" for k in range(count)]), centres


def written(folder, image, ids, centres, size, mpp=MPP, block_px=128, threads=1):
    """Patches of one sample, and their index."""
    place = folder / "samples" / "s" / "patches" / size.name
    index = write_patches(place, image, ids, centres, size, mpp, block_px, threads)
    files.write_json(place / "patches.json", index)
    return Patches([place / "patches.json"], [("s", unit) for unit in ids]), index


def test_patches_at_full_size_are_slices_of_the_image_and_colours_stay_in_order(tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (3, 300, 420), np.uint8)
    ids, centres = units(60, 300, 420)
    source, index = written(tmp_path, image, ids, centres, PatchSize(8.0, 32))
    patches, inside = source.take(np.arange(60))[:], 0
    for k, (x, y) in enumerate(centres):
        left, top = int(np.floor(x - 15)), int(np.floor(y - 15))
        if left >= 0 and top >= 0 and left + 32 <= 420 and top + 32 <= 300:
            assert (patches[k] == np.moveaxis(image[:, top : top + 32, left : left + 32], 0, -1)).all()
            assert ids[k] not in index["padded"]
            inside += 1
        else:
            assert ids[k] in index["padded"]
    assert 0 < inside < 60
    assert "edge" in index["padded_reason"]
    assert sum(len(shard["units"]) for shard in index["shards"]) == 60
    assert len(index["shards"]) > 4
    some = np.array([7, 3, 7, 59])
    assert (source.take(some)[:] == patches[some]).all()


def test_the_edge_is_mirrored_as_numpy_mirrors_it(tmp_path):
    image = np.random.default_rng(2).integers(0, 256, (3, 40, 50), np.uint8)
    source, index = written(tmp_path, image, np.array(["corner"]), np.array([[1.0, 38.0]]), PatchSize(8.0, 32))
    whole = np.pad(np.moveaxis(image, 0, -1), ((32, 32), (32, 32), (0, 0)), "reflect")
    assert (source.take(np.array([0]))[:][0] == whole[38 - 15 + 32 : 38 + 17 + 32, 1 - 15 + 32 : 1 + 17 + 32]).all()
    assert index["padded"] == ["corner"]
    assert (mirrored(np.array([-3]), 12, 4) == [[3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]]).all(), "wider than the image"


def test_slides_of_other_pixel_sizes_give_the_same_patches(tmp_path):
    centres = np.array([[60.0, 45.0], [80.0, 70.0]])  # µm
    found = []
    for mpp in (0.25, 0.5):
        image = field(round(120 / mpp), round(150 / mpp), mpp)
        size, folder = PatchSize(32.0, 64), tmp_path / str(mpp)
        source, index = written(folder, image, np.array(["a", "b"]), centres / mpp - 0.5, size, (mpp, mpp))
        assert index["window"] == [round(32 / mpp)] * 2
        found.append(source.take(np.arange(2))[:].astype(float))
    assert found[0].shape == (2, 64, 64, 3)
    assert np.abs(found[0] - found[1]).mean() < 2
    assert np.abs(found[0][0] - found[0][1]).mean() > 15, "another place looks otherwise"


def test_blocks_and_threads_change_no_patch_and_what_has_no_place_goes(tmp_path):
    image, (ids, centres) = field(300, 420, 0.25), units(80, 300, 420)
    size = PatchSize(20.0, 48)
    one, index = written(tmp_path / "one", image, ids, centres, size)
    other, _ = written(tmp_path / "other", image, ids, centres, size, block_px=70, threads=4)
    assert (one.take(np.arange(80))[:] == other.take(np.arange(80))[:]).all()
    _, same = written(tmp_path / "one", image, ids, centres, size, threads=3)
    assert same == index
    _, fewer = written(tmp_path / "one", image, ids[:1], centres[:1], size)
    folder = tmp_path / "one/samples/s/patches" / size.name
    assert [path.name for path in folder.glob("*.npy")] == [fewer["shards"][0]["file"]]


def test_a_unit_without_a_patch_is_said(tmp_path):
    source, _ = written(tmp_path, field(60, 60, 0.25), np.array(["a"]), np.array([[30.0, 30.0]]), PatchSize(8.0, 32))
    path = tmp_path / "samples/s/patches/8um_32px/patches.json"
    other = Patches([path], [("s", "a"), ("s", "b")])
    assert (other.take(np.array([0]))[:] == source.take(np.array([0]))[:]).all()
    with pytest.raises(KeyError, match="1 of these units have no patch"):
        other.take(np.array([0, 1]))


@pytest.mark.parametrize(("side", "px", "name"), [(68, 224, "68um_224px"), (16.5, 64, "16.5um_64px")])
def test_a_size_is_its_name(side, px, name):
    assert PatchSize.of({"side_um": side, "px": px}).name == name
    assert PatchSize.parse(name) == (side, px)


def test_the_gap_is_the_largest_window_of_the_systems_with_their_settings(monkeypatch):
    spec = base.SystemSpec("nowhere:X", reads="patches", settings=base.patch_settings(68, 224))
    monkeypatch.setattr(base, "kinds", lambda: {"patchy": spec, "mean": base.SystemSpec("m:M", window_um=0.0)})
    entry = {"kind": "patchy", "settings": base.settings_of({"kind": "patchy"}, {})}
    assert entry["settings"] == {"side_um": 68, "px": 224}
    wide = {"kind": "patchy", "settings": {"side_um": 112.0, "px": 224}}
    assert base.largest_window([entry, {"kind": "mean", "settings": {}}], 16) == 68
    assert base.largest_window([entry, wide], 16) == 112
    assert base.largest_window([{"kind": "mean", "settings": {}}], 16) == 0
