"""Files for QuPath and Xenium Explorer: valid by their formats, and read back as they were."""

import csv
import itertools
import json
import tracemalloc
import uuid

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from support import slides

from shest.draw import style
from shest.io import detections, slide
from shest.labels import annotate
from shest.view import export

TYPES = {"Tumour": {"colour": "red"}, "Lymphocyte": {"colour": "#0000ff"}, "Fibroblast": {}}
PALETTE = style.colours(TYPES)


def predictions(n=60, seed=0):
    """Cells of a slide of 800 by 800 px: table, vertices of the outlines, where each begins."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.divmod(np.arange(n), 8), axis=1) * 90.0 + 60 + rng.uniform(-5, 5, (n, 2))
    rings = [
        slides.circle(x, y, r, int(k))
        for (x, y), r, k in zip(places, rng.uniform(8, 18, n), rng.integers(8, 30, n), strict=True)
    ]
    table = pd.DataFrame(
        {
            "cell_type": pd.Categorical(rng.choice(list(TYPES), n), list(TYPES)),
            "probability": rng.random(n).astype(np.float32),
            "entropy": rng.random(n).astype(np.float32),
            "disagreement": rng.random(n).astype(np.float32),
            "part": "predict",
        },
        index=pd.Index([f"cell{i:03d}-1" for i in range(n)], name="cell_id"),
    )
    return table, np.concatenate(rings), np.cumsum([0, *(len(ring) for ring in rings)])


@pytest.fixture
def written(tmp_path):
    table, points, start = predictions()
    export.write_qupath(tmp_path / "p.geojson", export.features("s", table, points, start, PALETTE))
    export.write_explorer(tmp_path / "p.explorer.csv", table)
    return tmp_path, table, points, start


def check_qupath(data):
    """Hold an export against what QuPath (0.4 or later) reads and writes of detections; strict: nothing else."""
    assert set(data) == {"type", "features"}
    assert data["type"] == "FeatureCollection"
    for item in data["features"]:
        assert set(item) == {"type", "id", "geometry", "properties"}
        assert item["type"] == "Feature"
        assert str(uuid.UUID(item["id"])) == item["id"]
        assert set(item["geometry"]) == {"type", "coordinates"}
        assert item["geometry"]["type"] == "Polygon"
        (ring,) = item["geometry"]["coordinates"]
        assert len(ring) >= 4
        assert ring[0] == ring[-1]
        assert all(len(point) == 2 and all(type(value) is float for value in point) for point in ring)
        properties = item["properties"]
        assert set(properties) == {"objectType", "name", "classification", "measurements"}
        assert properties["objectType"] in ("detection", "cell")
        assert type(properties["name"]) is str
        assert set(properties["classification"]) == {"name", "color"}
        assert ":" not in properties["classification"]["name"]  # QuPath would take it for a derived class
        colour = properties["classification"]["color"]
        assert len(colour) == 3
        assert all(type(part) is int and 0 <= part <= 255 for part in colour)
        assert all(type(k) is str and type(v) is float for k, v in properties["measurements"].items())
    ids = [item["id"] for item in data["features"]]
    assert len(set(ids)) == len(ids)


def test_the_export_is_what_qupath_reads_with_classes_coloured(written):
    folder, table, _, _ = written
    data = json.loads((folder / "p.geojson").read_text(), parse_constant=pytest.fail)
    check_qupath(data)
    assert len(data["features"]) == len(table)
    expected = {"Tumour": [255, 0, 0], "Lymphocyte": [0, 0, 255], "Fibroblast": [0, 128, 0]}
    for item, (cell_id, row) in zip(data["features"], table.iterrows(), strict=True):
        assert item["properties"]["name"] == cell_id
        assert item["properties"]["classification"] == {"name": row.cell_type, "color": expected[row.cell_type]}
        for name in export.MEASUREMENTS:
            assert item["properties"]["measurements"][name] == pytest.approx(row[name], abs=1e-6)


def test_our_own_readers_give_the_same_cells_back(written):
    folder, table, points, start = written
    again = detections.read(folder / "p.geojson", "geojson")
    centres = [shapely.Polygon(points[a:b]).centroid.coords[0] for a, b in itertools.pairwise(start)]
    expected = pd.DataFrame(centres, columns=["x", "y"]).assign(**{"class": table["cell_type"].astype(str).to_numpy()})
    expected = expected.sort_values(["x", "y"], ignore_index=True)
    assert (again["class"] == expected["class"]).all()
    assert np.abs(again[["x", "y"]] - expected[["x", "y"]]).max(axis=None) < 0.01
    outlines = slide.read_nuclei(folder / "p.geojson", (800, 800), (0.25, 0.25))
    assert outlines.named
    assert np.abs(shapely.get_coordinates(outlines.outline) - points).max() <= 0.005 + 1e-9


def test_geopandas_gives_the_same_classes_back(written):
    folder, table, points, _ = written
    frame = geopandas.read_file(folder / "p.geojson")
    named = frame["classification"].map(lambda entry: (entry if isinstance(entry, dict) else json.loads(entry))["name"])
    assert named.tolist() == table["cell_type"].tolist()
    assert frame["name"].tolist() == table.index.tolist()
    assert np.abs(shapely.get_coordinates(frame.geometry) - 0.5 - points).max() <= 0.005 + 1e-9


def test_explorer_gets_its_two_columns_and_every_cell(written):
    folder, table, _, _ = written
    with open(folder / "p.explorer.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["cell_id", "group"]
    assert rows[1:] == [[cell, cell_type] for cell, cell_type in table["cell_type"].astype(str).items()]
    again = annotate.parse_table(folder / "p.explorer.csv")  # what Explorer exports is what pathologists hand in
    assert again[["cell_id", "group"]].to_numpy().tolist() == rows[1:]


def test_ids_are_stable_by_sample_and_those_of_qupath_are_kept():
    own = "0b7e4a3c-5d1f-4e5a-9a57-0a6a1c2b3d4e"
    assert export.object_id("s", own) == own
    assert export.object_id("s", "aaaa-1") == export.object_id("s", "aaaa-1")
    assert len({export.object_id(s, c) for s in "st" for c in ("aaaa-1", "aaab-1")}) == 4


def test_values_that_are_no_numbers_are_left_out_and_no_cell_is_an_empty_collection(tmp_path):
    table, points, start = predictions(8)
    table.iloc[3, table.columns.get_loc("entropy")] = np.nan
    export.write_qupath(tmp_path / "p.geojson", export.features("s", table, points, start, PALETTE))
    data = json.loads((tmp_path / "p.geojson").read_text())
    check_qupath(data)
    assert [len(f["properties"]["measurements"]) for f in data["features"]] == [3, 3, 3, 2, 3, 3, 3, 3]
    export.write_qupath(tmp_path / "none.geojson", export.features("s", table[:0], points[:0], start[:1], PALETTE))
    assert json.loads((tmp_path / "none.geojson").read_text()) == {"type": "FeatureCollection", "features": []}


def test_cells_without_a_type_are_detections_without_a_class_and_in_no_group(tmp_path):
    table, points, start = predictions(4)
    table["cell_type"] = pd.Categorical([None] * 4, [])
    features = [json.loads(text) for text in export.features("s", table, points, start, PALETTE)]
    assert all("classification" not in feature["properties"] for feature in features)
    export.write_explorer(tmp_path / "p.explorer.csv", table)
    assert (tmp_path / "p.explorer.csv").read_text() == "cell_id,group\n"


def test_memory_does_not_grow_with_the_cells(tmp_path):
    table, points, start = predictions(60)

    def peak(times):
        many = pd.concat([table] * times)
        vertices, begins = np.tile(points, (times, 1)), np.arange(60 * times + 1)
        begins = np.concatenate([start[:-1] + len(points) * k for k in range(times)] + [[len(vertices)]])
        tracemalloc.start()
        export.write_qupath(tmp_path / "p.geojson", export.features("s", many, vertices, begins, PALETTE))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert (peak(200) - peak(20)) / (60 * 180) < 200  # bytes a cell: its row of the table, not its text
