"""The segmenter: its maps and instances, what it may learn from, what it learns, and its pass over a slide."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import shapely
import torch
from skimage.draw import polygon
from support import painted

from shest.core.errors import InputError
from shest.io.store import image_scales
from shest.score import segmentation
from shest.systems import base
from shest.systems.nuclei import WINDOW_UM, instances, network, passes, targets, training
from shest.systems.nuclei.system import Nuclei
from shest.systems.sources import Slide, open_source
from shest.tissue.overlaps import overlaps_of_labels, quality

SHAPE = (480, 768)
SETTINGS = {"steps": 80, "checks": 4, "patch_px": 64, "batch": 8, "precision": "fp32", "learning_rate": 0.005}


def touching(n=6, side=24):
    """Label map of touching nuclei, ellipses that are cut by each other."""
    labels = np.zeros((n * 14 + 20, n * 18 + 20), np.int32)
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    for k, (row, column) in enumerate(np.ndindex(n, n), start=1):
        inside = ((y - 14 - 14 * row) / 8.5) ** 2 + ((x - 14 - 18 * column) / 10.5) ** 2 < 1
        labels[inside] = k
    return labels


def test_true_maps_give_the_nuclei_back():
    labels = touching()
    n = labels.max()
    found = instances.find_instances((labels > 0).astype(np.float32), instances.distances(labels, n))
    assert quality(overlaps_of_labels(labels, found))["pq"] > 0.9
    merged = instances.find_instances((labels > 0).astype(np.float32), np.zeros((2, *labels.shape), np.float32))
    assert merged.max() < n / 2


@pytest.mark.kit
@pytest.mark.slow
def test_true_maps_give_the_outlines_of_real_tissue_back(kit):
    table = pd.read_parquet(kit / "colon_train/nucleus_boundaries.parquet")
    xy = table[["vertex_x", "vertex_y"]].to_numpy() / 0.5
    xy -= xy.min(axis=0) - 5
    shape = tuple(np.ceil(xy.max(axis=0)[::-1]).astype(int) + 10)
    labels = np.zeros(shape, np.int32)
    for k, rows in enumerate(table.groupby("label_id", sort=False).indices.values(), start=1):
        labels[polygon(xy[rows, 1] - 0.5, xy[rows, 0] - 0.5, shape)] = k
    found = instances.find_instances((labels > 0).astype(np.float32), instances.distances(labels, labels.max()))
    assert quality(overlaps_of_labels(labels, found))["pq"] > 0.9


def test_distances_run_from_edge_to_edge():
    labels = np.zeros((9, 15), np.int32)
    labels[2:7, 3:12] = 1
    across, along = instances.distances(labels, 1)
    np.testing.assert_allclose(across[4, 3:12], np.linspace(-1, 1, 9), atol=1e-6)
    np.testing.assert_allclose(along[2:7, 7], np.linspace(-1, 1, 5), atol=1e-6)
    assert not across[labels == 0].any()


@pytest.mark.parametrize("view", range(8))
def test_distances_turn_with_the_patch(view):
    labels = touching(3)[:64, :64]
    patch = np.zeros((*labels.shape, targets.CHANNELS), np.uint8)
    patch[..., 0] = labels

    def with_distances(patch):
        found = instances.distances(np.ascontiguousarray(patch[..., 0]).astype(np.int32), labels.max())
        patch[..., targets.ACROSS : targets.ALONG + 1] = np.rint(found * 127 + 127).astype(np.uint8).transpose(1, 2, 0)
        return patch

    turned = targets.turn(with_distances(patch), view)
    np.testing.assert_allclose(turned.astype(int), with_distances(turned.copy()).astype(int), atol=1)


def test_unknown_pixels_teach_no_type_and_yet_a_nucleus():
    torch.manual_seed(0)
    maps = network.Maps(*(torch.randn(s, requires_grad=True) for s in ((1, 4, 6), (1, 2, 4, 6), (1, 3, 4, 6))), ())
    nucleus, types = torch.zeros(1, 4, 6, dtype=torch.long), torch.full((1, 4, 6), network.IGNORED)
    nucleus[0, :, :4] = 1
    types[0, :, :2] = 1  # columns 2 and 3 are nuclei of unknown type
    nucleus[0, :, 5] = network.IGNORED
    network.loss(maps, network.Truth(nucleus, torch.zeros(1, 2, 4, 6), types)).backward()
    of_type, of_nucleus, of_distance = (m.grad[0].abs() for m in (maps.types, maps.nucleus, maps.distance))
    assert (of_type[:, :, :2] > 0).all()
    assert not of_type[:, :, 2:].any()
    assert (of_nucleus[:, :5] > 0).all()
    assert not of_nucleus[:, 5].any()
    assert (of_distance[:, :, :4] > 0).all()
    assert not of_distance[:, :, 5].any()


def test_without_a_label_the_types_teach_nothing():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    network.type_loss(logits, torch.full((1, 4, 4), network.IGNORED)).backward()
    assert not logits.grad.any()


def test_patches_meet_nothing_of_others_and_hold_something_of_their_own():
    rng = np.random.default_rng(0)
    shape, side = (30, 40), 32
    corners = rng.uniform(-10, [320, 240], (60, 2))
    boxes = np.hstack([corners, corners + rng.uniform(5, 30, (60, 2))])
    own, others = boxes[:40], boxes[40:]
    found = {tuple(place) for place in targets.origins(own, others, shape, side)}
    middle = (own[:, :2] + own[:, 2:]) / 2
    for y in range(0, shape[0] * targets.STEP - side + 1, targets.STEP):
        for x in range(0, shape[1] * targets.STEP - side + 1, targets.STEP):
            meets = (
                (others[:, 0] < x + side) & (others[:, 2] > x) & (others[:, 1] < y + side) & (others[:, 3] > y)
            ).any()
            holds = ((middle >= (x, y)) & (middle < (x + side, y + side))).all(axis=1).any()
            if (y, x) in found:
                assert holds
                assert not meets
            elif holds:  # left out only where a square that the patch holds is touched
                wide = np.hstack([np.floor(others[:, :2] / 8) * 8, np.ceil(others[:, 2:] / 8) * 8])
                assert ((wide[:, 0] < x + side) & (wide[:, 2] > x) & (wide[:, 1] < y + side) & (wide[:, 3] > y)).any()
    assert 0 < len(found) < 500


def test_stains_change_by_what_is_asked():
    rgb = np.random.default_rng(0).integers(30, 250, (4, 5, 3)).astype(np.uint8)
    assert np.abs(targets.jitter(rgb, np.ones(3)).astype(int) - rgb).max() <= 1
    darker = targets.jitter(rgb, np.full(3, 1.3))
    np.testing.assert_allclose((darker + 1.0) / 256, ((rgb + 1.0) / 256) ** 1.3, atol=0.01)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A slide whose left is trained on, then a strip to validate; the right is held out."""
    folder = tmp_path_factory.mktemp("samples") / "painted"
    polygons, label = painted.nuclei(SHAPE)
    ids = np.array([f"n{k:03d}" for k in range(len(polygons))])
    x = shapely.get_coordinates(shapely.centroid(polygons))[:, 0]
    part = np.select([x < 384, x < 500], ["train", "val"], "test").astype("<U5")
    paths = painted.write(folder, painted.paint(SHAPE, polygons, label), ids, polygons)
    return paths, ids, polygons, part, label


@pytest.fixture(scope="module")
def data(slide):
    paths, ids, _, part, label = slide
    return painted.training_set(paths, ids, part, label)


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    system = Nuclei(SETTINGS)
    system.scratch = tmp_path_factory.mktemp("scratch")
    system.rows = system.fit(data, lambda steps: None)
    return system


def found_on(system, slide, block_px=1024):
    return system.segment(image_scales(slide[0][0]), (painted.MPP, painted.MPP), block_px, 1)[0]


def right_half(slide):
    return shapely.box(*(512, 8, SHAPE[1] - 8, SHAPE[0] - 8))


def typed(system, slide):
    """Share of the held-out nuclei that get their type."""
    paths, ids, _, part, label = slide
    source = open_source("slide", paths, [("painted", name) for name in ids[part == "test"]])
    predicted = system.predict(source.take(np.arange((part == "test").sum()))).type_logits[0].argmax(axis=1)
    return (predicted == label[part == "test"]).mean()


def test_no_patch_touches_a_nucleus_that_is_held_out(slide, data, tmp_path):
    """Read from the very pixels that a fit is given: a slide whose held-out windows are painted in one colour."""
    _, ids, polygons, part, label = slide
    mark, image = 77, np.full((3, *SHAPE), 200, np.uint8)
    half = WINDOW_UM / painted.MPP / 2
    for x, y in shapely.get_coordinates(shapely.centroid(polygons[part == "test"])):
        (top, left), (bottom, right) = (np.maximum(np.array((y, x)) + 0.5 + s * half, 0).astype(int) for s in (-1, 1))
        image[:, top:bottom, left:right] = mark
    marked = painted.write(tmp_path / "painted", image, ids, polygons)
    fields = Nuclei(SETTINGS)._fields(painted.training_set(marked, ids, part, label), tmp_path)
    for name in (targets.TRAIN, targets.VAL):
        places = targets.all_places(fields, name)
        assert len(places)
        patches = targets.read_patches(fields, places, SETTINGS["patch_px"])
        assert not (patches[..., :3] == mark).any(), name
    places = fields[0].origins
    apart = {name: np.zeros(SHAPE, bool) for name in places}
    centres = shapely.get_coordinates(shapely.centroid(polygons)).round().astype(int)
    for name, begins in places.items():
        for row, column in begins:
            apart[name][row : row + 64, column : column + 64] = True
        inside = apart[name][centres[:, 1], centres[:, 0]]
        assert set(part[inside]) == {name}


def test_where_parts_are_drawn_at_random_only_types_are_held_back(data, tmp_path):
    everywhere = dataclasses.replace(data, held_out=None)
    system = Nuclei(SETTINGS)
    (field,) = system._fields(everywhere, tmp_path)
    assert not len(field.origins[targets.VAL])
    types = np.asarray(field.pixels[..., targets.TYPE])[:, 600:]
    assert (types == targets.UNKNOWN).all()
    assert (np.asarray(field.pixels[..., targets.STATE])[:, 600:] == 1).any()


def test_what_looks_like_a_nucleus_without_an_outline_is_left_out(slide, tmp_path):
    _, ids, polygons, _, label = slide
    kept = np.arange(len(polygons)) % 4 > 0
    painted.write(tmp_path / "painted", painted.paint(SHAPE, polygons, label), ids[kept], polygons[kept])
    folder = tmp_path / "painted"
    where = Slide(folder / "sdata.zarr", folder / "outlines.parquet", folder / "registration.json")
    known = targets.outlined(where.outlines, {}, {})
    shares = {}
    for missed in (True, False):
        field = targets.make_field(where, known, Nuclei(SETTINGS | {"missed": missed}).settings, 16.0, tmp_path / "p")
        state = np.asarray(field.pixels[..., targets.STATE])
        inside = [state[int(y), int(x)] for x, y in shapely.get_coordinates(shapely.centroid(polygons[~kept]))]
        dark = label[~kept] == painted.SMALL
        shares[missed] = (np.array(inside)[dark] == targets.MISSED).mean()
        assert (state[8:-8, 8:-8] == 1).mean() > 0.1
    assert shares[True] > 0.9
    assert shares[False] == 0


def test_it_finds_and_types_nuclei_that_it_never_saw(fitted, slide):
    found = found_on(fitted, slide)
    scores = segmentation.score(slide[2], found, (painted.MPP, painted.MPP), right_half(slide))
    assert scores["dice"] > 0.85
    assert scores["detection"]["3"]["f1"] > 0.9
    assert typed(fitted, slide) > 0.9


def test_expression_follows_the_type(fitted, slide):
    paths, ids, _, part, label = slide
    test = part == "test"
    source = open_source("slide", paths, [("painted", name) for name in ids[test]])
    expected = fitted.predict(source.take(np.arange(test.sum()))).expected
    large = label[test] == painted.LARGE
    assert expected[~large, 1].mean() > 2 * expected[large, 1].mean()
    assert expected[large, 0].mean() > 2 * expected[~large, 0].mean()


@pytest.mark.slow
def test_shuffled_labels_leave_the_outlines_and_no_type(fitted, slide, data):
    shuffled = dataclasses.replace(data, label=np.random.default_rng(0).permutation(data.label))
    system = Nuclei(SETTINGS)
    system.fit(shuffled, lambda steps: None)
    assert abs(typed(system, slide) - 0.5) < 0.15
    dice = [
        segmentation.score(slide[2], found_on(s, slide), (painted.MPP, painted.MPP), right_half(slide))["dice"]
        for s in (system, fitted)
    ]
    assert abs(dice[0] - dice[1]) < 0.05


def test_what_is_saved_predicts_the_same(fitted, slide, tmp_path):
    info = {"kind": "nuclei", "settings": fitted.settings, "classes": ["small", "large"], "genes": ["a", "b", "c"]}
    paths = tmp_path / "model.safetensors", tmp_path / "model.json"
    base.save(*paths, base.Trained(fitted, info))
    units = open_source("slide", slide[0], [("painted", name) for name in slide[1][:20]]).take(np.arange(20))
    expected = fitted.predict(units)
    for loaded in (base.load(*paths), base.load(paths[0])):
        found = loaded.system.predict(units)
        np.testing.assert_array_equal(found.type_logits, expected.type_logits)
        np.testing.assert_array_equal(found.expected, expected.expected)
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no weights of a system"):
        base.load(tmp_path / "other.safetensors")


@pytest.mark.slow
def test_a_fit_that_was_cut_off_goes_on_where_it_stopped(data, fitted, tmp_path, monkeypatch):
    system = Nuclei(SETTINGS)
    system.scratch = tmp_path
    learn, done = training._Run.learn, []

    def cut(run, *batch):
        if len(done) == 50:
            raise KeyboardInterrupt
        done.append(run.step)
        return learn(run, *batch)

    monkeypatch.setattr(training._Run, "learn", cut)
    with pytest.raises(KeyboardInterrupt):
        system.fit(data, lambda steps: None)
    done.clear()
    rows = system.fit(data, lambda steps: None)
    assert done == list(range(40, 80))
    assert [row for row in rows if row["part"] == "network"] == [r for r in fitted.rows if r["part"] == "network"]
    for name, value in system.tensors().items():
        np.testing.assert_array_equal(value, fitted.tensors()[name], err_msg=name)


def test_blocks_change_no_nucleus(fitted, slide):
    whole, parts = found_on(fitted, slide), found_on(fitted, slide, 256)
    assert len(whole) == len(parts) > 400
    assert shapely.equals_exact(whole, parts, 1e-6).mean() > 0.99


def test_one_pass_pools_what_a_pass_over_outlines_pools(fitted, slide, tmp_path):
    scales = image_scales(slide[0][0])
    polygons, rows, _ = passes.sweep(fitted.looking(1), scales, (painted.MPP,) * 2, 1024, 0.5, pool=True)
    ids = np.array([f"{k:04d}" for k in range(len(polygons))])
    painted.write(tmp_path / "again", np.asarray(scales[0]), ids, polygons)
    folder = tmp_path / "again"
    where = Slide(folder / "sdata.zarr", folder / "outlines.parquet", folder / "registration.json")
    again = passes.features(fitted.looking(1), where, list(ids), 0.5)
    assert rows.shape == again.shape == (len(polygons), fitted._width())
    same = fitted.of_features(rows).type_logits[0].argmax(1) == fitted.of_features(again).type_logits[0].argmax(1)
    assert same.mean() > 0.95


def test_a_transformer_of_timm_takes_the_place_of_the_encoder():
    settings = Nuclei({"size": "vit", "backbone": "vit_tiny_patch16_224"}).settings
    module = network.build(settings, 4).eval()
    with torch.inference_mode():
        maps = module(torch.rand(1, 3, 64, 96))
    assert maps.nucleus.shape == (1, 64, 96)
    assert maps.types.shape == (1, 4, 64, 96)
    assert [level.shape[1:] for level in maps.levels] == [
        (w, 64 // 2**k, 96 // 2**k) for k, w in enumerate(network.WIDTHS)
    ]
    with pytest.raises(InputError, match="cannot be built"):
        network.build(settings | {"backbone": "no_such_network"}, 4)


def test_small_has_as_many_weights_as_is_said():
    assert sum(p.numel() for p in network.Small(5).parameters()) == pytest.approx(390_000, rel=0.02)


def test_no_place_for_patches_is_said(slide, data):
    with pytest.raises(InputError, match="lies on training cells"):
        Nuclei(SETTINGS | {"patch_px": 1024}).fit(data, lambda steps: None)


def test_a_nucleus_below_another_is_seen_by_its_centre(fitted, slide, tmp_path):
    """Drawn over wholly, it would have no pixel."""
    polygons = slide[2][[10, 10, 30]]
    polygons[0] = shapely.buffer(polygons[0].centroid, 2)
    ids = np.array(["a", "b", "c"])
    painted.write(tmp_path / "s", np.asarray(image_scales(slide[0][0])[0]), ids, polygons)
    where = Slide(*(tmp_path / "s" / name for name in ("sdata.zarr", "outlines.parquet", "registration.json")))
    found = passes.features(fitted.looking(1), where, list(ids), 0.5)
    assert np.abs(found[:, : network.WIDTHS[0]]).sum(axis=1).min() > 0
    assert len(passes.features(fitted.looking(1), where, [], 0.5)) == 0
