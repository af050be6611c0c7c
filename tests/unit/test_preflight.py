"""Bad input: each kind is named in one sentence, all at once, and nothing that came before is harmed."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import sparse
from support import bundles, slides

from shest.core.errors import Findings, InputErrors
from shest.io import xenium as heads
from shest.run import checks, estimate
from shest.run import config as settings


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return bundles.simulate(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "reference.h5ad"
    bundles.simulate_reference(path)
    return path


@pytest.fixture
def bundle(good, tmp_path):
    return bundles.copy(good, tmp_path)


def checked(bundle, he=None, alignment=None):
    found = Findings()
    head = heads.check(bundle, he or bundles.he_image(bundle), alignment or bundles.alignment(bundle), found)
    return head, found


def run_config(**change):
    config = {
        "samples": "s.tsv",
        "reference": {"path": "r.h5ad", "exclude": {"platform": ["Smart-seq2"]}, "min_shared_genes": 50},
        "cell_types": {name: {"subtypes": members} for name, members in bundles.SUBTYPES.items()},
        "train": {"min_cells": 5},
    }
    filled, problems = settings.check_config(config | change, "c.yaml")
    assert problems == []
    return filled


def sample(bundle, **change):
    row = {
        "sample": "a",
        "role": "train",
        "platform": "xenium",
        "path": str(bundle),
        "nuclei": None,
        "annotation": str(bundle / "he_annotation.csv"),
        "he_image": str(bundles.he_image(bundle)),
        "alignment": str(bundles.alignment(bundle)),
    }
    return {"a": row | change}


def test_a_good_bundle_has_no_problem_and_its_heads_are_right(good):
    head, found = checked(good)
    assert (found.problems, found.warnings) == ([], [])
    cells = pd.read_parquet(good / "cells.parquet")
    assert head.cell_ids.tolist() == cells["cell_id"].tolist()
    assert len(head.genes) == 80
    assert head.nuclei == pd.read_parquet(good / "nucleus_boundaries.parquet")["label_id"].nunique()
    assert head.cells_with_nucleus == (cells["nucleus_count"] > 0).sum()
    truth = json.loads((good / "truth/truth.json").read_text())
    assert head.he_shape == tuple(truth["he_shape"][:2])
    assert head.mpp == pytest.approx(truth["mpp"])
    assert head.version == (3, 0, 0)
    assert head.share_inside > 0.95


def remove(name):
    return lambda b: (b / name).unlink()


def text(name, content):
    return lambda b: bundles.overwrite(bundles.alignment(b) if name == "alignment" else b / name, content.encode())


def drop(name, column):
    return lambda b: bundles.set_table(b / name, lambda t: t.drop(columns=column))


def swap_rows(bundle):
    bundles.set_table(bundle / "cells.parquet", lambda t: t.iloc[::-1])


def no_genes(bundle):
    def matrix(file):
        kinds = np.full(file["matrix/shape"][0], b"Protein Expression")
        bundles.replace(file["matrix/features"], "feature_type", kinds)

    bundles.set_matrix(bundle, matrix)


def fewer_kinds(bundle):
    bundles.set_matrix(bundle, lambda f: bundles.replace(f["matrix/features"], "feature_type", np.array([b"x"])))


def other_cells(bundle):
    bundles.set_archive(bundle, lambda g: g["cell_id"].__setitem__((0, 0), 7))


def foreign_nuclei(bundle):
    path = bundle / "nucleus_boundaries.parquet"
    first = pd.read_parquet(path)["cell_id"].iloc[0]
    bundles.set_table(path, lambda t: t.assign(cell_id=t["cell_id"].replace(first, "zzzz-1")))


def exchanged_nuclei(bundle):
    path = bundle / "nucleus_boundaries.parquet"
    one, other = pd.read_parquet(path)["cell_id"].unique()[:2]
    bundles.set_table(path, lambda t: t.assign(cell_id=t["cell_id"].replace({one: other, other: one})))


def grey_image(bundle):
    bundles.he_image(bundle).unlink()
    tifffile.imwrite(bundles.he_image(bundle), np.zeros((300, 300), np.uint8), tile=(128, 128))


def broken_tile(bundle):
    path = bundles.he_image(bundle)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.series[0].levels[0].keyframe
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    content = bytearray(path.read_bytes())
    for offset, length in places:
        content[offset : offset + length] = bytes(length)
    bundles.overwrite(path, bytes(content))


def shifted(bundle):
    matrix = np.loadtxt(bundles.alignment(bundle), delimiter=",")
    matrix[0, 2] += 5000
    np.savetxt(bundle / "new.csv", matrix, delimiter=",")
    bundles.overwrite(bundles.alignment(bundle), (bundle / "new.csv").read_bytes())


BAD = {
    "no bundle": (remove("experiment.xenium"), "no Xenium bundle"),
    "specs no JSON": (text("experiment.xenium", "{"), "no JSON"),
    "specs a list": (text("experiment.xenium", "[1]"), "pixel_size is missing"),
    "pixel size a word": (lambda b: bundles.set_specs(b, pixel_size="big"), "pixel_size is missing or no size"),
    "no alignment": (lambda b: bundles.alignment(b).unlink(), "alignment of the H&E is not there"),
    "alignment of words": (text("alignment", "a,b,c\n"), "no table of numbers"),
    "alignment too short": (text("alignment", "1,0,0\n0,1,0\n"), r"not 3 by 3 finite numbers but \(2, 3\)"),
    "alignment not affine": (text("alignment", "1,0,0\n0,1,0\n0,1,1\n"), "not affine"),
    "alignment degenerate": (text("alignment", "1,1,0\n1,1,0\n0,0,1\n"), "degenerate affine"),
    "alignment NaN": (text("alignment", "1,nan,0\n1,1,0\n0,0,1\n"), "not 3 by 3 finite"),
    "alignment elsewhere": (shifted, "maps the H&E away from the cells: 0%"),
    "no H&E": (lambda b: bundles.he_image(b).unlink(), "H&E image is not there"),
    "H&E truncated": (lambda b: bundles.truncate(bundles.he_image(b), 0.6), "truncated|no TIFF"),
    "H&E empty": (lambda b: bundles.overwrite(bundles.he_image(b), b""), "no TIFF that can be read"),
    "H&E grey": (grey_image, "no 8-bit RGB image"),
    "H&E broken": (broken_tile, "its middle tile cannot be decoded"),
    "H5 truncated": (lambda b: bundles.truncate(b / "cell_feature_matrix.h5", 0.9), "cell_feature_matrix.h5: trunc"),
    "parquet truncated": (lambda b: bundles.truncate(b / "cells.parquet", 0.9), "cells.parquet: truncated"),
    "nuclei truncated": (lambda b: bundles.truncate(b / "nucleus_boundaries.parquet", 0.5), "aries.parquet: truncated"),
    "zarr truncated": (lambda b: bundles.truncate(b / "cells.zarr.zip", 0.9), "cells.zarr.zip: truncated"),
    "no zarr": (remove("cells.zarr.zip"), "cells.zarr.zip: not there"),
    "no cells": (remove("cells.parquet"), "cells.parquet: not there"),
    "no matrix": (remove("cell_feature_matrix.h5"), "cell_feature_matrix.h5: not there"),
    "no nuclei": (remove("nucleus_boundaries.parquet"), "nucleus_boundaries.parquet: not there"),
    "no cell_id": (drop("cells.parquet", "cell_id"), "cells.parquet: no column cell_id"),
    "no centroid": (drop("cells.parquet", "x_centroid"), "no column x_centroid. Did you mean y_centroid"),
    "no vertices": (drop("nucleus_boundaries.parquet", "vertex_y"), "no column vertex_y. Did you mean vertex_x"),
    "rows cut": (lambda b: bundles.set_table(b / "cells.parquet", lambda t: t.iloc[:0]), "cells.parquet: no rows"),
    "cells twice": (
        lambda b: bundles.set_table(b / "cells.parquet", lambda t: t.assign(cell_id=t["cell_id"].iloc[0])),
        "cell ids stand there twice",
    ),
    "nuclei of no cell": (foreign_nuclei, "1 nuclei of cells that are not in cells.parquet"),
    "nuclei exchanged": (exchanged_nuclei, "nuclei do not belong to the cells"),
    "other cells in zarr": (other_cells, "cells.zarr.zip: 120 cells, 1 of them not among the 120"),
    "no Gene Expression": (no_genes, "no features of type Gene Expression .there are: Protein Expression"),
    "features of two lengths": (fewer_kinds, "its parts do not fit each other"),
    "early 2.0.0": (bundles.layout_early_2, "an early version 2.0.0"),
    "version against layout": (
        lambda b: bundles.set_specs(b, analysis_sw_version="xenium-1.9.0"),
        "layout of version 2.0 or later, but experiment.xenium says 1.9.0",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_each_bad_file_is_named_in_one_sentence(bundle, kind):
    spoil, said = BAD[kind]
    spoil(bundle)
    _, found = checked(bundle)
    with pytest.raises(InputErrors, match=said):
        found.stop()
    names = {problem.path for problem in found.problems}
    assert len(found.problems) == len(names) == 1, found.problems
    assert str(bundle) in names.pop()
    assert all("\n" not in str(problem) and problem.remedy for problem in found.problems)


def test_cells_in_another_order_are_said_for_both_other_files(bundle):
    swap_rows(bundle)
    said = [str(problem) for problem in checked(bundle)[1].problems]
    assert len(said) == 2
    assert all("names the cells in another order than cells.parquet" in sentence for sentence in said)


def test_the_inverse_alignment_is_recognised(bundle):
    path = bundles.alignment(bundle)
    inverse = np.linalg.inv(np.loadtxt(path, delimiter=","))
    path.unlink()
    np.savetxt(path, inverse, delimiter=",")
    (problem,) = checked(bundle)[1].problems
    assert "maps the H&E away from the cells" in problem.problem
    assert "Its inverse puts 98% there" in problem.remedy


def test_an_odd_scale_and_a_version_to_come_are_warnings(bundle):
    bundles.set_specs(bundle, analysis_sw_version="xenium-7.1.0", pixel_size=2.125)
    _, found = checked(bundle)
    said = "\n".join(map(str, found.warnings))
    assert "Xenium Onboard Analysis 7.1.0 is newer than 4.x" in said
    assert "makes an H&E pixel 2.74 by 2.73 µm" in said


LAYOUTS = {
    "1.9": bundles.layout_1,
    "2.0": bundles.layout_2,
    "3.0": lambda b: None,
    "4.0": bundles.layout_4,
    "4.0 R&D": lambda b: bundles.layout_4(b, version="R&D"),
    "1.9 R&D": lambda b: bundles.layout_1(b, version="R&D"),
    "resegmented": bundles.resegmented,
    "1.0": bundles.layout_before_1_3,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_with_the_right_cell_for_each_nucleus(bundle, layout, tmp_path):
    from shest.io import ingest, store

    owners = pd.read_parquet(bundle / "nucleus_boundaries.parquet").drop_duplicates("label_id")
    cells = pd.read_parquet(bundle / "cells.parquet")["cell_id"].to_numpy()
    LAYOUTS[layout](bundle)
    head, found = checked(bundle)
    assert found.problems == []
    assert bool(found.warnings) == ("R&D" in layout)
    sdata, facts = ingest.read_bundle(bundle, bundles.he_image(bundle), bundles.alignment(bundle))
    ingest.write_store(sdata, tmp_path / "sdata.zarr")
    if layout.startswith("1."):
        owners = owners.drop_duplicates("cell_id")
    expected = owners["cell_id"].to_numpy()
    if layout == "1.0":
        number = dict(zip(cells, np.arange(1, 121).astype(str), strict=True))
        expected, cells = [number[c] for c in expected], list(number.values())
    assert store.read_cell_ids(tmp_path / "sdata.zarr").tolist() == list(cells) == head.cell_ids.tolist()
    ids, outlines = store.read_nuclei(tmp_path / "sdata.zarr")
    assert ids.tolist() == list(expected)
    assert (facts["cells"], facts["genes"], facts["nuclei"]) == (120, 80, len(expected))
    corner = pd.read_parquet(bundle / "nucleus_boundaries.parquet")[["vertex_x", "vertex_y"]].iloc[0]
    assert outlines[0].exterior.coords[0] == pytest.approx(corner.to_numpy())


def change_reference(path, tmp_path, change):
    data = ad.read_h5ad(path)
    data = change(data) or data
    data.write_h5ad(tmp_path / "r.h5ad")
    return tmp_path / "r.h5ad"


def with_raw(data):
    data.raw = data
    data.X = data.X.log1p()


def fractions_left_out(data):
    values = data.X.toarray()
    values[data.obs["platform"] == "Smart-seq2"] = 0.5
    data.X = sparse.csr_matrix(values)


def as_layer(data):
    data.layers["counts"] = data.X.copy()
    data.X = data.X.log1p()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (with_raw, "auto"),
        (fractions_left_out, "auto"),
        (as_layer, "counts"),
        (lambda d: setattr(d, "X", d.X.toarray()), "X"),
        (lambda d: setattr(d, "X", d.X.tocsc()), "X"),
    ],
)
def test_counts_of_a_reference_are_found_where_they_are(reference, tmp_path, change, where):
    path, found = change_reference(reference, tmp_path, change), Findings()
    known = checks.read_reference(path, run_config()["reference"] | {"counts": where}, found)
    assert found.problems == []
    assert known.values > 0
    assert known.subtypes["Macrophage"] > 0


def rename(frame, old):
    return lambda d: getattr(d, frame).rename(columns={old: "x"}, inplace=True)


def labels(values):
    return lambda d: d.obs.__setitem__("cell_type_tumor", values(d.n_obs))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: setattr(d, "X", d.X.log1p()), "no whole numbers"),
        (lambda d: setattr(d, "X", d.X.log1p().toarray()), "no whole numbers"),
        (lambda d: setattr(d, "X", d.X.log1p().tocsc()), None),
        (lambda d: setattr(d, "X", -d.X), "no whole numbers"),
        (rename("obs", "cell_type_tumor"), "no column cell_type_tumor in obs"),
        (rename("obs", "platform"), "no column platform in obs"),
        (rename("var", "feature_name"), "no column feature_name in var"),
        (labels(lambda n: [np.nan, *["a"] * (n - 2), "b"]), "1 cells have no cell_type_tumor"),
        (labels(lambda n: ["a"] * n), "fewer than two labels"),
        (lambda d: d.var.__setitem__("feature_name", "G1"), "stand there twice: G1"),
    ],
)
def test_bad_references_are_named(reference, tmp_path, change, said):
    path, found = change_reference(reference, tmp_path, change), Findings()
    checks.read_reference(path, run_config()["reference"], found)
    assert len(found.problems) == (said is not None)  # by column, with cells left out, nothing can be told
    assert said is None or said in str(found.problems[0])


def test_values_by_column_are_looked_at_where_no_cell_is_left_out(reference, tmp_path):
    path, found = change_reference(reference, tmp_path, lambda d: setattr(d, "X", d.X.log1p().tocsc())), Findings()
    checks.read_reference(path, run_config()["reference"] | {"exclude": {}}, found)
    assert "no whole numbers" in str(found.problems[0])


def test_all_problems_of_a_reference_are_said_at_once(reference, tmp_path):
    def spoil(data):
        data.X = data.X.log1p()
        rename("obs", "cell_type_tumor")(data)
        rename("var", "feature_name")(data)

    found = Findings()
    checks.read_reference(change_reference(reference, tmp_path, spoil), run_config()["reference"], found)
    assert len(found.problems) == 3


@pytest.mark.parametrize(
    ("spoil", "said"), [(lambda p: p.unlink(), "is not there"), (lambda p: bundles.truncate(p, 0.7), "no AnnData file")]
)
def test_a_reference_that_is_missing_or_broken(reference, tmp_path, spoil, said):
    path, found = tmp_path / "r.h5ad", Findings()
    path.write_bytes(reference.read_bytes())
    spoil(path)
    checks.read_reference(path, run_config()["reference"], found)
    assert len(found.problems) == 1
    assert said in str(found.problems[0])


def run(bundle, h5ad, tmp_path, **change):
    return checks.check_run(sample(bundle), str(h5ad), run_config(**change), str(tmp_path / "out"))


def test_a_good_run_says_what_it_needs(good, reference, tmp_path):
    record, found = run(good, reference, tmp_path)
    assert found.problems == []
    need = record["needs"]
    once = need["passes"]["morphometrics"]["once"]
    assert once == record["samples"]["a"]["nuclei"] - 2  # two cells have two nuclei
    assert need["disk"]["tiles"] / once == pytest.approx(3 * (16 / 0.2738) ** 2 + 1568, rel=0.01)
    assert need["memory"]["blocks"] > 1e9
    lines = "\n".join(checks.describe(record, str(tmp_path)))
    for word in ("120 cells", "reference: ", "disk: about", "memory: about", "passes through", "CPU cores", "a GPU"):
        assert word in lines


def test_too_few_shared_genes(good, reference, tmp_path):
    _, found = run(good, reference, tmp_path, reference={"path": "r", "symbol_key": "index"})
    assert len(found.problems) == 1
    assert "shares 0 of 80 genes with sample a" in str(found.problems[0])
    assert "ENSGSIM" in str(found.problems[0])


def test_subtypes_that_the_reference_does_not_have(good, reference, tmp_path):
    types = {name: {"subtypes": list(members)} for name, members in bundles.SUBTYPES.items()}
    types["Macrophage"]["subtypes"] = ["Macrophages"]
    types["Lymphocyte"]["subtypes"].append("B cells")
    _, found = run(good, reference, tmp_path, cell_types=types, annotate={"prior": {"B cell": 1, "Plasma": 2}})
    said = "\n".join(map(str, found.problems))
    assert "cell_types.Macrophage: the reference has none of its subtypes (Macrophages). Did you mean Macroph" in said
    assert "annotate.prior: the reference has no subtype Plasma. Did you mean Plasma cell?" in said
    assert len(found.problems) == 2
    assert "has no subtype B cells. Did you mean B cell?" in str(found.warnings[0])


def write_table(bundle, change):
    table = change(pd.read_csv(bundle / "he_annotation.csv", dtype=str))
    bundles.overwrite(bundle / "he_annotation.csv", table.to_csv(index=False).encode())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.rename(columns={"group": "type"}), "no column group"),
        (lambda t: pd.concat([t, t.iloc[:2]]), "2 cells stand there twice"),
        (lambda t: t.assign(cell_id=[*t["cell_id"][1:], "nobody-1"]), "1 cells that the bundle does not have"),
        (lambda t: t.assign(group=t["group"].replace("Macrophage", "Macrofage")), "Did you mean Macrophage?"),
        (lambda t: t.assign(group=t["group"].where(t["group"] == "Lymphocyte")), "fewer than two types with 5 cells"),
        (lambda t: t.iloc[:0], "fewer than two types with 5 cells"),
    ],
)
def test_bad_tables_are_named(bundle, reference, tmp_path, change, said):
    write_table(bundle, change)
    _, found = run(bundle, reference, tmp_path)
    assert [said in str(problem) for problem in found.problems] == [True]


def test_cells_without_a_group_are_no_problem(bundle, reference, tmp_path):
    write_table(bundle, lambda t: t.assign(group=t["group"].where(t.index % 7 > 0)))
    assert run(bundle, reference, tmp_path)[1].problems == []


def test_too_little_disk_counts_what_is_there(good, reference, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "free_bytes", lambda folder: 1000)
    _, found = run(good, reference, tmp_path)
    assert len(found.problems) == 1
    assert "the run will write about" in str(found.problems[0])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tiles").write_bytes(bytes(20_000_000))
    assert run(good, reference, tmp_path)[1].problems == []


def test_encoders_without_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    own = {"name": "own", "architecture": "resnet50", "features": 2048, "weights": str(tmp_path)}
    chosen = ["morphometrics", "h-optimus-0", own, "h-optimus-1", own | {"name": "gone", "weights": "/no/file"}]
    found = Findings()
    costs = checks.check_encoders(chosen, found)
    said = [str(problem) for problem in found.problems]
    assert len(said) == 3
    assert "no model.safetensors in this folder" in said[0]
    assert "h-optimus-1: not a known encoder" in said[1]
    assert "/no/file: the weights of gone are not there" in said[2]
    assert ["H-optimus-0" in str(w) and "HF_TOKEN" in str(w) for w in found.warnings] == [True]
    assert [cost.name for cost in costs] == ["morphometrics", "h-optimus-0", "own", "gone"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = Findings()
    checks.check_encoders(["h-optimus-0"], found)
    assert "HF_HUB_OFFLINE is set" in str(found.problems[0])
    file = tmp_path / "hub/models--bioptimus--H-optimus-0/snapshots/abc/model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x" * 10)
    found = Findings()
    assert checks.check_encoders(["h-optimus-0"], found)[0].weights_bytes == 10
    assert (found.problems, found.warnings) == ([], [])


def test_other_systems_labels_are_read_and_their_classes_held_against_the_config(tmp_path):
    (tmp_path / "good.csv").write_text("x,y,class\n1,2,tumor\n3,4,other\n")
    (tmp_path / "bad.csv").write_text("x,y\n1,2\n")
    common = {"format": "csv", "scale": 1, "radius_um": 5}
    chosen = {
        "a": {
            "one": common | {"path": str(tmp_path / "good.csv"), "types": {"tumor": "A", "other": None}},
            "two": common | {"path": str(tmp_path / "good.csv"), "types": {"tumour": "A"}},
        },
        "b": {"one": common | {"path": str(tmp_path / "bad.csv"), "types": {"tumor": "A"}}},
    }
    found = Findings()
    checks.check_comparators(chosen, found)
    said = [str(problem) for problem in found.problems]
    assert len(said) == 2
    assert "'tumor', 'other', which evaluate.comparators.two.types does not map" in said[0]
    assert "bad.csv: no column class" in said[1]


def slide(tmp_path, nuclei):
    path = slides.tiff(tmp_path / "slide.tif", (300, 200))
    if nuclei is not None:
        (tmp_path / "nuclei.geojson").write_text(nuclei)
    return {
        "path": str(path),
        "platform": "slide",
        "role": "predict",
        "nuclei": None if nuclei is None else str(tmp_path / "nuclei.geojson"),
    }


POLYGON = '{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [30, 0], [0, 30], [0, 0]]]}}'


@pytest.mark.parametrize("nuclei", [f'{{"type": "FeatureCollection", "features": [{POLYGON}]}}', f"[{POLYGON}]"])
def test_a_plain_slide_with_outlines_is_right(tmp_path, nuclei):
    found = Findings()
    head = checks.check_slide(slide(tmp_path, nuclei), found)
    assert found.problems == []
    assert (head.he_shape, head.nuclei) == ((300, 200), 1)


@pytest.mark.parametrize(
    ("nuclei", "said"),
    [(None, "without outlines"), ("{", "no GeoJSON"), ("[]", "no polygons among its 0"), ("[3]", "no GeoJSON")],
)
def test_a_plain_slide_without_outlines_says_how_to_make_them(tmp_path, nuclei, said):
    found = Findings()
    checks.check_slide(slide(tmp_path, nuclei), found)
    assert [said in str(p) and "QuPath" in str(p) for p in found.problems] == [True]


def test_several_problems_of_several_files_are_all_said(bundle, reference, tmp_path):
    bundles.truncate(bundles.he_image(bundle), 0.5)
    bundles.overwrite(bundles.alignment(bundle), b"1,2\n")
    drop("cells.parquet", "y_centroid")(bundle)
    write_table(bundle, lambda t: t.assign(group="Macrofage"))
    path = change_reference(reference, tmp_path, lambda d: setattr(d, "X", d.X.log1p()))
    _, found = run(bundle, path, tmp_path, encoders=["h-optimus-1"])
    with pytest.raises(InputErrors) as raised:
        found.stop()
    message = str(raised.value)
    for word in ("he_image.ome.tif", "not 3 by 3", "y_centroid", "Macrofage", "no whole numbers", "h-optimus-1"):
        assert word in message
    assert message.startswith(f"{len(found.problems)} problems in the input:\n  1. ")


def test_needs_follow_the_formulas():
    sizes = {"a": estimate.Size("train", 1000, 50, 9000, (1000, 2000), 0.25), "b": estimate.Size("validation", 500)}
    vit = estimate.Encoder("vit", 1536, 608.0)
    assert estimate.passes(sizes, vit, 1, 0.2) == {"once": 1500, "further": 0, "authors": 40 * 1000}
    assert estimate.passes(sizes, vit, "sampled", 0.2)["further"] == 700
    assert estimate.passes(sizes, vit, 8, 0.2)["further"] == 5600
    assert estimate.passes(sizes, estimate.Encoder("morphometrics", 90), 8, 0.2)["further"] == 0
    config = run_config(train={"views": 8}, protocols=["strict"])
    assert estimate.disk_bytes(sizes, [vit], config)["embeddings"] == 2 * 1536 * 7100
    cpu, gpu = estimate.seconds(sizes, [vit], config, 2).values()
    assert cpu > 7100 * 608 / 100 / 2 > gpu
    assert estimate.seconds(sizes, [estimate.Encoder("own", 10)], config, 2) == {"cpu": None, "gpu": None}
    assert estimate.say_bytes(4.5e9) == "4.5 GB"
    assert [estimate.say_seconds(s) for s in (50, 600, 20000, None)] == [
        "50 s",
        "10 min",
        "6 h",
        estimate.say_seconds(None),
    ]
