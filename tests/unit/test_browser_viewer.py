"""What the browser viewer reads: places, codes and pictures as they were, text that cannot become code."""

import base64
import dataclasses
import hashlib
import io
import json
import re
import zlib

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import viewer as made

from shest.core.errors import InputError
from shest.io.outlines import write_outlines
from shest.view import cells, pyramid, site, viewer


def value_of(path):
    """What a script hands over."""
    text = path.read_text(encoding="ascii")
    assert "<" not in text
    return json.loads(re.fullmatch(r"shest\((.*)\);\n", text, flags=re.S)[1])


def unpacked(packed):
    content = zlib.decompress(base64.b64decode(packed["data"]))
    return json.loads(content) if packed["type"] == "json" else np.frombuffer(content, np.dtype(packed["type"].lower()))


def manifest(folder, page="index.html"):
    return value_of(folder / re.search(r'src="(sample-\w+\.js)"', (folder / page).read_text())[1])


def places_of(folder, page="index.html"):
    """Places of the placed units as the page computes them, by id."""
    data = manifest(folder, page)
    found, ids = value_of(folder / data["units"]), unpacked(value_of(folder / data["ids"]))
    block = np.repeat(np.arange(len(data["start"]) - 1), np.diff(data["start"]))
    corner = np.stack([block % data["grid"]["columns"], block // data["grid"]["columns"]], axis=1)
    within = np.stack([unpacked(found["x"]), unpacked(found["y"])], axis=1)
    side, origin = np.array(data["grid"]["side"]), np.array(data["grid"]["origin"])
    xy = origin + (corner + (within + 0.5) / cells.WITHIN) * side
    return pd.DataFrame(xy, ids[: len(xy)], ["x", "y"]), ids, found


def test_places_are_kept_to_a_fraction_of_a_pixel_and_no_cell_is_lost(tmp_path):
    rng = np.random.default_rng(3)
    xy = rng.uniform([-300, -50], [9000, 7000], (500, 2))
    xy[::50] = np.nan
    grid = cells.grid_of(xy, (6000, 8000), (0.25, 0.26))
    assert sorted(grid.order) == list(range(500))
    assert grid.placed == 490
    assert np.isnan(xy[grid.order[490:]]).all()
    block = np.repeat(np.arange(len(grid.start) - 1), np.diff(grid.start))
    corner = np.stack([block % grid.columns, block // grid.columns], axis=1)
    within = grid.within(xy)
    back = np.array(grid.origin) + (corner + (within + 0.5) / cells.WITHIN) * grid.side
    assert np.abs(back - xy[grid.order[:490]]).max() < 0.04
    for first, last in zip(grid.start[:-1], grid.start[1:], strict=True):  # what the page's binary search rests on
        part = within[first:last].astype(int)
        key = part[:, 1] // (cells.WITHIN // cells.STRIPS) * cells.WITHIN + part[:, 0]
        assert (np.diff(key) >= 0).all()


def test_a_page_holds_what_the_tables_say(tmp_path):
    shown = made.sample(tmp_path)
    made.write(tmp_path / "v", shown)
    places, ids, found = places_of(tmp_path / "v")
    table = shown.table.set_index("cell_id").loc[ids]
    assert np.abs(places - table.loc[places.index, ["x", "y"]]).to_numpy().max() < 0.02
    labels = shown.annotation.set_index("cell_id")["cell_type"].loc[ids]
    entry = {part["key"]: part for part in found["categories"]}
    codes = unpacked(entry["annotated"]["codes"])
    names = [*entry["annotated"]["categories"], *[None] * (256 - len(made.TYPES))]
    assert [names[code] for code in codes] == [None if pd.isna(label) else label for label in labels]
    reason = [entry["reason"]["categories"][code] for code in unpacked(entry["reason"]["codes"])]
    expected = np.where(table["kept"], np.where(labels.notna(), "labelled", "other_type"), table["reason"])
    assert reason == expected.tolist()
    numbers = {part["key"]: part for part in found["numbers"]}
    assert "disagreement.one" not in numbers, "nothing but NaN"
    values = shown.predictions["one"].obs["entropy"].reindex(ids).to_numpy()
    codes, top = unpacked(numbers["entropy.one"]["codes"]), numbers["entropy.one"]["top"]
    assert ((codes == cells.NONE) == np.isnan(values)).all()
    assert np.abs(codes / cells.STEPS * top - values)[codes != cells.NONE].max() <= top / cells.STEPS


def test_outlines_and_details_are_those_of_their_cell(tmp_path):
    shown = made.sample(tmp_path)
    made.write(tmp_path / "v", shown)
    data = manifest(tmp_path / "v")
    _, ids, _ = places_of(tmp_path / "v")
    block = value_of(tmp_path / "v" / data["blocks"][0])
    number, dx, dy = (unpacked(block[name]) for name in ("vertices", "dx", "dy"))
    assert set(number) == {16}
    assert np.hypot(dx, dy) / data["outline_steps"] == pytest.approx(6 / made.MPP, abs=0.1)
    details = {part["name"]: part for part in block["details"]}
    widths = unpacked(details["nucleus width (µm)"]["values"])
    assert widths == pytest.approx(shown.table.set_index("cell_id")["width_um"].loc[ids[: len(number)]], rel=1e-3)
    near = unpacked(block["neighbours"]).reshape(-1, block["k"])
    order = shown.table["cell_id"].tolist()
    assert [ids[i] for i in near[0]] == [order[(order.index(ids[0]) + k) % 180] for k in (1, 2)]


def numbers_of(part):
    """Numbers of a colouring, and by how much they may be off."""
    codes = unpacked(part["codes"])
    return np.where(codes == cells.NONE, np.nan, codes / cells.STEPS * part["top"]), part["top"] / cells.STEPS


def test_a_page_of_spots_holds_what_their_table_says(tmp_path):
    shown = made.spots(tmp_path)
    summary = made.write(tmp_path / "v", shown)
    assert summary["pages"] == [
        {"unit": "spots", "page": "index.html", "number": 48, "kept": int(shown.table["kept"].sum()), "labelled": 0}
    ]
    data = manifest(tmp_path / "v")
    assert (data["unit"], data["diameter_um"], data["window_um"]) == ("spots", 55, 55)
    places, ids, found = places_of(tmp_path / "v")
    table = shown.table.set_index("spot_id").loc[ids]
    assert np.abs(places - table[["x", "y"]]).to_numpy().max() < 0.02
    assert [part["key"] for part in found["categories"]] == ["reason"], "no system says types"
    numbers = {part["key"]: part for part in found["numbers"]}
    assert set(numbers) == {"epistemic.spotty", "tissue", "n_cells", "type:Tumour", f"type:{made.HOSTILE}"}
    for name in ("tissue", "n_cells", "type:Tumour"):
        values, within = numbers_of(numbers[name])
        assert np.abs(values - table[name]).max() <= within
    genes = {part["gene"]: value_of(tmp_path / "v" / part["file"]) for part in data["genes"]}
    assert list(genes) == made.GENES
    parts = {part["key"]: part for part in genes["CD3E"]["numbers"]}
    values, within = numbers_of(parts["measured"])
    counts = ad.read_zarr(shown.store / "tables/table")
    counts = pd.Series(counts.X.toarray()[:, 2], counts.obs["spot_id"].astype(str)).loc[ids].to_numpy()
    assert np.abs(values - np.minimum(counts, parts["measured"]["top"])).max() <= within
    predicted = shown.predictions["spotty"]
    expected = pd.Series(predicted.X[:, 2], predicted.obs_names).reindex(ids).to_numpy()
    values, within = numbers_of(parts["expected.spotty"])
    assert np.array_equal(np.isnan(values), ~table["kept"].to_numpy())
    assert np.nanmax(np.abs(values - np.minimum(expected, parts["expected.spotty"]["top"]))) <= within
    assert "measured" not in {part["key"] for part in genes[made.ENDING]["numbers"]}, "the panel lacks it"


def test_the_outline_of_a_spot_is_a_circle_of_its_diameter(tmp_path):
    shown = made.spots(tmp_path)
    made.write(tmp_path / "v", shown)
    data = manifest(tmp_path / "v")
    block = value_of(tmp_path / "v" / data["blocks"][0])
    dx, dy = unpacked(block["dx"]), unpacked(block["dy"])
    assert np.hypot(dx, dy) / data["outline_steps"] * made.MPP == pytest.approx(made.SPOT_UM / 2, abs=0.05)
    details = {part["name"]: part for part in block["details"]}
    assert set(unpacked(details["diameter (µm)"]["values"])) == {55}
    assert {"row of the array", "share of tissue", "number of cells", "share of Tumour", "filter"} <= set(details)


def test_cells_and_spots_of_a_sample_share_the_tiles_and_have_a_page_each(tmp_path):
    both = made.sample(tmp_path), made.spots(tmp_path)
    summary = made.write(tmp_path / "v", *both)
    assert [(page["unit"], page["page"]) for page in summary["pages"]] == [
        ("cells", "index.html"),
        ("spots", "spots.html"),
    ]
    first, second = manifest(tmp_path / "v"), manifest(tmp_path / "v", "spots.html")
    assert first["image"] == second["image"]
    assert first["pages"] == second["pages"] == {"cells": "index.html", "spots": "spots.html"}
    assert (first["n"], second["n"]) == (181, 48)
    assert made.write(tmp_path / "v", *both)["written"] == 0
    made.write(tmp_path / "v", both[0])
    assert not (tmp_path / "v/spots.html").exists()
    viewer.clear(tmp_path / "v")
    assert [path for path in (tmp_path / "v").rglob("*") if path.is_file()] == []


def test_text_of_the_input_can_become_neither_markup_nor_a_statement(tmp_path):
    shown = made.sample(tmp_path, name=made.ENDING)
    made.write(tmp_path / "v", shown)
    viewer.write_index(tmp_path, [{"sample": made.HOSTILE, "thumbnail": "", "scores": []}])
    assert value_of(tmp_path / "samples.js")[0]["sample"] == made.HOSTILE
    assert manifest(tmp_path / "v")["sample"] == made.ENDING
    assert "alert" not in (tmp_path / "v/index.html").read_text() + (tmp_path / "index.html").read_text()
    assert site.script("\u2028<!--") == b'shest("\\u2028\\u003c!--");\n'


def test_a_second_build_writes_only_what_changed(tmp_path):
    shown = made.sample(tmp_path)
    first = made.write(tmp_path / "v", shown)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "v").rglob("*.js")}
    assert made.write(tmp_path / "v", shown)["written"] == 0
    (tmp_path / "v/my-notes.txt").write_text("a file of somebody else")
    shown.predictions["two"].obs["entropy"] *= 0.5
    again = made.write(tmp_path / "v", shown)
    assert 0 < again["written"] == again["removed"] < first["written"] / 4
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "v").rglob("*.js") if path in before}
    assert all(before[path] == time for path, time in kept.items())
    assert (tmp_path / "v/my-notes.txt").is_file()


def tile_of(folder, level, column, row):
    """A tile of the page, as pixels."""
    part = manifest(folder)["image"]["levels"][level]
    at = site.DIGITS * (row * part["columns"] + column)
    name = part["names"][at : at + site.DIGITS]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(value_of(folder / f"tiles/{name[:2]}/{name}.js")))))


def test_tiles_are_the_picture_at_every_level(tmp_path):
    shown = made.sample(tmp_path)
    made.write(tmp_path, shown)
    image, data = shown.scales[0], manifest(tmp_path)["image"]
    assert (data["width"], data["height"], data["factor"]) == (1300, 900, 1)
    assert [(part["columns"], part["rows"]) for part in data["levels"]] == [(1, 1), (2, 1), (3, 2)]
    assert np.abs(tile_of(tmp_path, 2, 2, 1).astype(int) - np.moveaxis(image[:, 512:, 1024:], 0, -1)).max() < 30
    whole = tile_of(tmp_path, 0, 0, 0)
    assert whole.shape == (225, 325, 3)
    at = np.indices(whole.shape[:2]) * 4 + 2
    inside = ((at % made.SQUARE > 20) & (at % made.SQUARE < 80)).all(axis=0)  # away from the edges of squares
    assert np.abs(whole.astype(int) - np.moveaxis(image[:, at[0], at[1]], 0, -1))[inside].max() < 8


@pytest.mark.parametrize(
    ("max_mpp", "width", "factor"), [(0.5, 1300, 1), (0.99, 1300, 1), (1.0, 650, 2), (2.0, 325, 4)]
)
def test_max_mpp_bounds_the_size(tmp_path, max_mpp, width, factor):
    shown = made.sample(tmp_path)
    shown.scales = [shown.scales[0], shown.scales[0][:, ::2, ::2]]
    made.write(tmp_path, shown, max_mpp=max_mpp)
    data = manifest(tmp_path)["image"]
    assert (data["width"], data["factor"]) == (width, factor)
    last = data["levels"][-1]
    tile = tile_of(tmp_path, len(data["levels"]) - 1, 0, 0)
    assert tile.shape[1] == min(width, pyramid.TILE)
    assert len(last["names"]) == site.DIGITS * last["columns"] * last["rows"]


def test_genes_are_those_that_are_named_or_that_tell_types_apart(tmp_path):
    shown = made.sample(tmp_path)
    found = shown.predictions["one"]
    found.X[(found.obs["cell_type"] == "Tumour").to_numpy(), 2] = 50  # CD3E
    assert viewer.chosen_genes(shown, 1) == ["CD3E"]
    assert viewer.chosen_genes(shown, 0) == []
    shown.markers = ["EPCAM", "NOT_PREDICTED"]
    assert viewer.chosen_genes(shown, 1) == ["EPCAM", "CD3E"]
    assert viewer.chosen_genes(shown, ["CD3E"]) == ["CD3E"], "they were named"
    assert viewer.chosen_genes(shown, "all") == viewer.chosen_genes(shown, 99) == made.GENES
    assert viewer.chosen_genes(shown, ["EPCAM"]) == ["EPCAM"]
    with pytest.raises(InputError, match=r"viewer\.genes: not among the 4 genes .*: CD3, X"):
        viewer.chosen_genes(shown, ["CD3", "EPCAM", "X"])


def test_genes_of_spots_are_those_that_vary_most(tmp_path):
    shown = made.spots(tmp_path)
    found = shown.predictions["spotty"]
    found.X[:] = 5
    found.X[::2, 0] = 9
    found.X[::2, 3] = 90
    assert viewer.chosen_genes(shown, 1) == [made.GENES[3]]
    assert viewer.chosen_genes(shown, 2) == [made.GENES[0], made.GENES[3]]


def test_a_slide_without_a_single_cell_has_a_page(tmp_path):
    shown = made.sample(tmp_path)
    nothing = shown.predictions["one"][:0].copy()
    write_outlines(shown.outlines, np.empty(0, dtype=object), np.empty(0, dtype=object))
    shown = dataclasses.replace(
        shown, table=shown.table[:0], annotation=None, predictions={"one": nothing}, neighbours=None
    )
    summary = made.write(tmp_path / "v", shown)
    assert summary["pages"][0]["number"] == 0
    assert (manifest(tmp_path / "v")["n"], len(list((tmp_path / "v/tiles").rglob("*.js")))) == (0, 9)


def test_neighbours_are_those_of_a_search_through_all():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 12)) * rng.uniform(0.1, 9, 12)
    found = cells.nearest(lambda rows: points[rows].astype(np.float16), 300, k=4)
    scaled = points.astype(np.float16).astype(float)
    scaled = (scaled - scaled.mean(axis=0)) / scaled.std(axis=0)
    distance = np.linalg.norm(scaled[:, None] - scaled[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (found == np.argsort(distance, axis=1)[:, :4]).mean() > 0.99
    some = cells.nearest(lambda rows: points[rows], 300, k=4, among=50)
    assert len(np.unique(some)) <= 50
    assert (some != np.arange(300)[:, None]).all()
    assert cells.nearest(lambda rows: points[rows], 1).shape == (1, 0)


def test_the_library_that_is_shipped_is_the_one_that_is_named(root):
    shipped = root / "workflow/shest/view/vendor/openseadragon.min.js"
    digest = hashlib.sha256(shipped.read_bytes()).hexdigest()
    named = (root / "THIRD_PARTY.md").read_text()
    assert digest in named
    assert re.search(r"openseadragon (\S+)", shipped.read_text(encoding="utf-8"))[1] in named
