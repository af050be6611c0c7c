"""Tiles from the nuclei of a slide to the shards on disk: in µm, by block, compact, whole or not there."""

import hashlib
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import shapely
from support import oracle

from shest.core import files
from shest.draw import contact_sheet
from shest.io import store
from shest.io.outlines import read_outlines, write_outlines
from shest.io.registration import Registration
from shest.tiles import quadruple, shards
from shest.tissue import cells

LIMITS = {"min_um": 2, "max_um": 16, "max_mean_grey": 230}
KIT = Path(os.environ.get("SHEST_KIT", Path(__file__).parents[2] / ".." / "shared" / "data" / "kit"))
PIXEL_UM = 0.2125  # of the Xenium morphology image


def every_shard(folder):
    for entry in shards.read_index(folder / "tiles.json")["shards"]:
        yield (entry, *shards.read_shard(folder / entry["file"]))


def stain(x, y):
    """A smooth H&E-like colour field, uint8 (3, ...), of a place in µm."""
    wave = np.stack([np.sin(x / 5 + k) + np.cos(y / 4 - k) + np.sin((x + y) / 7 * (k + 1)) for k in range(3)])
    return np.clip(150 + 30 * wave, 0, 255).astype(np.uint8)


def slide(height, width, mpp):
    """The field as a slide of so many px."""
    y, x = np.mgrid[:height, :width]
    return stain((x + 0.5) * mpp, (y + 0.5) * mpp)


def nuclei_um(count, width_um, height_um, seed=0):
    """Irregular convex and concave nuclei, in µm of the slide's frame, cornered at the first pixel's corner."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 24))
        radius = rng.uniform(2, 5) * rng.uniform(0.7, 1, 24)
        points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]
        found.append(shapely.Polygon(points + rng.uniform(12, (width_um - 12, height_um - 12))))
    return np.array([f"cell{n:05}" for n in range(count)]), np.array(found)


def in_pixels(outlines, mpp):
    """From µm off the slide's corner to H&E px with pixel centres at integers."""
    return shapely.transform(outlines, lambda xy: xy / mpp - 0.5)


def cut_tiles(folder, image, ids, outlines, mpp, block_px=256, threads=1):
    """cells and tiles of a slide, outlines in H&E px; returns the table and the index."""
    ids, polygons = cells.nucleus_of_each_cell(ids, outlines)
    grey = cells.grey_by_block(image, block_px, threads)
    table = cells.cell_table(ids, ids, polygons, image.shape[1:], mpp, LIMITS, 16, grey)
    kept = table["kept"].to_numpy()
    write_outlines(folder / "outlines.parquet", ids[kept], polygons[kept])
    names, points, start = read_outlines(folder / "outlines.parquet")
    window = quadruple.window_shape(16, *mpp)
    centres = table.loc[kept, ["x", "y"]].to_numpy()
    written = shards.write_shards(folder / "tiles", image, names, centres, points, start, window, block_px, threads)
    index = shards.index(window, 16, mpp, written)
    files.write_json(folder / "tiles" / "tiles.json", index)
    return table, index


def all_tiles(folder):
    """Every cell's assembled tile."""
    found = {}
    for entry, windows, masks in every_shard(folder / "tiles"):
        found |= dict(zip(entry["cells"], quadruple.assemble(windows, masks), strict=True))
    return found


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def field():
    """A slide of 900 × 1100 px at 0.25 µm with 300 nuclei, in px."""
    ids, outlines = nuclei_um(300, 275, 225)
    return slide(900, 1100, 0.25), ids, in_pixels(outlines, 0.25)


def test_shards_hold_what_the_contract_says(tmp_path, field):
    table, index = cut_tiles(tmp_path, *field, (0.25, 0.25))
    kept = table.loc[table["kept"], "cell_id"].tolist()
    assert index == files.read_json(tmp_path / "tiles" / "tiles.json")
    assert (index["window"], index["window_um"], index["mpp"]) == ([64, 64], 16, [0.25, 0.25])
    assert sorted(c for entry in index["shards"] for c in entry["cells"]) == kept
    assert len(index["shards"]) > 10
    for entry in index["shards"]:
        path = tmp_path / "tiles" / entry["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        assert entry["cells"] == sorted(entry["cells"])
        tensors = safetensors.numpy.load_file(path)  # by the format's own reader
        assert {k: (v.dtype, v.shape[1:]) for k, v in tensors.items()} == {
            "windows": (np.uint8, (64, 64, 3)),
            "masks": (np.uint8, (1568,)),
        }
        assert len(tensors["windows"]) == len(tensors["masks"]) == len(entry["cells"])
    names = [entry["file"] for entry in index["shards"]]
    assert names == sorted(names)


def test_at_most_15_kb_a_cell(tmp_path, field):
    table, _ = cut_tiles(tmp_path, *field, (0.25, 0.25))
    size = sum(path.stat().st_size for path in (tmp_path / "tiles").iterdir())
    assert size / table["kept"].sum() <= 15_000


def test_every_tile_equals_the_oracle(tmp_path, field):
    image, ids, outlines = field
    cut_tiles(tmp_path, image, ids, outlines, (0.25, 0.25))
    shapes = dict(zip(ids, outlines, strict=True))
    found = all_tiles(tmp_path)
    assert len(found) > 250
    for cell, tile in list(found.items())[::5]:
        np.testing.assert_array_equal(tile, oracle_tile(image, shapes[cell], 64, 64))


def oracle_tile(image, outline, height, width):
    """Straight from the definition: centroid, origin, crop, tile."""
    centre = outline.centroid
    x, y = int(np.floor(centre.x - width / 2 + 1)), int(np.floor(centre.y - height / 2 + 1))
    window = np.moveaxis(image[:, y : y + height, x : x + width], 0, -1)
    return oracle.tile(window, shapely.get_coordinates(outline.exterior), (x, y))


def affines():
    """H&E px to morphology px: as it is, a quarter turn, a mirror, and a slanted one of another scale."""
    scale = 0.25 / PIXEL_UM
    angle = np.radians(17)
    slanted = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    linear = [np.eye(2) * scale, np.array([[0, scale], [-scale, 0]]), np.diag([-scale, scale]), slanted]
    shift = [(0, 0), (40, 7000), (5000, 3), (2000, -100)]
    return [np.block([[part, np.array(by)[:, None]], [0, 0, 1]]) for part, by in zip(linear, shift, strict=True)]


def test_the_same_tissue_under_four_affines_gives_the_same_tiles(tmp_path, field):
    image, ids, outlines = field
    seen = []
    for n, matrix in enumerate(affines()):
        found = Registration.of_alignment(matrix, PIXEL_UM)
        in_um = store.transform_outlines(outlines, found.he_to_um)  # as the bundle would give them
        back = store.transform_outlines(in_um, found.um_to_he)
        (tmp_path / str(n)).mkdir()
        cut_tiles(tmp_path / str(n), image, ids, back, found.mpp)
        seen.append(contents(tmp_path / str(n) / "tiles"))
        del seen[-1]["tiles.json"]  # its mpp carries the affine's last digits
    assert len(seen[0]) > 10
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]
    assert seen[3] == seen[0]


def test_another_magnification_shows_the_same_field(tmp_path):
    ids, outlines = nuclei_um(60, 275, 225, seed=4)
    made = {}
    for mpp, shape in ((0.25, (900, 1100)), (0.5, (450, 550)), (0.2, (1125, 1375))):
        folder = tmp_path / str(mpp)
        folder.mkdir()
        table, index = cut_tiles(folder, slide(*shape, mpp), ids, in_pixels(outlines, mpp), (mpp, mpp))
        made[mpp] = (table, index, all_tiles(folder))
    table, _, reference = made[0.25]
    assert [made[m][1]["window"] for m in (0.25, 0.5, 0.2)] == [[64, 64], [32, 32], [80, 80]]
    for mpp in (0.5, 0.2):
        other, _, found = made[mpp]
        np.testing.assert_allclose(other["width_um"], table["width_um"], rtol=1e-9)
        both = sorted(set(found) & set(reference))
        assert len(both) > 50
        ours, theirs = (np.stack([t[c] for c in both])[:, :112].astype(float) for t in (found, reference))
        # the window's first pixel is a whole one: fields differ by up to half a pixel of the coarser slide
        assert np.abs(ours - theirs)[:, :, :112].mean() < 4
        inside = (ours[:, :, 112:].max(-1) > 0, theirs[:, :, 112:].max(-1) > 0)
        assert (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum() > 0.85
        np.testing.assert_allclose(inside[0].sum((1, 2)), inside[1].sum((1, 2)), rtol=0.04)


def test_threads_change_no_byte(tmp_path, field):
    for threads in (1, 3):
        (tmp_path / str(threads)).mkdir()
        cut_tiles(tmp_path / str(threads), *field, (0.25, 0.25), threads=threads)
    assert contents(tmp_path / "1" / "tiles") == contents(tmp_path / "3" / "tiles")


def test_one_more_cell_changes_one_shard_and_a_second_run_writes_none(tmp_path, field):
    image, ids, outlines = field
    cut_tiles(tmp_path, image, ids, outlines, (0.25, 0.25))
    before, stamps = contents(tmp_path / "tiles"), shard_stamps(tmp_path / "tiles")
    cut_tiles(tmp_path, image, ids, outlines, (0.25, 0.25))
    assert shard_stamps(tmp_path / "tiles") == stamps
    more = np.append(outlines, shapely.Point(500.3, 400.2).buffer(14))
    cut_tiles(tmp_path, image, np.append(ids, "cell00100a"), more, (0.25, 0.25))
    after = contents(tmp_path / "tiles")
    assert after.keys() == before.keys()
    assert sorted(name for name in after if after[name] != before[name]) == ["r0001c0001.safetensors", "tiles.json"]


def shard_stamps(folder):
    return {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.glob("*.safetensors")}


def test_shards_without_a_place_are_removed(tmp_path, field):
    (tmp_path / "tiles").mkdir()
    for name in ("r0099c0000.safetensors", ".r0000c0000.123.part.safetensors"):
        (tmp_path / "tiles" / name).write_bytes(b"of an earlier run")
    _, index = cut_tiles(tmp_path, *field, (0.25, 0.25))
    assert set(contents(tmp_path / "tiles")) == {"tiles.json", *(entry["file"] for entry in index["shards"])}


def test_a_damaged_shard_is_written_again(tmp_path, field):
    cut_tiles(tmp_path, *field, (0.25, 0.25))
    before = contents(tmp_path / "tiles")
    path = sorted((tmp_path / "tiles").glob("*.safetensors"))[3]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    cut_tiles(tmp_path, *field, (0.25, 0.25))
    assert contents(tmp_path / "tiles") == before


def start(folder, *slide_and_nuclei):
    """Make small blocks of tiles in a process of its own."""
    folder.mkdir(exist_ok=True)
    more = {"block_px": 64, "threads": 2}
    child = multiprocessing.get_context("fork").Process(target=cut_tiles, args=(folder, *slide_and_nuclei), kwargs=more)
    child.start()
    return child


def finish(child):
    child.join()
    return child.exitcode


def test_killed_at_random_and_continued_is_the_same_to_the_byte(tmp_path, field):
    image, *_ = field
    ids, outlines = nuclei_um(1500, 275, 225)
    given = image, ids, in_pixels(outlines, 0.25), (0.25, 0.25)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert finish(start(whole, *given)) == 0
    expected = contents(whole / "tiles")
    rng = np.random.default_rng()
    target = 0
    for _ in range(4):
        target += int(rng.integers(1, len(expected) // 5))
        child = start(cut, *given)
        while child.is_alive() and len(list((cut / "tiles").glob("r*.safetensors"))) < target:
            time.sleep(rng.uniform(0, 0.001))
        child.kill()
        assert finish(child) == -signal.SIGKILL, "the child was done before it was killed"
        assert not (cut / "tiles" / "tiles.json").exists()
        stamps = {n: stamp for n, stamp in shard_stamps(cut / "tiles").items() if not n.startswith(".")}
        assert len(stamps) >= target
        for name in stamps:
            assert (cut / "tiles" / name).read_bytes() == expected[name]
    assert finish(start(cut, *given)) == 0
    assert contents(cut / "tiles") == expected
    assert stamps.items() <= shard_stamps(cut / "tiles").items(), "whole shards were written again"


def test_only_uint8_goes_into_a_shard():
    with pytest.raises(TypeError, match="float32"):
        shards.serialise({"masks": np.zeros((1, 4), np.float32)})


def test_rows_of_a_shard(tmp_path, field):
    cut_tiles(tmp_path, *field, (0.25, 0.25))
    entry, windows, masks = max(every_shard(tmp_path / "tiles"), key=lambda part: len(part[1]))
    some = shards.read_rows(tmp_path / "tiles" / entry["file"], [4, 0])
    np.testing.assert_array_equal(some[0], windows[[4, 0]])
    np.testing.assert_array_equal(some[1], masks[[4, 0]])


def test_contact_sheet_draws_each_type_the_same_each_time(tmp_path, field):
    _, index = cut_tiles(tmp_path, *field, (0.25, 0.25))
    ids = [cell for entry in index["shards"] for cell in entry["cells"]]
    types = {cell: "round" if n % 3 else "long" for n, cell in enumerate(ids[:-20])}
    rows = contact_sheet.choose(ids, types, ["long", "round", "unseen"], 5, 42)
    assert list(rows) == ["long", "round"]
    assert all(types[cell] == name for name, chosen in rows.items() for cell in chosen)
    assert [len(set(chosen)) for chosen in rows.values()] == [5, 5]
    assert contact_sheet.choose(ids, types, ["round"], 5, 42)["round"] == rows["round"]
    assert contact_sheet.choose(ids, types, ["round"], 5, 43)["round"] != rows["round"]
    chosen = [cell for row in rows.values() for cell in row]
    images = contact_sheet.read_tiles(tmp_path / "tiles" / "tiles.json", chosen)
    whole = all_tiles(tmp_path)
    for cell in chosen:
        np.testing.assert_array_equal(images[cell], whole[cell])
    contact_sheet.sheet(rows, images, 16, tmp_path / "tiles.png")
    assert (tmp_path / "tiles.png").stat().st_size > 20_000


def test_contact_sheet_without_types_or_cells(tmp_path):
    assert list(contact_sheet.choose(["b", "a"], None, [], 5, 1)) == [contact_sheet.UNLABELLED]
    assert contact_sheet.choose([], None, [], 5, 1) == {}
    contact_sheet.sheet({}, {}, 16, tmp_path / "tiles.png")
    assert (tmp_path / "tiles.png").exists()


@pytest.mark.kit
@pytest.mark.parametrize("bundle", ["lung_validation", "colon_train"])
def test_tiles_of_the_kit_equal_the_oracle(tmp_path, bundle):
    """Outlines and pixels are read here by hand, from the bundle's own files."""
    if not (KIT / bundle).is_dir():
        pytest.skip(f"the kit is not at {KIT}: set SHEST_KIT")
    import pandas as pd
    import tifffile

    folder = KIT / bundle
    image = np.moveaxis(tifffile.imread(folder / f"{bundle}_he_image.ome.tif"), -1, 0)
    matrix = np.loadtxt(folder / f"{bundle}_he_imagealignment.csv", delimiter=",")
    pixel = json.loads((folder / "experiment.xenium").read_text())["pixel_size"]
    corners = pd.read_parquet(folder / "nucleus_boundaries.parquet")
    key = "label_id" if "label_id" in corners else "cell_id"
    to_he = Registration.of_alignment(matrix, pixel)
    outlines, ids = [], []
    for _, part in corners.groupby(key):
        xy = np.column_stack([part[["vertex_x", "vertex_y"]].to_numpy(float) / pixel, np.ones(len(part))])
        outlines.append(shapely.Polygon((xy @ np.linalg.inv(matrix).T)[:, :2]))
        ids.append(part["cell_id"].iloc[0])
    mpp = to_he.mpp
    table, index = cut_tiles(tmp_path, image, np.array(ids, str), np.array(outlines), mpp, block_px=2048)
    assert table["kept"].mean() > 0.9
    largest = {}
    for cell, outline in zip(ids, outlines, strict=True):
        if cell not in largest or outline.area > largest[cell].area:
            largest[cell] = outline
    found = all_tiles(tmp_path)
    for cell in np.random.default_rng(0).choice(sorted(found), 150, replace=False):
        np.testing.assert_array_equal(found[cell], oracle_tile(image, largest[cell], *index["window"]))
