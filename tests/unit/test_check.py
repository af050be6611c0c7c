"""Bad input: each kind is named in one sentence, all at once, and nothing that came before is harmed."""

import json
import re
import shutil
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from scipy import sparse
from support import bundles, slides

from shest.core.errors import Findings, InputErrors
from shest.core.units import format_seconds
from shest.encode.spec import complete
from shest.io import detections, ingest, sample_checks, store
from shest.io.xenium_files import BUNDLE_FILES
from shest.labels import checks
from shest.run import check, estimate, run_inputs
from shest.run import config as settings
from shest.simulate.spec import BUNDLE_FILES as SIMULATED_FILES


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return bundles.simulate(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "reference.h5ad"
    bundles.simulate_reference(path)
    return path


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """A bundle whose H&E is turned."""
    return bundles.simulate(tmp_path_factory.mktemp("turned"), rotation=131.0)


@pytest.fixture
def bundle(good, tmp_path):
    return bundles.copy(good, tmp_path)


def checked(bundle, he=None, alignment=None):
    findings = Findings()
    arguments = he or bundles.he_image(bundle), alignment or bundles.alignment(bundle), findings
    return sample_checks.check_bundle(bundle, *arguments), findings


def run_config(**change):
    config = {
        "samples": "s.tsv",
        "reference": {"path": "r.h5ad", "exclude": {"platform": ["Smart-seq2"]}, "min_shared_genes": 50},
        "cell_types": {name: {"subtypes": members} for name, members in bundles.SUBTYPES.items()},
        "train": {"min_cells": 5},
    }
    findings = Findings()
    filled = settings.check_config(config | change, "c.yaml", findings)
    assert findings.problems == []
    return filled


def sample(bundle, **change):
    row = {
        "sample": "a",
        "role": "train",
        "platform": "xenium",
        "path": str(bundle),
        "nuclei": None,
        "aligned": False,
        "annotation": str(bundle / "he_annotation.csv"),
        "he_image": str(bundles.he_image(bundle)),
        "alignment": str(bundles.alignment(bundle)),
    }
    return {"a": row | change}


def test_a_good_bundle_has_no_problem_and_its_header_is_right(good):
    header, findings = checked(good)
    assert (findings.problems, findings.warnings) == ([], [])
    cells = pd.read_parquet(good / "cells.parquet")
    assert header.cell_ids.tolist() == cells["cell_id"].tolist()
    assert len(header.genes) == 80
    assert header.nuclei == pd.read_parquet(good / "nucleus_boundaries.parquet")["label_id"].nunique()
    assert header.cells_with_nucleus == (cells["nucleus_count"] > 0).sum()
    truth = json.loads((good / "truth/truth.json").read_text())
    assert header.he_shape == tuple(truth["he_shape"][:2])
    assert header.mpp == pytest.approx(truth["mpp"])
    assert header.version == (3, 0, 0)
    assert header.share_inside > 0.95


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
    spoil, message = BAD[kind]
    spoil(bundle)
    _, findings = checked(bundle)
    with pytest.raises(InputErrors, match=message):
        findings.stop()
    names = {problem.path for problem in findings.problems}
    assert len(findings.problems) == len(names) == 1, findings.problems
    assert str(bundle) in names.pop()
    assert all("\n" not in str(problem) and problem.remedy for problem in findings.problems)


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
    _, findings = checked(bundle)
    said = "\n".join(map(str, findings.warnings))
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
    owners = pd.read_parquet(bundle / "nucleus_boundaries.parquet").drop_duplicates("label_id")
    cells = pd.read_parquet(bundle / "cells.parquet")["cell_id"].to_numpy()
    LAYOUTS[layout](bundle)
    header, findings = checked(bundle)
    assert findings.problems == []
    assert bool(findings.warnings) == ("R&D" in layout)
    sdata, facts = ingest.read_bundle(bundle, bundles.he_image(bundle), bundles.alignment(bundle))
    ingest.write_store(sdata, tmp_path / "sdata.zarr")
    if layout.startswith("1."):
        owners = owners.drop_duplicates("cell_id")
    expected = owners["cell_id"].to_numpy()
    if layout == "1.0":
        number = dict(zip(cells, np.arange(1, 121).astype(str), strict=True))
        expected, cells = [number[c] for c in expected], list(number.values())
    assert store.read_cell_ids(tmp_path / "sdata.zarr").tolist() == list(cells) == header.cell_ids.tolist()
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
    path, findings = change_reference(reference, tmp_path, change), Findings()
    known = checks.read_reference(path, run_config()["reference"] | {"counts": where}, findings)
    assert findings.problems == []
    assert known.values > 0
    assert known.subtypes["Macrophage"] > 0


def rename(frame, old):
    return lambda d: getattr(d, frame).rename(columns={old: "x"}, inplace=True)


def labels(values):
    return lambda d: d.obs.__setitem__("cell_type_tumor", values(d.n_obs))


def same_symbols(data):
    data.var["feature_name"] = "G1"
    data.var_names = [f"gene {i}" for i in range(data.n_vars)]


@pytest.mark.parametrize(
    ("change", "message"),
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
        (same_symbols, "stand there twice: G1"),
    ],
)
def test_bad_references_are_named(reference, tmp_path, change, message):
    path, findings = change_reference(reference, tmp_path, change), Findings()
    checks.read_reference(path, run_config()["reference"], findings)
    assert len(findings.problems) == (message is not None)  # by column, with cells left out, nothing can be told
    assert message is None or message in str(findings.problems[0])


def test_values_by_column_are_looked_at_where_no_cell_is_left_out(reference, tmp_path):
    path, findings = change_reference(reference, tmp_path, lambda d: setattr(d, "X", d.X.log1p().tocsc())), Findings()
    checks.read_reference(path, run_config()["reference"] | {"exclude": {}}, findings)
    assert "no whole numbers" in str(findings.problems[0])


def test_all_problems_of_a_reference_are_said_at_once(reference, tmp_path):
    def spoil(data):
        data.X = data.X.log1p()
        rename("obs", "cell_type_tumor")(data)
        rename("var", "feature_name")(data)

    findings = Findings()
    checks.read_reference(change_reference(reference, tmp_path, spoil), run_config()["reference"], findings)
    assert len(findings.problems) == 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(lambda p: p.unlink(), "is not there"), (lambda p: bundles.truncate(p, 0.7), "no AnnData file")],
)
def test_a_reference_that_is_missing_or_broken(reference, tmp_path, spoil, message):
    path, findings = tmp_path / "r.h5ad", Findings()
    path.write_bytes(reference.read_bytes())
    spoil(path)
    checks.read_reference(path, run_config()["reference"], findings)
    assert len(findings.problems) == 1
    assert message in str(findings.problems[0])


def inputs_of(bundle, h5ad, tmp_path, row=None, **change):
    paths = settings.Paths(tmp_path, str(tmp_path / "out"), str(tmp_path / "data"))
    return run_inputs.RunInputs(run_config(**change), paths, sample(bundle, **(row or {})), str(h5ad), {"a": {}})


def run(bundle, h5ad, tmp_path, **change):
    findings = Findings()
    return check.check_run(inputs_of(bundle, h5ad, tmp_path, **change), findings), findings


def test_a_good_run_says_what_it_needs(good, reference, tmp_path):
    findings, lines = Findings(), []
    checked_run = check.check_run(inputs_of(good, reference, tmp_path), findings, lines.append)
    assert findings.problems == []
    need = checked_run.needs
    once = need["passes"]["morphometrics"]["once"]
    assert once == checked_run.headers["a"].nuclei - 2  # two cells have two nuclei
    assert need["disk"]["tiles"] / once == pytest.approx(3 * (16 / 0.2738) ** 2 + 1568, rel=0.01)
    assert need["memory"]["blocks"] > 1e9
    lines = "\n".join([*lines, *check.describe_needs(need, str(tmp_path))])
    for word in ("120 cells", "reference: ", "disk: about", "memory: about", "passes through", "CPU cores", "a GPU"):
        assert word in lines


def mirrored(bundle):
    matrix = np.loadtxt(bundles.alignment(bundle), delimiter=",")
    with tifffile.TiffFile(bundles.he_image(bundle)) as tiff:
        return matrix @ np.array([[-1, 0, tiff.series[0].shape[1] - 1], [0, 1, 0], [0, 0, 1]])


def moved(bundle):
    return np.array([[1, 0, 30 / 0.2125], [0, 1, 0], [0, 0, 1]]) @ np.loadtxt(bundles.alignment(bundle), delimiter=",")


@pytest.mark.parametrize("wrong", [bundles.identity, mirrored, moved])
def test_an_alignment_that_puts_nuclei_where_the_image_shows_none_is_refused(turned, reference, tmp_path, wrong):
    bundle = bundles.copy(turned, tmp_path)
    path = bundles.alignment(bundle)
    bundles.set_alignment(bundle, wrong(bundle))
    assert checked(bundle)[1].problems == []  # its files are sound
    lines, findings = [], Findings()
    check.check_run(inputs_of(bundle, reference, tmp_path), findings, lines.append)
    [problem] = findings.problems
    assert problem.path == str(path)
    assert "the H&E does not show the nuclei where the alignment puts them" in problem.problem
    assert "register.method: estimate" in problem.remedy
    insisted = run(bundle, reference, tmp_path, register={"insist": True})[1]
    assert insisted.problems == []
    assert any("by chance" in warning.problem for warning in insisted.warnings)


def test_a_bundle_whose_alignment_is_to_be_found_is_checked_without(bundle, reference, tmp_path):
    found = {"aligned": True, "alignment": str(tmp_path / "to_be_found.csv"), "mpp": None}
    run_of, findings = run(bundle, reference, tmp_path, row=found)
    assert findings.problems == []
    assert run_of.sizes["a"].cells == run_of.headers["a"].cells_with_nucleus
    assert run_of.headers["a"].mpp[0] == pytest.approx(0.2738, rel=0.01)
    bundles.truncate(bundle / "cells.zarr.zip", 0.9)
    [problem] = run(bundle, reference, tmp_path, row=found)[1].problems
    assert "cells.zarr.zip: truncated" in str(problem)


def without_ids(file):
    names = file["matrix/features/name"][:]
    del file["matrix/features/id"]
    file["matrix/features/id"] = names


def test_how_many_genes_are_joined_and_by_what_is_said(good, reference, tmp_path):
    plain = bundles.copy(good, tmp_path)
    bundles.set_matrix(plain, without_ids)
    for bundle, said in ((good, "80 by Ensembl id, 0 by symbol"), (plain, "0 by Ensembl id, 80 by symbol")):
        lines = []
        check.check_run(inputs_of(bundle, reference, tmp_path), Findings(), lines.append)
        assert f"a and the reference: 80 of 80 genes joined: {said}; 0 not" in lines


def test_ids_join_genes_whatever_their_symbols_are(good, reference, tmp_path):
    _, findings = run(good, reference, tmp_path, reference={"path": "r", "symbol_key": "index"})
    assert findings.problems == []


def test_too_few_shared_genes(good, reference, tmp_path):
    good = bundles.copy(good, tmp_path)
    bundles.set_matrix(good, without_ids)
    _, findings = run(good, reference, tmp_path, reference={"path": "r", "symbol_key": "index"})
    assert len(findings.problems) == 1
    assert "shares 0 of 80 genes with sample a" in str(findings.problems[0])
    assert "ENSGSIM" in str(findings.problems[0])


def test_subtypes_that_the_reference_does_not_have(good, reference, tmp_path):
    types = {name: {"subtypes": list(members)} for name, members in bundles.SUBTYPES.items()}
    types["Macrophage"]["subtypes"] = ["Macrophages"]
    types["Lymphocyte"]["subtypes"].append("B cells")
    _, findings = run(good, reference, tmp_path, cell_types=types, annotate={"prior": {"B cell": 1, "Plasma": 2}})
    said = "\n".join(map(str, findings.problems))
    assert "cell_types.Macrophage: the reference has none of its subtypes (Macrophages). Did you mean Macroph" in said
    assert "annotate.prior: the reference has no subtype Plasma. Did you mean Plasma cell?" in said
    assert len(findings.problems) == 2
    assert "has no subtype B cells. Did you mean B cell?" in str(findings.warnings[0])


def write_table(bundle, change):
    table = change(pd.read_csv(bundle / "he_annotation.csv", dtype=str))
    bundles.overwrite(bundle / "he_annotation.csv", table.to_csv(index=False).encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.rename(columns={"group": "type"}), "no column group"),
        (lambda t: pd.concat([t, t.iloc[:2]]), "2 cells stand there twice"),
        (lambda t: t.assign(cell_id=[*t["cell_id"][1:], "nobody-1"]), "1 cells that the bundle does not have"),
        (lambda t: t.assign(group=t["group"].replace("Macrophage", "Macrofage")), "Did you mean Macrophage?"),
        (lambda t: t.assign(group=t["group"].where(t["group"] == "Lymphocyte")), "fewer than two types with 5 cells"),
        (lambda t: t.iloc[:0], "fewer than two types with 5 cells"),
    ],
)
def test_bad_tables_are_named(bundle, reference, tmp_path, change, message):
    write_table(bundle, change)
    _, findings = run(bundle, reference, tmp_path)
    assert [message in str(problem) for problem in findings.problems] == [True]


def test_cells_without_a_group_are_no_problem(bundle, reference, tmp_path):
    write_table(bundle, lambda t: t.assign(group=t["group"].where(t.index % 7 > 0)))
    assert run(bundle, reference, tmp_path)[1].problems == []


def test_too_little_disk_counts_what_is_there(good, reference, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "free_bytes", lambda folder: 1000)
    _, findings = run(good, reference, tmp_path)
    assert len(findings.problems) == 1
    assert "the run will write about" in str(findings.problems[0])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tiles").write_bytes(bytes(20_000_000))
    assert run(good, reference, tmp_path)[1].problems == []


def test_encoders_without_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    own = {"name": "own", "architecture": "resnet50", "features": 2048, "weights": str(tmp_path)}
    chosen = ["morphometrics", "h-optimus-0", own, own | {"name": "gone", "weights": "/no/file"}]
    findings = Findings()
    costs = check.check_encoders([complete(entry) for entry in chosen], findings)
    problems = [str(problem) for problem in findings.problems]
    assert len(problems) == 2
    assert "no model.safetensors in this folder" in problems[0]
    assert "/no/file: the weights of gone are not there" in problems[1]
    assert ["H-optimus-0" in str(w) and "HF_TOKEN" in str(w) for w in findings.warnings] == [True]
    assert [cost.name for cost in costs] == ["morphometrics", "h-optimus-0", "own", "gone"]
    assert [cost.dim for cost in costs] == [87, 1536, 2048, 2048]
    assert [cost.gflop for cost in costs] == [None, 608, 8.2, 8.2]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    findings = Findings()
    check.check_encoders([complete("h-optimus-0")], findings)
    assert "HF_HUB_OFFLINE is set" in str(findings.problems[0])
    file = tmp_path / "hub/models--bioptimus--H-optimus-0/snapshots/abc/model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x" * 10)
    findings = Findings()
    assert check.check_encoders([complete("h-optimus-0")], findings)[0].weights_bytes == 10
    assert (findings.problems, findings.warnings) == ([], [])


def test_other_systems_labels_are_read_and_their_classes_held_against_the_config(tmp_path):
    (tmp_path / "good.csv").write_text("x,y,class\n1,2,tumor\n3,4,other\n")
    (tmp_path / "bad.csv").write_text("x,y\n1,2\n")
    common = {"format": "csv", "scale": 1, "radius_um": 5}
    good = common | {"path": str(tmp_path / "good.csv")}
    comparators = {
        "one": good | {"types": {"tumor": "A", "other": None}},
        "two": good | {"types": {"tumour": "A"}},
        "three": common | {"path": str(tmp_path / "bad.csv"), "types": {"tumor": "A"}},
    }
    findings = Findings()
    counts = detections.check(comparators, findings)
    problems = [str(problem) for problem in findings.problems]
    assert counts["one"] == {"cells": {"other": 1, "tumor": 1}}
    assert len(problems) == 2
    assert "'tumor', 'other', which evaluate.comparators.two.types does not map" in problems[0]
    assert "bad.csv: no column class" in problems[1]


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
    findings = Findings()
    header = sample_checks.check_sample(slide(tmp_path, nuclei), findings)
    assert findings.problems == []
    assert (header.he_shape, header.nuclei) == ((300, 200), 1)


@pytest.mark.parametrize(
    ("nuclei", "message"), [("{", "no GeoJSON"), ("[]", "no polygons among its 0"), ("[3]", "no GeoJSON")]
)
def test_outlines_that_are_none_say_how_to_make_them(tmp_path, nuclei, message):
    findings = Findings()
    sample_checks.check_sample(slide(tmp_path, nuclei), findings)
    assert [message in str(p) and "QuPath" in str(p) for p in findings.problems] == [True]


def test_a_plain_slide_without_outlines_has_them_found(tmp_path):
    findings = Findings()
    header = sample_checks.check_sample(slide(tmp_path, None), findings)
    assert (findings.problems, header.he_shape, header.nuclei) == ([], (300, 200), None)


def test_several_problems_of_several_files_are_all_said(bundle, reference, tmp_path):
    bundles.truncate(bundles.he_image(bundle), 0.5)
    bundles.overwrite(bundles.alignment(bundle), b"1,2\n")
    drop("cells.parquet", "y_centroid")(bundle)
    write_table(bundle, lambda t: t.assign(group="Macrofage"))
    path = change_reference(reference, tmp_path, lambda d: setattr(d, "X", d.X.log1p()))
    own = {"name": "own", "architecture": "vit", "features": 8, "weights": "/no/file"}
    _, findings = run(bundle, path, tmp_path, encoders=[own])
    with pytest.raises(InputErrors) as raised:
        findings.stop()
    message = str(raised.value)
    for word in ("he_image.ome.tif", "not 3 by 3", "y_centroid", "Macrofage", "no whole numbers", "weights of own"):
        assert word in message
    assert message.startswith(f"{len(findings.problems)} problems in the input:\n  1. ")


def test_the_estimate_follows_the_formulas():
    sizes = {
        "a": estimate.SampleSize("train", 1000, 50, 9000, (1000, 2000), 0.25),
        "b": estimate.SampleSize("validation", 500),
    }
    vit, own = estimate.EncoderCost("vit", 1536, 608.0), estimate.EncoderCost("own", 10)
    assert estimate.passes(sizes, vit, 1, 0.2) == {"once": 1500, "further": 0, "authors": 40 * 1000}
    assert estimate.passes(sizes, vit, "sampled", 0.2)["further"] == 700
    assert estimate.passes(sizes, vit, 8, 0.2)["further"] == 5600
    assert estimate.passes(sizes, estimate.encoder_cost(complete("morphometrics")), 8, 0.2)["further"] == 0
    entries = [
        {"name": "vit", "architecture": "vit", "weights": "random", "features": 1536},
        {"name": "own", "architecture": "vit", "weights": "random", "features": 10},
    ]
    config = run_config(train={"views": 8}, protocols=["strict"], encoders=entries)
    assert estimate.disk_bytes(sizes, [vit, own], config)["embeddings"] == 2 * 1536 * 7100, "no system reads own"
    whole, few = (
        estimate.disk_bytes(sizes, [], run_config(protocols=["strict"], encoders=entries, predict={"genes": genes}))
        for genes in ("all", ["A", "B"])
    )
    values = len(config["systems"]) * 1500 * (50 - 2)
    assert whole["predictions"] - few["predictions"] == pytest.approx(values * estimate.VALUE_BYTES, abs=2)
    fine, coarse, none = (
        estimate.disk_bytes(sizes, [], run_config(viewer=viewer | {"genes": 2}))
        for viewer in ({"max_mpp": 0.3}, {"max_mpp": 0.5}, {"enabled": False})
    )
    assert fine["viewers"] - coarse["viewers"] == pytest.approx(0.75 * estimate.VIEWER_PIXEL * 2e6, abs=2), (
        "halved once"
    )
    assert fine["viewers"] > 0.4 * 2e6 + 1500 * 60
    assert "viewers" not in none
    cpu, gpu = (estimate.run_seconds(sizes, [vit, own], config, 2, device) for device in (False, True))
    assert cpu > 7100 * 608 / 100 / 2 > gpu
    one = run_config(train={"views": 8}, protocols=["strict"], encoders=entries[1:])
    assert estimate.run_seconds(sizes, [own], one, 2, True) is None
    assert "unknown" in format_seconds(None)


def write_run(folder, **change):
    """Config and sheet of a run with the simulated bundle and reference of ``folder``."""
    config = {
        "results": str(folder / "results"),
        "samples": "samples.tsv",
        "cell_types": {name: {"subtypes": members} for name, members in bundles.SUBTYPES.items()},
        "train": {"min_cells": 5},
        "reference": {"path": str(folder / "reference.h5ad"), "exclude": {"platform": ["Smart-seq2"]}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config | change))
    (folder / "samples.tsv").write_text(
        f"sample\trole\tpath\tannotation\na\ttrain\t{folder}/a\t{folder}/a/he_annotation.csv\n"
    )
    return folder / "config.yaml"


def command(config):
    """``make check``: exit status and what it printed, errors of Python among it."""
    done = subprocess.run(
        [sys.executable, "-m", "shest.run.check", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout.splitlines()


OWN_LINES = (
    r"(\w+ (\(train, .*\)|and the reference): |\w+: \d+% of the nuclei lie |reference|disk: |memory: |"
    r"passes through |time: |WARNING |PROBLEM |no problem$|problems: \d+$)"
)


def test_the_command_prints_its_own_lines_and_writes_nothing(bundle, reference, tmp_path):
    shutil.copy(reference, tmp_path / "reference.h5ad")
    config = write_run(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    status, lines = command(config)
    assert (status, lines[-1]) == (0, "no problem")
    assert lines[0].startswith("a (train, Xenium 3.0.0): 120 cells, ")
    assert all(re.match(OWN_LINES, line) for line in lines)
    bundles.truncate(bundles.he_image(bundle), 0.5)
    (tmp_path / "reference.h5ad").write_bytes(b"")
    status, lines = command(config)
    assert (status, lines[-1]) == (1, "problems: 2")
    assert [line.split(":")[0].rpartition("/")[2] for line in lines if line.startswith("PROBLEM")] == [
        "a_he_image.ome.tif",
        "reference.h5ad",
    ]
    assert all(re.match(OWN_LINES, line) for line in lines)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_says_what_is_wrong_with_the_config_itself(tmp_path):
    assert command(tmp_path / "none.yaml")[0] == 1
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert command(tmp_path / "list.yaml")[1] == [
        f"PROBLEM {tmp_path}/list.yaml: no config: it has no keys. Start from config/template.yaml",
        "problems: 1",
    ]
    status, lines = command(write_run(tmp_path, cels={}))
    assert status == 1
    assert any("unknown key cels. Did you mean cells?" in line for line in lines)


def test_what_the_run_makes_itself_is_estimated_and_no_problem(tmp_path):
    simulate = {"slides": {"a": {"cells": 500, "genes": 80}}, "reference": {"cells": 800}}
    config = write_run(tmp_path, simulate=simulate, reference={"path": "{results}/simulated/reference.h5ad"})
    (tmp_path / "samples.tsv").write_text("sample\trole\tpath\na\ttrain\t{results}/simulated/a\n")
    status, lines = command(config)
    assert (status, lines[-1]) == (0, "no problem")
    assert "a (train, made by the run): 500 cells, 80 genes" in lines
    assert any(line.startswith("reference (made by the run): 800 cells") for line in lines)
    assert any(line.startswith("time: roughly") for line in lines)


def test_a_simulated_sample_is_about_as_large_as_estimated(good, tmp_path):
    slide = {"cells": 120, "genes": 80, "defects": 2}
    inputs = inputs_of(good, "r.h5ad", tmp_path, simulate={"slides": {"a": slide}})
    inputs.samples["a"]["path"] = str(tmp_path / "out/simulated/a")
    size, header = check._size_to_come(inputs, "a", {}), checked(good)[0]
    assert (size.cells, size.genes) == (120, 80)
    assert 0.5 < size.values / header.values < 2
    assert 0.5 < size.he_shape[0] * size.he_shape[1] / np.prod(header.he_shape) < 2


def test_the_files_of_a_bundle_are_named_once(good):
    assert set(BUNDLE_FILES) < set(SIMULATED_FILES)
