"""Which cells go on, and why the others do not."""

import numpy as np
import pandas as pd
import pytest
import shapely
from shapely import affinity

from shest.io.outlines import read_outlines, write_outlines
from shest.tiles import blocks, quadruple
from shest.tissue import cells

LIMITS = {"min_um": 2, "max_um": 16, "max_mean_grey": 230}
MPP = (0.25, 0.25)
SHAPE = (400, 500)


def ellipse(x, y, width, height, turned=0.0):
    """A nucleus of so many px around (x, y)."""
    circle = shapely.Point(0, 0).buffer(0.5, quad_segs=16)
    return affinity.translate(affinity.rotate(affinity.scale(circle, width, height), turned), x, y)


def judge(nuclei, image=None, all_ids=None, mpp=MPP, limits=LIMITS, threads=1, block_px=128):
    """Table of cells given as {id: outline or list of outlines}."""
    pairs = [(i, o) for i, found in nuclei.items() for o in (found if isinstance(found, list) else [found])]
    image = np.full((3, *SHAPE), 100, np.uint8) if image is None else image
    ids, polygons = cells.nucleus_of_each_cell(
        np.array([i for i, _ in pairs], str), np.array([o for _, o in pairs] + [None], object)[:-1]
    )
    grey = cells.grey_by_block(image, block_px, threads)
    every = list(nuclei) if all_ids is None else all_ids
    return cells.cell_table(np.array(every, str), ids, polygons, image.shape[1:], mpp, limits, 16, grey)


def reasons(*args, **more):
    table = judge(*args, **more)
    return dict(zip(table["cell_id"], table["reason"], strict=True))


def test_every_cell_has_a_reason_and_is_there_once_sorted():
    image = np.full((3, *SHAPE), 100, np.uint8)
    image[:, 200:300, 200:300] = 240
    found = judge(
        {
            "kept": ellipse(100, 100, 30, 40),
            "beyond": ellipse(-5, 100, 30, 30),
            "small": ellipse(100, 200, 7, 30),
            "large": ellipse(100, 300, 30, 70),
            "edge": ellipse(20, 200, 30, 30),
            "glass": ellipse(250, 250, 30, 30),
        },
        image,
        all_ids=["small", "none", "kept", "beyond", "large", "edge", "glass"],
    )
    assert list(found.columns) == cells.COLUMNS
    assert found["cell_id"].is_monotonic_increasing
    assert found.set_index("cell_id")["reason"].to_dict() == {
        "kept": "kept",
        "none": "no_nucleus",
        "beyond": "outside_image",
        "small": "too_small",
        "large": "too_large",
        "edge": "window_off_image",
        "glass": "bare_glass",
    }
    assert (found["kept"] == (found["reason"] == "kept")).all()
    assert cells.counts(found) == dict.fromkeys(cells.REASONS, 1)


def test_the_first_reason_wins():
    far_and_small = ellipse(-50, 100, 2, 2)
    small_and_large = ellipse(100, 100, 4, 90)
    small_at_the_edge = ellipse(3, 3, 4, 4)
    found = reasons({"a": far_and_small, "b": small_and_large, "c": small_at_the_edge})
    assert found == {"a": "outside_image", "b": "too_small", "c": "too_small"}


@pytest.mark.parametrize(("side_px", "reason"), [(7.99, "too_small"), (8, "kept"), (64, "kept"), (64.01, "too_large")])
def test_both_bounds_belong_to_what_is_kept(side_px, reason):
    assert reasons({"a": shapely.box(100, 100, 100 + side_px, 130)})["a"] == reason
    assert reasons({"a": shapely.box(100, 100, 130, 100 + side_px)})["a"] == reason


def test_sizes_are_in_um_of_each_axis():
    row = judge({"a": shapely.box(100, 100, 120, 130)}, mpp=(0.5, 0.2)).iloc[0]
    assert (row["width_um"], row["height_um"]) == pytest.approx((10, 6))
    assert (row["x"], row["y"]) == pytest.approx((110, 115))


def test_an_image_ends_half_a_pixel_beyond_its_last_centre():
    height, width = SHAPE
    inside = {"l": (-0.49, 200), "r": (width - 0.51, 200), "t": (200, -0.49), "b": (200, height - 0.51)}
    outside = {"l": (-0.51, 200), "r": (width - 0.49, 200), "t": (200, -0.51), "b": (200, height - 0.49)}
    assert set(reasons({k: ellipse(*at, 30, 30) for k, at in inside.items()}).values()) == {"window_off_image"}
    assert set(reasons({k: ellipse(*at, 30, 30) for k, at in outside.items()}).values()) == {"outside_image"}


def test_a_window_may_end_with_the_image():
    """64 px windows: from 0 to 63 and up to the last pixel, not one further."""
    assert reasons({"a": ellipse(31.2, 32, 30, 30), "b": ellipse(30.8, 32, 30, 30)}) == {
        "a": "kept",
        "b": "window_off_image",
    }
    assert reasons({"a": ellipse(467.8, 367.8, 30, 30), "b": ellipse(468.2, 367.8, 30, 30)}) == {
        "a": "kept",
        "b": "window_off_image",
    }


def test_of_several_nuclei_the_largest_and_of_equal_ones_the_first():
    small, large = ellipse(100, 100, 20, 20), ellipse(200, 100, 40, 30)
    twins = [shapely.box(300, 90, 320, 110), shapely.box(350, 90, 370, 110)]
    table = judge({"a": [small, large], "b": [large, small], "c": twins})
    assert table["x"].to_numpy() == pytest.approx([200, 200, 310])


def test_outlines_that_are_no_polygon():
    two = shapely.MultiPolygon([shapely.box(10, 10, 12, 12), shapely.box(80, 80, 110, 110)])
    ids, polygons = cells.nucleus_of_each_cell(
        np.array(["a", "b", "c", "d", "e"]),
        np.array([None, shapely.Polygon(), shapely.Point(3, 3), two, ellipse(100, 100, 20, 20)], object),
    )
    assert ids.tolist() == ["d", "e"]
    assert polygons[0].equals(shapely.box(80, 80, 110, 110))


def test_a_sample_without_any_nucleus():
    table = judge({}, all_ids=["b", "a"])
    assert table["reason"].tolist() == ["no_nucleus"] * 2
    assert table["mean_grey"].isna().all()


def test_nuclei_of_unknown_cells_are_left_alone():
    assert list(reasons({"a": ellipse(100, 100, 30, 30), "z": ellipse(200, 100, 30, 30)}, all_ids=["a"])) == ["a"]


@pytest.mark.parametrize(("block_px", "threads"), [(64, 1), (130, 3), (4096, 2)])
def test_mean_grey_is_the_luma_of_the_window_whatever_the_blocks(block_px, threads):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (3, *SHAPE), dtype=np.uint8)
    nuclei = {f"c{n}": ellipse(*rng.uniform(40, 360, 2), 30, 30) for n in range(40)}
    table = judge(nuclei, image, block_px=block_px, threads=threads)
    for row in table.itertuples():
        x, y = (int(np.floor(c - 32 + 1)) for c in (row.x, row.y))
        window = image[:, y : y + 64, x : x + 64].astype(float)
        expected = (0.299 * window[0] + 0.587 * window[1] + 0.114 * window[2]).mean()
        assert row.mean_grey == pytest.approx(expected, abs=1e-9)


def test_glass_is_above_the_limit_not_at_it():
    image = np.full((3, *SHAPE), 230, np.uint8)
    assert reasons({"a": ellipse(100, 100, 30, 30)}, image)["a"] == "kept"
    image[0, 100, 100] = 231
    assert reasons({"a": ellipse(100, 100, 30, 30)}, image)["a"] == "bare_glass"


def test_outlines_come_back_as_they_were(tmp_path):
    polygons = np.array([ellipse(100.1, 50.7, 30, 20), shapely.box(1, 2, 3.3, 4), ellipse(7, 7, 3, 3)])
    write_outlines(tmp_path / "o.parquet", np.array(["a", "b", "ccc"]), polygons)
    ids, points, start = read_outlines(tmp_path / "o.parquet")
    assert ids.tolist() == ["a", "b", "ccc"]
    for n, polygon in enumerate(polygons):
        np.testing.assert_array_equal(points[start[n] : start[n + 1]], shapely.get_coordinates(polygon.exterior))


def test_no_outlines_come_back_as_none(tmp_path):
    write_outlines(tmp_path / "o.parquet", np.array([], str), np.array([], object))
    ids, points, start = read_outlines(tmp_path / "o.parquet")
    assert (len(ids), points.shape, start.tolist()) == (0, (0, 2), [0])


class Spy:
    """An image that notes what is read of it."""

    def __init__(self, image):
        self.image, self.shape, self.parts = image, image.shape, []

    def __getitem__(self, part):
        self.parts.append(part)
        return self.image[part]


def test_each_block_is_read_once_with_no_more_than_its_halo():
    rng = np.random.default_rng(2)
    image = Spy(rng.integers(0, 200, (3, 1000, 1200), dtype=np.uint8))
    nuclei = {f"c{n:03}": ellipse(*rng.uniform((40, 40), (1160, 960)), 30, 30) for n in range(300)}
    judge(nuclei, image, block_px=256, threads=2)
    assert len(image.parts) <= 4 * 5
    assert all(part[axis].stop - part[axis].start <= 256 + 64 for part in image.parts for axis in (1, 2))


def test_blocks_hold_each_cell_once_and_cover_its_window():
    rng = np.random.default_rng(3)
    x, y = rng.uniform(50, 950, (2, 500))
    window = (60, 50)
    origins = np.stack(quadruple.window_origin(x, y, *window), axis=1)
    made = blocks.make_blocks(x, y, origins, window, 300)
    np.testing.assert_array_equal(np.sort(np.concatenate([b.cells for b in made])), np.arange(500))
    assert [(b.row, b.column) for b in made] == sorted((b.row, b.column) for b in made)
    for block in made:
        assert (np.diff(block.cells) > 0).all()
        left, top = origins[block.cells].T
        assert (left >= block.left).all()
        assert (top >= block.top).all()
        assert (left + 50 <= block.right).all()
        assert (top + 60 <= block.bottom).all()
        assert set((np.floor(y[block.cells] + 0.5) // 300).astype(int)) == {block.row}


def test_a_failing_block_ends_the_run():
    made = blocks.make_blocks(*np.full((2, 1), 50.0), np.array([[18, 18]]), (64, 64), 100)

    def fail(block, pixels):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        blocks.each_block(made, np.zeros((3, 100, 100), np.uint8), fail, 2, "blocks")


def test_the_table_survives_parquet(tmp_path):
    table = judge({"a": ellipse(100, 100, 30, 30)}, all_ids=["a", "b"])
    table.to_parquet(tmp_path / "cells.parquet", index=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "cells.parquet"), table)
