"""Other systems' labels: read in their formats, matched to cells by position, scored as the heads are."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score
from support import scores

from shest.core.errors import InputError
from shest.draw import figure_data
from shest.io import detections
from shest.score import comparators, evaluation

TYPES = ["Tumour", "Lymphocyte", "Fibroblast"]
TABLE = {"0": None, "1": "Tumour", "2": "Lymphocyte", "3": "Fibroblast"}
CLASS_OF = {kind: name for name, kind in TABLE.items()}
MPP = (0.25, 0.24)


def hovernet(path, xy, classes, **head):
    """Write what HoVer-Net writes."""
    nuclei = {
        str(i): {
            "bbox": [[0, 0], [1, 1]],
            "centroid": [float(x), float(y)],
            "contour": [[int(x), int(y)]] * 4,
            "type_prob": 0.9,
            "type": kind,
        }
        for i, ((x, y), kind) in enumerate(zip(xy, classes, strict=True), start=1)
    }
    path.write_text(json.dumps({"mag": 40, "nuc": nuclei} | head))
    return path


def grid(n, step_px=60.0):
    """Places of n cells, so far apart that each finds its own partner."""
    side = int(np.ceil(np.sqrt(n)))
    return np.stack(np.divmod(np.arange(n), side), axis=1)[:, ::-1] * step_px + 100.0


@pytest.fixture
def known(tmp_path):
    """A HoVer-Net file made of known cells: jittered, a share missing, a share flipped, some of an ignored class."""
    rng = np.random.default_rng(3)
    pixel, actual = grid(400), rng.choice(TYPES, 400, p=[0.5, 0.3, 0.2])
    said = actual.copy()
    flipped = rng.choice(400, 60, replace=False)
    said[flipped] = [TYPES[(TYPES.index(kind) + 1) % 3] for kind in actual[flipped]]
    missing = rng.choice(400, 40, replace=False)
    ignored = rng.choice(np.setdiff1d(np.arange(400), missing), 10, replace=False)
    angle = rng.uniform(0, 2 * np.pi, 400)
    jitter = 3.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1) / MPP  # 3 µm
    classes = np.array([int(CLASS_OF[kind]) for kind in said])
    classes[ignored] = 0
    there = rng.permutation(np.setdiff1d(np.arange(400), missing))
    strangers = np.array([[5000.0, 5000.0], [5100.0, 5000.0]])
    xy = np.concatenate([(pixel + jitter)[there], strangers])
    path = hovernet(tmp_path / "h.json", xy, [*classes[there].tolist(), 1, 1])
    matched = np.setdiff1d(there, ignored)
    return path, pixel, actual, said, matched


def score(path, pixel, actual, called, rows=None, **change):
    rows = np.arange(len(pixel)) if rows is None else rows
    one = {"path": str(path), "format": "hovernet", "types": TABLE, "radius_um": 5.0, "scale": 1.0} | change
    found, _ = comparators.score({"it": one}, pixel, MPP, rows, actual[rows], called[rows], TYPES)
    return json.loads(json.dumps(evaluation._matched_json(found["it"]), allow_nan=False))


def test_finding_and_typing_nuclei_is_scored_over_all_that_lie_somewhere(known):
    path, pixel, actual, said, matched = known
    found = score(path, pixel, actual, actual)["detection"]
    assert found["f_d"] == pytest.approx(2 * 360 / (2 * 360 + 40 + 2)), "40 are missing, 2 lie where no cell is"
    there = np.zeros(400, bool)
    there[matched] = True
    for kind in TYPES:
        hits = (there & (actual == kind) & (said == kind)).sum()
        called, is_ = (
            (there & (one == kind) & (other != kind)).sum() for one, other in ((said, actual), (actual, said))
        )
        missing = score(path, pixel, actual, actual, weights=[0, 0, 0, 1])["detection"]["f_c"][kind]
        lost = 2 * hits / missing - 2 * hits
        ignored = (~there & (actual == kind)).sum() - lost
        strangers = 2 if kind == "Tumour" else 0
        expected = 2 * hits / (2 * hits + 2 * called + 2 * (is_ + ignored) + strangers + lost)
        assert found["f_c"][kind] == pytest.approx(expected)
    rows = np.arange(0, 400, 2)
    one = {"path": str(path), "format": "hovernet", "types": TABLE, "radius_um": 5.0, "scale": 1.0}
    half, _ = comparators.score({"it": one}, pixel, MPP, rows, actual[rows], actual[rows], TYPES, whole=False)
    assert half["it"].detection is None


def test_the_planted_confusion_comes_back_exactly(known):
    path, pixel, actual, said, matched = known
    called = np.where(np.arange(400) % 10 == 0, "Tumour", actual)
    found = score(path, pixel, actual, called)
    expected = pd.crosstab(actual[matched], said[matched]).reindex(index=TYPES, columns=TYPES, fill_value=0)
    assert found["confusion"] == {"types": TYPES, "counts": expected.to_numpy().tolist()}
    assert (found["n_objects"], found["n_matched"]) == (362, 350)
    assert found["share_matched"] == pytest.approx(350 / 400)
    ours = pd.crosstab(actual[matched], called[matched]).reindex(index=TYPES, columns=TYPES, fill_value=0)
    assert found["system"]["confusion"]["counts"] == ours.to_numpy().tolist()
    assert found["counts"] == {t: int((said[matched] == t).sum()) + 2 * (t == "Tumour") for t in TYPES}
    assert 0 < found["f1"]["weighted"] < found["system"]["f1"]["weighted"] <= 1


def test_only_scored_cells_are_scored_but_all_kept_cells_take_partners(known):
    path, pixel, actual, _, matched = known
    rows = np.arange(0, 400, 3)
    found = score(path, pixel, actual, actual, rows)
    assert found["n_matched"] == len(np.intersect1d(rows, matched))
    assert found["share_matched"] == pytest.approx(found["n_matched"] / len(rows))
    pair = np.array([[100.0, 100.0], [112.0, 100.0]])  # 3 µm apart; one object, on the first
    path = hovernet(path, [[101.0, 100.0]], [1])
    assert score(path, pair, np.array(["Tumour", "Lymphocyte"]), np.array(TYPES[:2]), np.array([1]))["n_matched"] == 0


def test_macro_over_the_types_that_a_program_can_name_stands_beside_the_full_one(known, tmp_path):
    _, pixel, actual, _, _ = known
    called = np.where(np.arange(400) % 10 == 0, "Tumour", actual)
    path = hovernet(tmp_path / "coarse.json", pixel, [1 if kind == "Tumour" else 2 for kind in actual])
    found = score(path, pixel, actual, called, types={"1": "Tumour", "2": "Lymphocyte"})
    lymphocytes, fibroblasts = (actual == "Lymphocyte").sum(), (actual == "Fibroblast").sum()
    per_class = [1.0, 2 * lymphocytes / (2 * lymphocytes + fibroblasts)]
    assert found["nameable"] == ["Tumour", "Lymphocyte"]
    assert found["f1"]["macro_nameable"] == pytest.approx(sum(per_class) / 2)
    assert found["f1"]["macro"] == pytest.approx(sum(per_class) / 3)
    ours = found["system"]["f1"]
    assert ours["macro_nameable"] == pytest.approx((ours["per_class"]["Tumour"] + ours["per_class"]["Lymphocyte"]) / 2)


def test_programs_are_compared_on_the_cells_that_all_of_them_labelled(known, tmp_path):
    path, pixel, actual, said, matched = known
    rows, called = np.arange(0, 400, 2), np.where(np.arange(400) % 10 == 0, "Tumour", actual)
    coarse = hovernet(tmp_path / "coarse.json", pixel[:300], [1 if kind == "Tumour" else 2 for kind in actual[:300]])
    one = {"format": "hovernet", "radius_um": 5.0, "scale": 1.0}
    settings = {
        "fine": one | {"path": str(path), "types": TABLE},
        "coarse": one | {"path": str(coarse), "types": {"1": "Tumour", "2": "Lymphocyte"}},
        "astray": one | {"path": str(hovernet(tmp_path / "far.json", pixel + 9999, [1] * 400)), "types": TABLE},
    }
    found, named = comparators.score(settings, pixel, MPP, rows, actual[rows], called[rows], TYPES)
    scored = pd.DataFrame({"label": actual[rows], "predicted": called[rows]}).assign(
        **{f"{evaluation.PROGRAM}{name}": named[name] for name in named}
    )
    whole = scores.evaluation("net", types=scores.type_scores(), comparators=found)
    whole.types.types = TYPES
    table = figure_data.same_cells(whole, scored)
    same = np.intersect1d(rows, matched[matched < 300])
    assert table.columns.tolist() == ["annotated", "net", "fine", "coarse"]
    assert table["annotated"].tolist() == actual[same].tolist()
    assert table["fine"].tolist() == said[same].tolist()
    bars = figure_data.f1_on_same_cells(whole, table)
    assert bars["score"].str.endswith(f"n = {len(same)}").all()
    assert bars["score"].nunique() == 3  # weighted, macro, and macro of the types that the coarse one can name
    kinds = bars.assign(kind=bars["score"].str.split("\n").str[0]).set_index(["kind", "by"])["value"]
    expected = f1_score(actual[same], said[same], average=None, labels=TYPES)
    assert kinds["macro", "fine"] == pytest.approx(expected.mean())
    assert kinds["macro of the 2", "fine"] == pytest.approx(expected[:2].mean())
    assert kinds["macro", "coarse"] < kinds["macro of the 2", "coarse"]
    alone = scores.evaluation("net")
    assert len(figure_data.same_cells(alone, scored)) == len(scored)
    assert figure_data.f1_on_same_cells(alone, figure_data.same_cells(alone, scored)).empty


def test_a_radius_below_the_jitter_matches_nothing_and_scores_are_null(known):
    path, pixel, actual, _, _ = known
    found = score(path, pixel, actual, actual, radius_um=2.9)
    assert found["n_matched"] == 0
    assert found["f1"] is found["confusion"] is found["system"] is None
    assert score(path, pixel, actual, actual, radius_um=3.001)["n_matched"] == 350


def test_a_scale_brings_other_magnifications_to_the_slide(known, tmp_path):
    path, pixel, actual, _, _ = known
    table = detections.read(path, "hovernet")
    doubled = (table[["x", "y"]].to_numpy() + 0.5) * 2 - 0.5
    again = hovernet(tmp_path / "40x.json", doubled, table["class"].astype(int).tolist())
    assert score(again, pixel, actual, actual, scale=0.5) == score(path, pixel, actual, actual)


points = hnp.arrays(float, st.tuples(st.integers(0, 25), st.just(2)), elements=st.integers(0, 12).map(float))


@settings(deadline=None, max_examples=300)
@given(points, points, st.sampled_from([0.5, 1.0, 1.5, 2.0, 5.0]))
def test_pairs_are_one_to_one_within_the_radius_and_no_better_pair_is_left(cells, found, radius):
    i, j = comparators.match(cells, found, radius)
    assert len(set(i)) == len(i) == len(j) == len(set(j))
    distance = np.hypot(*(cells[:, None] - found[None]).transpose(2, 0, 1))
    own = [np.full(len(cells), np.inf), np.full(len(found), np.inf)]
    own[0][i] = own[1][j] = distance[i, j]
    assert (distance[i, j] <= radius).all()
    better = (distance <= radius) & (distance < own[0][:, None]) & (distance < own[1][None])
    assert not better.any()


@settings(deadline=None, max_examples=200)
@given(points, points, st.randoms(use_true_random=False))
def test_the_order_of_the_points_says_nothing(cells, found, random):
    cells, found = np.unique(cells, axis=0), np.unique(found, axis=0)
    orders = [random.sample(range(len(points)), len(points)) for points in (cells, found)]
    i, j = comparators.match(cells, found, 3.0)
    k, m = comparators.match(cells[orders[0]], found[orders[1]], 3.0)
    assert dict(zip(i, j, strict=True)) == {orders[0][a]: orders[1][b] for a, b in zip(k, m, strict=True)}


def test_three_hundred_thousand_cells_are_matched_in_seconds():
    import time

    rng = np.random.default_rng(1)
    cells = rng.uniform(0, 5000, (300_000, 2))
    found = (cells + rng.normal(0, 1, cells.shape))[rng.permutation(300_000)]
    start = time.perf_counter()
    i, _ = comparators.match(cells, found, 5.0)
    assert time.perf_counter() - start < 20
    assert len(i) > 280_000


def square(x, y, half=4.0):
    return [
        [x - half, y - half],
        [x + half, y - half],
        [x + half, y + half],
        [x - half, y + half],
        [x - half, y - half],
    ]


def feature(geometry, name="Tumor", kind="detection", **more):
    properties = {"objectType": kind} | ({"classification": {"name": name, "color": [1, 2, 3]}} if name else {})
    return {"type": "Feature", "geometry": geometry, "properties": properties} | more


def polygon(x, y):
    return {"type": "Polygon", "coordinates": [square(x, y)]}


def test_qupath_cells_are_placed_by_their_nucleus_half_a_pixel_up_and_left(tmp_path):
    path = tmp_path / "q.geojson"
    region = feature({"type": "Polygon", "coordinates": [square(500, 500, 500)]}, "Tissue", "annotation")
    cell = feature(polygon(50, 60), "Immune cells", "cell", nucleusGeometry=polygon(52, 61))
    bare = feature(polygon(20, 20), None)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [region, cell, bare]}))
    found = detections.read(path, "geojson")
    assert found.to_numpy().tolist() == [[19.5, 19.5, "Unclassified"], [51.5, 60.5, "Immune cells"]]
    packed = tmp_path / "q.geojson.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    pd.testing.assert_frame_equal(detections.read(packed, "geojson"), found)


@pytest.mark.parametrize("points", [False, True])
def test_cellvit_gathers_all_cells_of_a_class_in_one_feature(tmp_path, points):
    places = {"Neoplastic": [(10, 20), (40, 20)], "Connective": [(70, 80)]}
    features = [
        feature(
            {"type": "MultiPoint", "coordinates": [list(p) for p in xy]}
            if points
            else {"type": "MultiPolygon", "coordinates": [[square(*p)] for p in xy]},
            name,
            "annotation",
        )
        for name, xy in places.items()
    ]
    path = tmp_path / "cells.geojson"
    path.write_text(json.dumps(features))
    found = detections.read(path, "geojson")
    assert found["class"].tolist() == ["Neoplastic", "Neoplastic", "Connective"]
    assert found[["x", "y"]].to_numpy().tolist() == [[9.5, 19.5], [39.5, 19.5], [69.5, 79.5]]


def test_csv_and_hovernet_say_the_same(tmp_path):
    xy, classes = grid(9), [1, 2, 0] * 3
    one = detections.read(hovernet(tmp_path / "h.json", xy, classes), "hovernet")
    shuffled = np.random.default_rng(0).permutation(9)
    table = pd.DataFrame(xy, columns=["x", "y"]).assign(score=0.5, **{"class": classes})
    table.iloc[shuffled].to_csv(tmp_path / "t.csv", index=False)
    pd.testing.assert_frame_equal(detections.read(tmp_path / "t.csv", "csv"), one)
    bare = json.loads((tmp_path / "h.json").read_text())["nuc"]
    (tmp_path / "old.json").write_text(json.dumps(bare))
    pd.testing.assert_frame_equal(detections.read(tmp_path / "old.json", "hovernet"), one)


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("hovernet", "{", "no JSON of HoVer-Net"),
        ("hovernet", "[]", "no JSON of HoVer-Net"),
        ("hovernet", '{"nuc": {}}', "no cells in it"),
        ("hovernet", '{"nuc": {"1": {"centroid": [1, 2], "type": null}}}', "1 nuclei without a type"),
        ("hovernet", '{"nuc": {"1": {"bbox": [1, 2], "type": 1}}}', "no JSON of HoVer-Net"),
        ("hovernet", '{"nuc": {"1": {"centroid": [NaN, 2], "type": 1}}}', "1 cells without a place"),
        ("geojson", '{"nuc": {}}', "no GeoJSON of features"),
        ("geojson", "[]", "no cells in it"),
        ("geojson", '[{"type": "Feature", "geometry": null, "properties": {}}]', "no cells in it"),
        ("csv", "x,y,klass\n1,2,a\n", "no column class. Did you mean klass?"),
        ("csv", "x,y,class\n1,two,a\n", "y is no number: 'two'"),
        ("csv", "x,y,class\n1,,a\n", "1 cells without a place"),
        ("csv", "x,y,class\n", "no cells in it"),
        ("csv", "", "no CSV"),
    ],
)
def test_bad_files_are_named(tmp_path, form, text, said):
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        detections.read(path, form)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)
    with pytest.raises(InputError, match="not there"):
        detections.read(tmp_path / "none", form)


def test_a_class_that_the_table_lacks_is_named_with_all_that_there_are(known):
    path, pixel, actual, _, _ = known
    with pytest.raises(InputError) as raised:
        score(path, pixel, actual, actual, types={1: "Tumour", "3": "Fibroblast", 0: None})
    said = str(raised.value)
    assert "has the class '2', which evaluate.comparators.it.types does not map" in said
    assert all(f"{name} (" in said for name in "0123")
