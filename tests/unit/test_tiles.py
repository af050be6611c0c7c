"""Quadruple tiles equal the direct transcription (oracle.py) in every pixel."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon2mask
from support import oracle

from shest.tiles import haematoxylin, quadruple, raster

ORIGIN = (12_003, 4_567)
sides = st.integers(40, 140)
seeds = st.integers(0, 2**32 - 1)


def window_of(kind, rng, height, width):
    """An RGB window: noise, a smooth stain-like field, one colour, or nothing but 0 and 255."""
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "constant":
        return np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (height, width, 3)).copy()
    if kind == "saturated":
        return rng.choice(np.array([0, 255], np.uint8), (height, width, 3))
    y, x = np.mgrid[:height, :width][..., None] / 9.0
    phase = rng.uniform(0, 6, (2, 3))
    waves = np.sin(x + phase[0]) + np.cos(y + phase[1]) + np.sin(x * y / 9)
    return np.clip(150 + 45 * waves, 0, 255).astype(np.uint8)


def outline_of(kind, rng, height, width):
    """An outline (v, 2) in H&E px: convex, concave, on a half-pixel grid, or partly or wholly off the window."""
    count = int(rng.integers(3, 40))
    angle = np.sort(rng.uniform(0, 2 * np.pi, count))
    radius = rng.uniform(0.05, 0.5, 1 if kind == "convex" else count) * min(height, width)
    centre = np.array([width, height]) / 2
    if kind in ("touching", "off"):
        centre = centre + rng.uniform(0.3, 0.6 if kind == "touching" else 3, 2) * rng.choice([-1, 1], 2) * centre * 2
    points = centre + np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.broadcast_to(radius, count)[:, None]
    if kind == "grid":
        points = np.round(points * 2) / 2
    return np.concatenate([points, points[:1]]) + ORIGIN


def drawn(outline, height, width):
    """The project's packed mask of one outline."""
    return raster.rasterise(outline, [0, len(outline)], [ORIGIN], (height, width))


@settings(max_examples=80, deadline=None)
@given(
    sides,
    sides,
    st.sampled_from(["noise", "smooth", "constant", "saturated"]),
    st.sampled_from(["convex", "concave", "grid", "touching", "off"]),
    seeds,
)
def test_tile_equals_the_oracle_in_every_pixel(height, width, colours, shape, seed):
    rng = np.random.default_rng(seed)
    window, outline = window_of(colours, rng, height, width), outline_of(shape, rng, height, width)
    expected = oracle.tile(window, outline, ORIGIN)
    mask = drawn(outline, height, width)
    np.testing.assert_array_equal(quadruple.assemble(window[None], mask, threads=1)[0], expected)
    by_torch = quadruple.assemble_torch(window[None], mask)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(by_torch, expected)


@pytest.mark.parametrize("side", [40, 56, 64, 111, 112, 113, 140])
@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_flat_windows_of_every_kind_of_side(side, value):
    window = np.full((side, 91, 3), value, np.uint8)
    outline = np.array([[10, 10], [80, 12], [40, 35.5]]) + ORIGIN
    tile = quadruple.assemble(window[None], drawn(outline, side, 91))[0]
    np.testing.assert_array_equal(tile, oracle.tile(window, outline, ORIGIN))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-6, 40)] * 2), min_size=1, max_size=12), st.sampled_from([1, 2, 3]))
def test_mask_equals_polygon2mask_where_edges_and_vertices_meet_pixel_centres(vertices, part):
    """Any closed chain, self-crossing or folded too, with vertices and edges right on pixel centres."""
    points = np.array(vertices, float) / part * 4
    masks = np.zeros((1, raster.MASK_BYTES), np.uint8)
    raster._polygon(*points.T.copy(), *np.empty((2, 112, 14), np.uint8), masks[0])
    expected = polygon2mask((112, 112), points[:, ::-1])
    np.testing.assert_array_equal(raster.unpack(masks)[0], expected)


@settings(max_examples=100, deadline=None)
@given(seeds, st.sampled_from([1e-13, 9e-13, 1.1e-12, 1e-9]))
def test_mask_equals_polygon2mask_a_hair_off_pixel_centres(seed, hair):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 30, (rng.integers(3, 9), 2)) + rng.choice([-hair, 0, hair], (1, 2))
    masks = np.zeros((1, raster.MASK_BYTES), np.uint8)
    raster._polygon(*points.T.copy(), *np.empty((2, 112, 14), np.uint8), masks[0])
    np.testing.assert_array_equal(raster.unpack(masks)[0], polygon2mask((112, 112), points[:, ::-1]))


def test_packed_mask_is_what_packbits_makes():
    outline = np.array([[5, 4], [50, 9], [30, 60]]) + ORIGIN
    mask = drawn(outline, 64, 64)
    expected = oracle.mask(outline, ORIGIN, 64, 64)
    np.testing.assert_array_equal(mask[0], np.packbits(expected))
    np.testing.assert_array_equal(raster.unpack(mask)[0], expected)


def test_haematoxylin_of_a_sample_of_colours():
    rng = np.random.default_rng(3)
    ends = np.stack(np.meshgrid(*[[0, 1, 2, 127, 253, 254, 255]] * 3), -1).reshape(-1, 1, 3).astype(np.uint8)
    greys = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(-1, 1, 3)
    for colours in (ends, greys, rng.integers(0, 256, (400, 500, 3), dtype=np.uint8)):
        np.testing.assert_array_equal(haematoxylin.haematoxylin(colours), oracle.haematoxylin(colours))


@pytest.mark.slow
def test_haematoxylin_of_all_16_777_216_colours():
    green, blue = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8), indexing="ij")
    for red in range(256):
        colours = np.stack([np.full_like(green, red), green, blue], axis=-1)
        np.testing.assert_array_equal(haematoxylin.haematoxylin(colours), oracle.haematoxylin(colours))


@pytest.mark.slow
def test_the_kernel_stains_all_colours_as_the_table_does():
    """Each window row of 112 px is copied as it stands: the kernel's own lookup meets every colour."""
    colours = np.arange(2**24, dtype=np.uint32)
    colours = np.stack([colours >> 16, (colours >> 8) & 255, colours & 255], axis=-1).astype(np.uint8)
    padded = np.zeros((-len(colours) % 112**2, 3), np.uint8)
    windows = np.concatenate([colours, padded]).reshape(-1, 112, 112, 3)
    for part in np.array_split(windows, 20):
        whole = np.full((len(part), raster.MASK_BYTES), 255, np.uint8)
        made = quadruple.assemble(part, whole, threads=1)
        np.testing.assert_array_equal(made[:, :112, :112], part)
        np.testing.assert_array_equal(made[:, 112:, :112], haematoxylin.haematoxylin(part))
        np.testing.assert_array_equal(made[:, 112:, 112:], made[:, 112:, :112])


def batch(count, height=64, width=64, seed=5):
    rng = np.random.default_rng(seed)
    windows = np.stack([window_of("smooth", rng, height, width) for _ in range(count)])
    masks = np.concatenate([drawn(outline_of("concave", rng, height, width), height, width) for _ in range(count)])
    return windows, masks


def test_threads_and_buffer_change_nothing():
    windows, masks = batch(7)
    one = quadruple.assemble(windows, masks, threads=1)
    buffer = np.full_like(one, 77)
    for threads in (2, 3, 16):
        np.testing.assert_array_equal(quadruple.assemble(windows, masks, threads=threads), one)
    assert quadruple.assemble(windows, masks, out=buffer) is buffer
    np.testing.assert_array_equal(buffer, one)


def test_no_cells_no_tiles():
    windows, masks = np.empty((0, 64, 64, 3), np.uint8), np.empty((0, 1568), np.uint8)
    assert quadruple.assemble(windows, masks).shape == (0, 224, 224, 3)
    assert tuple(quadruple.assemble_torch(windows, masks).shape) == (0, 3, 224, 224)


@pytest.mark.gpu
def test_the_gpu_makes_the_same_tiles():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    windows, masks = batch(64, 58, 61)
    made = quadruple.assemble_torch(windows, masks, "cuda").cpu().permute(0, 2, 3, 1).numpy()
    expected = quadruple.assemble(windows, masks)
    difference = np.abs(made.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.001


@pytest.mark.parametrize("view", range(8))
def test_views_turn_each_quadrant_in_place(view):
    import torch

    tile = quadruple.assemble(*batch(3))
    expected = np.empty_like(tile)
    for n in range(3):
        for top in (0, 112):
            for left in (0, 112):
                part = (n, slice(top, top + 112), slice(left, left + 112))
                quadrant = tile[part][:, ::-1] if view >= 4 else tile[part]
                expected[part] = np.rot90(quadrant, view % 4)
    np.testing.assert_array_equal(quadruple.apply_dihedral(tile, view), expected)
    turned = quadruple.apply_dihedral(torch.from_numpy(tile).permute(0, 3, 1, 2), view)
    np.testing.assert_array_equal(turned.permute(0, 2, 3, 1).numpy(), expected)


def test_first_quarter_turn_is_anticlockwise_and_mirroring_is_left_right():
    tile = np.zeros((1, 224, 224, 3), np.uint8)
    tile[0, 0, 111] = 1  # top right corner of the first quadrant
    assert quadruple.apply_dihedral(tile, 1)[0, 0, 0, 0] == 1  # goes to the top left
    assert quadruple.apply_dihedral(tile, 4)[0, 0, 0, 0] == 1
    assert quadruple.apply_dihedral(tile, 5)[0, 111, 0, 0] == 1


@pytest.mark.parametrize("view", [-1, 8])
def test_there_are_eight_views(view):
    with pytest.raises(ValueError, match="0 to 7"):
        quadruple.apply_dihedral(np.zeros((1, 224, 224, 3), np.uint8), view)


@pytest.mark.parametrize(
    ("window_um", "mpp_x", "mpp_y", "expected"),
    [
        (16, 0.25, 0.25, (64, 64)),
        (16, 0.2738, 0.2738, (58, 58)),
        (16, 0.32, 0.128, (125, 50)),
        (14.625, 0.25, 0.25, (59, 59)),
    ],
)
def test_window_is_the_nearest_whole_number_of_pixels(window_um, mpp_x, mpp_y, expected):
    assert quadruple.window_shape(window_um, mpp_x, mpp_y) == expected


@pytest.mark.parametrize(
    ("centre", "side", "origin"),
    [(100.0, 64, 69), (99.99, 64, 68), (100.5, 64, 69), (100.0, 63, 69), (99.49, 63, 68), (100.49, 63, 69)],
)
def test_window_origin(centre, side, origin):
    x, y = quadruple.window_origin([centre], [centre], side, side)
    assert (x[0], y[0]) == (origin, origin)


@pytest.mark.parametrize("side", [58, 59, 64])
def test_windows_are_centred_on_the_centroid_below_a_pixel(side):
    """Over all sub-pixel places the middle of the window is the centroid on average, and never half a pixel off."""
    centre = np.random.default_rng(0).random(10_000) * 50 + 100
    x, y = quadruple.window_origin(centre, centre[::-1], side, side)
    for first, wanted in ((x, centre), (y, centre[::-1])):
        off = first + (side - 1) / 2 - wanted
        assert np.abs(off).max() <= 0.5
        assert abs(off.mean()) < 0.01


def test_imports_where_there_is_only_torch_numpy_and_numba():
    code = "import sys, shest.tiles.quadruple; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    library = {"PYTHONPATH": str(Path(quadruple.__file__).parents[1])}
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=library)
    banned = {"zarr", "pandas", "shapely", "spatialdata", "anndata", "skimage", "snakemake", "pyarrow", "torch"}
    assert not banned & set(loaded.stdout.split())
