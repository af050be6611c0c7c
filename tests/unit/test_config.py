"""Config and sample sheet: every mistake is found at once, with the nearest known name."""

from pathlib import Path

import pytest
import yaml

from shest.core.errors import Findings
from shest.run import config
from shest.run import systems as units

GOOD = {
    "samples": "samples.tsv",
    "reference": {"path": "r.h5ad"},
    "cell_types": {"A": {"subtypes": ["a"]}, "B": {"subtypes": ["b", "c"]}},
}


def check(entries, cells=True):
    """The filled config and what is wrong with it."""
    findings = Findings()
    return config.check_config(entries, "c.yaml", findings, cells), [str(problem) for problem in findings.problems]


def test_defaults_are_filled_in_at_every_depth():
    filled, problems = check(GOOD)
    assert problems == []
    assert filled["results"] == "results"
    assert filled["cells"] == {"min_um": 2, "max_um": 16, "max_mean_grey": 230}
    assert filled["reference"]["label_key"] == "cell_type_tumor"
    assert filled["encoders"] == [{"name": "morphometrics"}]
    assert "cells" not in GOOD


def test_all_mistakes_are_said_at_once_with_the_nearest_key():
    bad = GOOD | {"cels": {}, "tiles": {"window": 16, "block_px": "big"}, "protocols": ["strict", "random"]}
    problems = "\n".join(check(bad)[1])
    assert "unknown key cels. Did you mean cells?" in problems
    assert "unknown key tiles.window. Did you mean window_um?" in problems
    assert "tiles.block_px" in problems
    assert "protocols.1" in problems
    assert all(line.startswith("c.yaml: ") for line in problems.splitlines())


def test_a_key_of_an_earlier_version_is_said_with_its_new_name(monkeypatch):
    monkeypatch.setattr(config, "RENAMED", {"figures.picture": "figures.system"})
    problems = check(GOOD | {"figures": {"picture": "morphometrics"}})[1]
    assert problems == ["c.yaml: figures.picture is a key of an earlier version. Use figures.system instead"]


def test_encoders_are_completed_and_unknown_ones_named():
    chosen = ["resnet50", {"name": "own", "architecture": "vit", "weights": "random", "features": 8, "gflop": 3}]
    filled, problems = check(GOOD | {"encoders": chosen})
    assert problems == []
    assert [entry["features"] for entry in filled["encoders"]] == [2048, 8]
    assert [entry["gflop"] for entry in filled["encoders"]] == [8.2, 3]
    problems = check(GOOD | {"encoders": ["h-optimus-1", "morphometrics"]})[1]
    assert ["h-optimus-1: not a known encoder" in problem for problem in problems] == [True]


def test_a_missing_section_is_named_with_what_it_is_for():
    problems = check({k: v for k, v in GOOD.items() if k != "reference"})[1]
    expected = (
        "c.yaml: reference is missing. Labelled single-cell reference that TACCO annotates the cells with. "
        "Not needed by annotate.method markers."
    )
    assert problems == [expected]


def test_labels_by_marker_genes_need_neither_a_reference_nor_types():
    filled, problems = check({"samples": "samples.tsv", "annotate": {"method": "markers"}})
    assert problems == []
    assert list(filled["cell_types"]) == ["Neoplastic", "Epithelial", "Inflammatory", "Connective"]
    assert "reference" not in filled
    assert filled["annotate"]["markers"]["resolution"] == 4
    assert config.needs_markers(filled)
    assert not config.needs_reference(filled)


def test_a_comparison_with_tacco_needs_the_reference_again():
    asked = {"samples": "samples.tsv", "annotate": {"method": "markers", "compare": ["tacco"]}}
    said = "\n".join(check(asked)[1])
    assert "c.yaml: reference is missing" in said
    assert "c.yaml: cell_types is missing" in said
    said = check(asked | {"reference": {"path": "r.h5ad"}, "cell_types": {"A": {"subtypes": ["a"]}, "B": {}}})[1]
    assert said == ["c.yaml: cell_types.B.subtypes is missing. Name the reference's subtypes"]
    assert config.needs_markers(GOOD | {"annotate": {"compare": ["ucell"]}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"cell_types": {"A": {"subtypes": ["a"], "groups": ["B"]}, "B": {"subtypes": ["b"]}}},
            "group B belongs to A and to B",
        ),
        (
            {"annotate": {"method": "markers"}, "cell_types": {"A": {"categories": ["B"]}, "B": {}}},
            "category B belongs to A and to B",
        ),
        ({"cell_types": {"A": {"subtypes": ["a"]}, "B": {"subtypes": ["a"]}}}, "subtype a belongs to A and to B"),
        ({"cells": {"min_um": 20}}, "cells.min_um must be less"),
        ({"encoders": ["resnet50", {"name": "resnet50"}]}, "encoders: resnet50 stands there twice"),
        (
            {"evaluate": {"comparators": {"H": {"format": "csv", "files": {"a": "x"}, "types": {1: "AA", 2: None}}}}},
            "evaluate.comparators.H.types.1: AA is not a type of cell_types. Did you mean A?",
        ),
        (
            {"evaluate": {"comparators": {"H": {"format": "xml", "files": {"a": "x"}, "types": {"1": "A"}}}}},
            "'xml' is not one of",
        ),
        (
            {"evaluate": {"comparators": {"H": {"format": "csv", "files": {"a": "x"}}}}},
            "evaluate.comparators.H.types is missing",
        ),
        (
            {
                "evaluate": {
                    "comparators": {"H": {"format": "csv", "files": {"a": "x"}, "types": {1: "A"}, "unit": "log1p"}}
                }
            },
            "evaluate.comparators.H.unit is for h5ad alone",
        ),
    ],
)
def test_keys_that_contradict_each_other(change, message):
    assert message in "\n".join(check(GOOD | change)[1])


def sheet(tmp_path, text):
    path = tmp_path / "samples.tsv"
    path.write_text(text)
    findings = Findings()
    return config.read_sheet(path, findings), [str(problem) for problem in findings.problems]


def test_sheet_rows_get_defaults_and_empty_cells_mean_the_default(tmp_path):
    rows, problems = sheet(tmp_path, "# a comment\nsample\trole\tpath\tannotation\n\na\ttrain\tx\t\n")
    assert problems == []
    given = {"sample": "a", "role": "train", "path": "x"}
    empty = dict.fromkeys(config.load_schema("samples")["properties"])
    assert rows == [empty | given | {"platform": "xenium"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample\trole\tpaht\na\ttrain\tx\n", "unknown column paht. Did you mean path?"),
        ("sample\trole\na\ttrain\n", "column path is missing"),
        ("sample\trole\tpath\na\ttrain\tx\na\ttrain\ty\n", "sample a stands there twice"),
        ("sample\trole\tpath\n../a\ttrain\tx\n", "sample: '../a' does not match"),
        ("sample\trole\tpath\na\tvalidation\tx\n", "no training sample"),
        ("sample\trole\tpath\na\ttraining\tx\n", "'training' is not one of"),
        ("sample\trole\tpath\n", "no samples"),
        ("sample\trole\tplatform\tpath\na\tvalidation\tslide\tx\n", "sample a is a plain slide, without counts"),
        ("sample\trole\tplatform\tpath\tmpp\na\tpredict\tslide\tx\t40x\n", "mpp: '40x' does not match"),
    ],
)
def test_mistakes_in_the_sheet(tmp_path, text, message):
    assert message in "\n".join(sheet(tmp_path, text)[1])


def test_a_missing_sheet_is_one_problem(tmp_path):
    findings = Findings()
    assert config.read_sheet(tmp_path / "none.tsv", findings) == []
    assert ["not there" in str(problem) for problem in findings.problems] == [True]


def test_paths_start_from_the_configs_folder_results_or_the_environment(tmp_path, monkeypatch):
    paths = config.Paths(tmp_path, "out")
    monkeypatch.setenv("DATA", "/d")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert paths.resolve("a/b") == str(tmp_path / "a/b")
    assert paths.resolve("../a") == str(tmp_path.parent / "a")
    assert paths.resolve("{results}/simulated/x") == "out/simulated/x"
    assert paths.resolve("$DATA/x") == paths.resolve("${DATA}/x") == "/d/x"
    findings = Findings()
    assert paths.resolve_all({"path": "$NOWHERE/x", "other": "/y"}, "sheet", findings) == {"other": "/y"}
    assert ["NOWHERE, which is not set" in str(problem) for problem in findings.problems] == [True]


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_the_projects_own_configs_are_right(path):
    """That of a package is right once there is one: tests/workflow/test_apply.py."""
    entries = yaml.safe_load(path.read_text())
    if "model" in entries:
        return
    assert check(entries, config.has_cells(path.parent / entries["samples"]))[1] == []


def test_a_run_of_spots_needs_neither_types_nor_a_reference(tmp_path):
    sheet = tmp_path / "s.tsv"
    sheet.write_text("sample\trole\tplatform\tpath\the_image\na\ttrain\tvisium\tx\ty.tif\n")
    assert not config.has_cells(sheet)
    filled, problems = check({"samples": "s.tsv"}, cells=False)
    assert problems == []
    assert filled["cell_types"] == {}
    assert {name: entry["unit"] for name, entry in filled["systems"].items()} == {"linear": "spots", "mean": "spots"}
    assert check({"samples": "s.tsv"})[1]
    sheet.write_text("sample\trole\tplatform\tpath\na\ttrain\t\tx\n")
    assert config.has_cells(sheet)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("visium\tx\t\t\t", "column he_image is empty. Platform visium needs the image in full size"),
        ("visium\tx\ty.tif\tz.csv\t", "column alignment is not used for platform visium"),
        ("st\tx\ty.tif\t\t", "column alignment is empty. Platform st needs the spot selection"),
        ("st\tx\ty.tif\tz.tsv\tn.json", "column nuclei is not used for platform st"),
    ],
)
def test_what_a_platform_of_spots_lacks_is_said(tmp_path, columns, message):
    sheet = tmp_path / "s.tsv"
    sheet.write_text(f"sample\trole\tplatform\tpath\the_image\talignment\tnuclei\na\ttrain\t{columns}\n")
    findings = Findings()
    config.read_sheet(sheet, findings)
    assert [message in str(problem) for problem in findings.problems] == [True]


@pytest.mark.parametrize(
    ("systems", "platforms", "spots", "message"),
    [
        ({"a": {"kind": "linear", "unit": "spots"}}, ["xenium"], {}, "no training sample has spots"),
        ({"a": {"kind": "linear"}}, ["visium"], {}, "no training sample has cells"),
        ({"a": {"kind": "shest", "unit": "spots"}}, ["visium"], {}, "shest does not predict for spots"),
        ({"a": {"kind": "linear", "unit": "spots"}}, ["xenium"], {"diameter_um": 55, "pitch_um": 100}, None),
        ({"a": {"kind": "linear"}, "b": {"kind": "mean", "unit": "spots"}}, ["xenium", "st"], {}, None),
    ],
)
def test_the_unit_of_a_system_is_one_that_its_kind_and_a_training_sample_have(systems, platforms, spots, message):
    filled, problems = check(GOOD | {"systems": systems, "spots": spots})
    assert problems == []
    findings = Findings()
    rows = {f"s{i}": {"role": "train", "platform": platform} for i, platform in enumerate(platforms)}
    units.check_units(filled, rows, findings)
    found = [str(problem) for problem in findings.problems]
    assert found == [] if message is None else len(found) == 1 and message in found[0]


def test_pseudo_spots_do_not_overlap():
    assert "spots would overlap" in check(GOOD | {"spots": {"diameter_um": 55, "pitch_um": 50}})[1][0]
    assert "go together" in check(GOOD | {"spots": {"diameter_um": 55}})[1][0]
