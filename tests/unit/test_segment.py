"""Nuclei found in an H&E image: its steps against plain transcriptions, seams, sizes of pixels, what is left out."""

import dataclasses
import importlib.util
from itertools import pairwise

import numpy as np
import pytest
import shapely
from scipy import ndimage
from skimage.draw import polygon as draw
from skimage.transform import resize

from shest.core.errors import InputError
from shest.score import segmentation
from shest.tissue.segment import by_block, classical, kernels, regions, stain, ties, torchscript

H, E = np.array([0.584, 0.758, 0.289]), np.array([0.227, 0.862, 0.452])
MPP = (0.5, 0.5)


def paint(haematoxylin, eosin):
    """Colours of stain densities, (h, w) each -> (3, h, w) uint8."""
    density = haematoxylin[..., None] * H + eosin[..., None] * E
    return np.moveaxis(np.clip(256 * np.exp(-density) - 1, 0, 255).round().astype(np.uint8), -1, 0)


def tissue(rng, height, width, spacing=24, radius=(5, 8)):
    """A slide at 0.5 µm full of nuclei, with noise; image (3, h, w) and the nuclei drawn, in px."""
    y, x = np.meshgrid(np.arange(spacing, height - 12, spacing), np.arange(spacing, width - 12, spacing), indexing="ij")
    places = np.stack([x.ravel(), y.ravel()], 1) + rng.uniform(-4, 4, (x.size, 2))
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    sides = rng.uniform(*radius, (len(places), 2, 1))
    rings = places[:, None] + np.stack([np.cos(angle) * sides[:, 0], np.sin(angle) * sides[:, 1]], -1)
    nuclei = np.zeros((height, width))
    for ring in rings:
        nuclei[draw(ring[:, 1], ring[:, 0], nuclei.shape)] = 1
    blurred = ndimage.gaussian_filter(nuclei, 1.0)
    texture = ndimage.gaussian_filter(rng.normal(size=(height, width)), 2) * 0.25
    image = paint(0.15 + 0.9 * blurred + texture.clip(-0.1, 0.1), 0.35 + 0.1 * rng.random((height, width)))
    return image, shapely.polygons(rings)


def half_sizes(image):
    return image.reshape(3, image.shape[1] // 2, 2, image.shape[2] // 2, 2).mean((2, 4)).round().astype(np.uint8)


@pytest.fixture(scope="module")
def slide():
    return tissue(np.random.default_rng(0), 1400, 1900)


@pytest.fixture(scope="module")
def found(slide):
    return classical.segment([slide[0]], MPP, 4096, 1)


def coordinates(polygons):
    return [shapely.get_coordinates(polygon).tolist() for polygon in polygons]


def test_painted_nuclei_are_found_with_their_outlines(slide, found):
    scores = segmentation.score(slide[1], found.polygons, MPP)
    assert len(slide[1]) > 4000
    assert scores["detection"]["3"]["f1"] > 0.97
    assert scores["dice"] > 0.85
    assert shapely.is_valid(found.polygons).all()


def test_the_stain_is_the_slides_own(found):
    assert (found.stain.source, found.stain.reason) == ("macenko", None)
    assert np.dot(found.stain.haematoxylin, H) / np.linalg.norm(H) > 0.99


@pytest.mark.parametrize(("block_px", "threads"), [(512, 2), (1024, 1), (2048, 2), (777, 1)])
def test_nuclei_depend_neither_on_blocks_nor_on_threads(slide, found, block_px, threads):
    again = classical.segment([slide[0]], MPP, block_px, threads)
    assert coordinates(again.polygons) == coordinates(found.polygons)


def test_a_job_that_was_killed_goes_on_where_it_was(slide, found, tmp_path, monkeypatch):
    """Blocks that are done are not looked for again, unless what they depend on has changed."""
    whole, calls, last = classical.outline, [], [3]

    def outline(*arguments):
        if len(calls) == last[0]:
            raise KeyboardInterrupt
        calls.append(arguments[2])
        return whole(*arguments)

    monkeypatch.setattr(classical, "outline", outline)
    keep = by_block.Kept(tmp_path / "blocks", "code")

    def segment(keep, image=slide[0]):
        return classical.segment([image], MPP, 512, 1, keep=keep).polygons

    with pytest.raises(KeyboardInterrupt):
        segment(keep)
    done, last[0] = list(calls), 1000
    assert len(done) == 3
    assert coordinates(segment(keep)) == coordinates(found.polygons)
    assert len(calls) == len(set(calls)) == 12  # 3 by 4 blocks, each once
    assert coordinates(segment(keep)) == coordinates(found.polygons)
    assert len(calls) == 12
    segment(by_block.Kept(keep.folder, "other code"))
    assert len(calls) == 24
    segment(by_block.Kept(keep.folder, "other code"), slide[0][:, :, ::-1])
    assert len(calls) == 36
    assert len(list(keep.folder.iterdir())) == 1  # of the last one alone


def test_blocks_do_not_matter_on_other_pixels_either(slide):
    image = resize(np.moveaxis(slide[0], 0, -1)[:700, :800], (1540, 1680), preserve_range=True).astype(np.uint8)
    image, mpp = np.moveaxis(image, -1, 0), (0.5 * 800 / 1680, 0.5 * 700 / 1540)
    whole, parts = (classical.segment([image], mpp, side, 1) for side in (4096, 512))
    assert whole.grid.factor != (1.0, 1.0)
    assert coordinates(whole.polygons) == coordinates(parts.polygons)


@pytest.mark.parametrize("mpp", [0.2, 0.25, 0.35, 0.5, 0.75, 1.0])
def test_nuclei_are_found_at_every_size_of_pixels(slide, mpp):
    image, nuclei = slide[0][:, :600, :600], slide[1][(shapely.bounds(slide[1])[:, 2:] < 590).all(axis=1)]
    side = round(600 * 0.5 / mpp)
    image = resize(np.moveaxis(image, 0, -1), (side, side), anti_aliasing=mpp > 0.5, preserve_range=True)
    own = 600 * 0.5 / side
    polygons = classical.segment([np.moveaxis(image.round().astype(np.uint8), -1, 0)], (own, own), 2048, 1).polygons
    scaled = shapely.transform(nuclei, lambda xy: (xy + 0.5) * 0.5 / own - 0.5)
    scores = segmentation.score(scaled, polygons, (own, own), shapely.box(0, 0, 570 * 0.5 / own, 570 * 0.5 / own))
    assert scores["detection"]["3"]["f1"] > 0.95
    assert scores["dice"] > (0.8 if mpp < 0.8 else 0.7)


def test_outlines_lie_where_the_nuclei_do_to_a_part_of_a_pixel(slide, found):
    i, j = segmentation.pair(*(shapely.get_coordinates(shapely.centroid(p)) for p in (slide[1], found.polygons)), 6)
    gap = shapely.get_coordinates(shapely.centroid(found.polygons[j])) - shapely.get_coordinates(
        shapely.centroid(slide[1][i])
    )
    assert np.abs(gap.mean(axis=0)).max() < 0.05


def test_glass_pen_and_folds_hold_no_nuclei(slide):
    image, nuclei = slide[0].copy(), slide[1]
    image[:, :, :300] = 244
    image[:, 200:500, 900:1200] = np.array([40, 60, 170], np.uint8)[:, None, None]
    image[:, 200:500, 1300:1500] = np.array([20, 25, 30], np.uint8)[:, None, None]
    fold = image[:, 900:1300, 700:860].astype(float)
    image[:, 900:1300, 700:860] = (fold / 255) ** 3 * 255
    found = classical.segment([image], MPP, 2048, 1)
    areas = found.regions.areas()
    assert list(areas) == ["tissue", "glass", "pen", "fold"]
    assert areas["glass"] == pytest.approx(1400 * 300 * 0.25e-6, rel=0.1)
    assert areas["pen"] == pytest.approx((300 * 300 + 300 * 200) * 0.25e-6, rel=0.4)
    assert areas["fold"] == pytest.approx(400 * 160 * 0.25e-6, rel=0.3)
    centres = shapely.centroid(found.polygons)
    for box in ((0, 0, 290, 1400), (900, 200, 1200, 500), (1300, 200, 1500, 500), (730, 930, 820, 1270)):
        assert not shapely.within(centres, shapely.box(*box)).any(), box
    elsewhere = shapely.box(300, 520, 690, 1400)
    assert segmentation.score(nuclei, found.polygons, MPP, elsewhere)["detection"]["3"]["recall"] > 0.95


def test_an_empty_slide_has_no_nuclei():
    found = classical.segment([np.full((3, 600, 700), 243, np.uint8)], MPP, 512, 1)
    assert len(found.polygons) == 0
    assert found.stain.source == "fixed"
    assert "only 0 stained pixels" in found.stain.reason
    assert found.regions.areas()["tissue"] == 0


def test_a_pyramid_gives_the_same_tissue(slide):
    image = slide[0].copy()
    image[:, :, 1000:] = 243
    whole = regions.find_regions([image], MPP)
    levels = regions.find_regions([image, half_sizes(image), half_sizes(half_sizes(image))], MPP)
    assert whole.factor == levels.factor == (8, 8)
    assert (whole.kinds == levels.kinds).mean() > 0.99


# the steps, against plain transcriptions


def test_resampling_is_the_mean_over_each_working_pixels_area():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 11)).astype(np.uint8)
    grid = by_block.Grid.of((9, 11), (0.25, 0.2), 0.5)
    fine = np.kron(pixels, np.ones((1, 10, 10)))  # tenths of a pixel
    rows, columns = grid.shape
    out = grid.read(pixels, (0, rows), (0, columns))
    for row in range(rows):
        for column in range(columns):
            part = fine[:, row * 25 : (row + 1) * 25, column * 20 : (column + 1) * 20]
            assert np.abs(out[row, column] - part.mean(axis=(1, 2))).max() <= 0.51
    assert np.array_equal(grid.read(pixels, (1, 3), (2, 4)), out[1:3, 2:4])


def test_blurring_is_that_of_scipy():
    image = np.random.default_rng(1).random((30, 41)).astype(np.float32)
    kernel, out = classical.gaussian(2.2), np.empty((30, 41), np.float32)
    kernels.blur(image, kernel, out)
    expected = ndimage.correlate1d(ndimage.correlate1d(image, kernel, 0, mode="nearest"), kernel, 1, mode="nearest")
    assert np.allclose(out, expected, atol=1e-5)


def plain_flood(image, seeds, least, slope, most):
    """Costs by relaxing every pixel until nothing changes; the first seed of equal ones."""
    height, width = image.shape
    best = {(int(y), int(x)): (0, k + 1) for k, (y, x) in enumerate(seeds)}
    changed = True
    while changed:
        changed = False
        for (y, x), (cost, label) in list(best.items()):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    v, u = y + dy, x + dx
                    if (dy, dx) == (0, 0) or not (0 <= v < height and 0 <= u < width) or not image[v, u] > least:
                        continue
                    step = (14 if dy and dx else 10) + int(slope * abs(image[y, x] - image[v, u]))
                    entry = (cost + step, label)
                    if entry[0] <= most and entry < best.get((v, u), (2**30, 0)):
                        best[v, u] = entry
                        changed = True
    labels = np.zeros(image.shape, np.int32)
    for place, (_, label) in best.items():
        labels[place] = label
    return labels


@pytest.mark.parametrize("seed", range(4))
def test_the_flood_takes_each_pixel_to_its_cheapest_seed(seed):
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.random((25, 30)), 1).astype(np.float32)
    seeds = np.unique(rng.integers(0, 25, (7, 2)), axis=0).astype(np.int32)
    labels = kernels.flood(image, seeds, 0.45, 60.0, 90)
    assert np.array_equal(labels, plain_flood(image, seeds, np.float32(0.45), 60.0, 90))
    assert (labels > 0).sum() > 100


def test_seeds_are_the_largest_of_their_surroundings_the_first_of_equal_ones():
    response = np.zeros((20, 20), np.float32)
    response[5, 5], response[5, 7], response[12, 3], response[12, 4], response[18, 18] = 3, 2, 1, 1, 4
    ones, nothing = np.ones_like(response), np.zeros(4, np.int64)
    assert kernels.find_seeds(response, ones, 3.0, 0.5, 0.5, nothing).tolist() == [[5, 5], [12, 3], [18, 18]]
    assert kernels.find_seeds(response, ones, 1.5, 0.5, 0.5, nothing).tolist()[1] == [5, 7]
    assert kernels.find_seeds(response, ones, 3.0, 0.5, 0.5, np.array([6, 3, 0, 0])).tolist() == [[12, 3]]


def test_of_blobs_in_each_others_reach_the_best_is_kept_then_the_next():
    rng = np.random.default_rng(0)
    places = np.unique(rng.integers(0, 150, (300, 2)), axis=0).astype(np.int32)
    score, reach = rng.random(len(places)).astype(np.float32), rng.choice([4.0, 9.0], len(places))
    kept = []
    for p in np.argsort(-score):
        away = np.linalg.norm(places[kept] - places[p], axis=1) if kept else np.empty(0)
        if (away >= np.maximum(reach[kept], reach[p])).all():
            kept.append(p)
    chosen = np.flatnonzero(kernels.choose_seeds(places, score, reach))
    assert set(chosen) <= set(kept)
    assert len(chosen) > 0.97 * len(kept)


def outlines_of(labels, smooth=1, least=0.5, most=1e9):
    n = int(labels.max())
    points, start = np.empty((4 * labels.size, 2)), np.zeros(n + 2, np.int64)
    used = kernels.outline_nuclei(
        labels.astype(np.int32),
        np.ones(labels.shape, np.float32),
        np.zeros(n + 1, np.float32),
        kernels.boxes(labels.astype(np.int32), n),
        smooth,
        least,
        most,
        points,
        start,
    )
    return [points[a:b] for a, b in pairwise(start[1:])], used


def test_an_outline_goes_round_the_largest_part_and_fills_holes():
    labels = np.zeros((40, 40), int)
    y, x = np.mgrid[:40, :40]
    labels[(y - 20) ** 2 + (x - 15) ** 2 <= 100] = 1
    labels[18:22, 13:17] = 0
    labels[2:4, 35:38] = 1
    labels[6, 6] = 2
    (ring, dot), _ = outlines_of(labels, least=2)
    shape = shapely.Polygon(ring)
    assert shape.is_valid
    assert shape.area == pytest.approx(317, rel=0.02)
    assert np.allclose(shape.centroid.coords[0], (15.5, 20.5), atol=0.05)
    assert len(dot) == 0
    assert len(outlines_of(labels, most=200)[0][0]) == 0


def test_a_majority_takes_threads_off_a_nucleus():
    labels = np.zeros((40, 40), int)
    labels[10:24, 10:24] = 1
    labels[16, 24:34] = 1
    (ring,), _ = outlines_of(labels, smooth=5)
    assert ring[:, 0].max() < 26


def test_stains_that_cannot_be_told_apart_are_those_that_are_fixed():
    rng = np.random.default_rng(0)
    one = np.moveaxis(paint(rng.uniform(0.3, 1.5, (200, 200)), np.zeros((200, 200))), 0, -1).reshape(-1, 3)
    estimate = stain.estimate(one)
    assert (estimate.source, estimate.reason) == ("fixed", "the two stains cannot be told apart by colour")


def test_density_is_one_where_haematoxylin_is_full():
    rng = np.random.default_rng(0)
    amount = rng.uniform(0.0, 1.5, (2, 300, 300))
    rgb = np.moveaxis(paint(*amount), 0, -1)
    estimate = stain.estimate(rgb.reshape(-1, 3))
    for vector, painted in ((estimate.haematoxylin, H), (estimate.eosin, E)):
        assert np.dot(vector, painted) / np.linalg.norm(painted) > 0.99
    out = np.empty((300, 300), np.float32)
    kernels.density(rgb, estimate.table(), out)
    dark = stain.stained(rgb)
    assert np.percentile(out[dark], 99) == pytest.approx(1, abs=0.02)
    assert np.corrcoef(out[dark], amount[0][dark])[0, 1] > 0.98


# cells of a bundle


def disc(x, y, radius=8):
    return shapely.Point(x, y).buffer(radius)


def test_cells_take_the_nucleus_that_holds_their_centroid_or_their_mutual_nearest():
    nuclei = [disc(50, 50), disc(100, 50), disc(103, 50), disc(200, 50), disc(300, 50)]
    polygons = [disc(52, 50), disc(100.5, 50), disc(210, 50, 6), disc(330, 50), disc(400, 50)]
    partner, how = ties.tie(np.array(nuclei), np.array(polygons), (0.25, 0.25))
    assert partner.tolist() == [0, 1, -1, 2, -1]
    assert [ties.TIES[k] for k in how] == ["inside", "inside", "shared", "near", "none"]
    assert ties.counts(how) == {"inside": 2, "near": 1, "shared": 1, "none": 1}
    nobody = ties.tie(np.array(nuclei), np.empty(0, object), (0.25, 0.25))
    assert nobody[0].tolist() == [-1] * 5


# a network in a file


def script(path, body):
    """Save a network that does some arithmetic on RGB from 0 to 1."""
    import torch

    file = path.with_suffix(".py")  # TorchScript reads the source of what it compiles
    file.write_text(f"import torch\n\n\nclass Network(torch.nn.Module):\n  def forward(self, x):\n    {body}\n")
    loaded = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    torch.jit.script(module.Network()).save(str(path))
    return path


def network(path, **change):
    keys = {"mpp": 0.5, "input_range": 1, "output": "labels", "channel": 0, "postprocess": "centres", "sha256": None}
    return torchscript.load({"weights": str(path)} | keys | change)


DARK = "torch.sigmoid(60 * (0.62 - torch.nn.functional.avg_pool2d(x, 3, 1, 1)[:, 0:1]))"


def test_a_network_of_logits_finds_nuclei_whatever_the_blocks(slide, tmp_path):
    both = "torch.cat([torch.logit(p, 1e-4), torch.logit(c, 1e-4)], 1)"
    body = f"p = {DARK}\n    c = torch.nn.functional.avg_pool2d(p, 9, 1, 4)\n    return {both}"
    loaded = network(script(tmp_path / "n.pt", body), output="logits")
    image, nuclei = slide[0][:, :700, :900], slide[1]
    whole, _ = torchscript.segment(loaded, [image], MPP, 2048, 1)
    parts, _ = torchscript.segment(loaded, [image], MPP, 256, 2)
    assert len(whole) == len(parts)
    assert np.allclose(shapely.area(whole), shapely.area(parts))
    inner = shapely.box(0, 0, 880, 680)
    assert segmentation.score(nuclei, whole, MPP, inner)["detection"]["3"]["f1"] > 0.95
    assert loaded.facts()["output"] == "logits"


def test_a_network_of_labels_is_outlined_as_it_stands(slide, tmp_path):
    body = (
        "h = x.shape[2]\n    w = x.shape[3]\n"
        "    y = torch.div(torch.arange(h), 16, rounding_mode='floor')\n"
        "    z = torch.div(torch.arange(w), 16, rounding_mode='floor')\n"
        "    rows = torch.remainder(torch.arange(h), 16) < 8\n"
        "    own = rows.unsqueeze(1) * (torch.remainder(torch.arange(w), 16) < 10)\n"
        "    return ((y.unsqueeze(1) * 1000 + z + 1) * own).unsqueeze(0).unsqueeze(0)"
    )
    polygons, _ = torchscript.segment(network(script(tmp_path / "l.pt", body)), [slide[0][:, :320, :480]], MPP, 128, 1)
    assert len(polygons) == 20 * 30
    assert np.allclose(shapely.bounds(polygons[0]), (-0.5, -0.5, 9.5, 7.5), atol=0.3)


def test_a_network_that_does_not_keep_the_contract_is_refused(slide, tmp_path):
    image = [slide[0][:, :300, :300]]
    path = script(tmp_path / "half.pt", "return torch.nn.functional.avg_pool2d(x, 2)")
    with pytest.raises(InputError, match="one tensor as large as the image"):
        torchscript.segment(network(path), image, MPP, 512, 1)
    path = script(tmp_path / "one.pt", "return x[:, 0:1]")
    with pytest.raises(InputError, match=r"segment.channel is 1"):
        torchscript.segment(network(path, channel=1), image, MPP, 512, 1)
    with pytest.raises(InputError, match="logits of shape"):
        torchscript.segment(network(path, output="logits"), image, MPP, 512, 1)
    with pytest.raises(InputError, match="SHA-256"):
        network(path, sha256="0" * 64)
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(InputError, match="no TorchScript"):
        network(tmp_path / "text.pt")


def test_settings_are_lengths_not_pixels():
    plans = [classical._Plan.of(dataclasses.replace(classical.Settings()), (m, m)) for m in (0.5, 1.0)]
    assert plans[0].halo / plans[1].halo == pytest.approx(2, rel=0.15)
