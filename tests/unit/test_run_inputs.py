"""What a run reads: every path resolved, and what is wrong with places before any rule is read."""

import pytest
import yaml

from shest.core.errors import Findings
from shest.run import run_inputs

ENTRY = {"format": "hovernet", "files": {"b": "b.json"}, "types": {0: None, 1: "A"}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "reference.h5ad").touch()
    (tmp_path / "b.json").write_text("{}")
    simulated = "{results}/simulated"
    rows = [
        f"{name}\t{role}\t{simulated}/{name}" for name, role in (("a", "train"), ("b", "validation"), ("c", "predict"))
    ]
    (tmp_path / "samples.tsv").write_text("\n".join(["sample\trole\tpath", *rows]) + "\n")
    return tmp_path


def load(folder, change=None, **comparators):
    config = {
        "samples": "samples.tsv",
        "reference": {"path": "reference.h5ad"},
        "cell_types": {"A": {"subtypes": ["a"]}, "B": {"subtypes": ["b"]}},
        "simulate": {"slides": {name: {} for name in "abc"}},
        "evaluate": {"comparators": comparators},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config | (change or {})))
    findings = Findings()
    run = run_inputs.load(yaml.safe_load((folder / "config.yaml").read_text()), folder / "config.yaml", findings)
    return run, [str(problem) for problem in findings.problems]


def test_comparators_get_defaults_and_resolved_paths_by_sample(folder):
    run, problems = load(folder, Hover=ENTRY, Other=ENTRY | {"radius_um": 3, "scale": 0.5, "format": "csv"})
    assert problems == []
    path = str(folder / "b.json")
    types = {"0": None, "1": "A"}
    assert run.comparators == {
        "a": {},
        "b": {
            "Hover": {"format": "hovernet", "radius_um": 5, "scale": 1, "types": types, "path": path},
            "Other": {"format": "csv", "radius_um": 3, "scale": 0.5, "types": types, "path": path},
        },
        "c": {},
    }


def test_predictions_of_a_program_need_no_types_and_a_name_of_their_own(folder):
    entry = {"format": "h5ad", "files": {"b": "b.json"}, "trained_on": ["a"]}
    run, problems = load(folder, Own=entry)
    assert problems == []
    assert run.comparators["b"]["Own"] == {
        "format": "h5ad",
        "radius_um": 5,
        "scale": 1,
        "types": {},
        "unit": None,
        "trained_on": ["a"],
        "path": str(folder / "b.json"),
    }
    _, problems = load(folder, mean=entry)
    assert problems == ["evaluate.comparators.mean: a system has this name. Give it another"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"bb": "b.json"}, "evaluate.comparators.Hover.files: no sample bb in the sheet. Did you mean b?"),
        ({"c": "b.json"}, "sample c has the role predict and is not scored"),
        ({"b": "bb.json"}, "evaluate.comparators.Hover.files.b is not there. Did you mean b.json?"),
        ({"b": "$NOWHERE/b.json"}, "needs the environment variable NOWHERE"),
    ],
)
def test_files_that_cannot_be_used_are_named(folder, files, message, monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    run, problems = load(folder, Hover=ENTRY | {"files": files})
    assert run is None
    assert [message in problem for problem in problems] == [True]


def test_every_bundle_has_an_image_and_an_alignment_and_weights_start_from_the_configs_folder(folder):
    own = {"name": "own", "architecture": "vit", "features": 8, "weights": "w"}
    run, problems = load(folder, {"encoders": [own, "morphometrics", "resnet50"]})
    assert problems == []
    assert run.samples["a"]["he_image"] == "results/simulated/a/a_he_image.ome.tif"
    assert run.samples["a"]["alignment"] in run.files("a")
    weights = [entry.get("weights") for entry in run.config["encoders"]]
    assert weights == [str(folder / "w"), None, "hub:timm/resnet50.a1_in1k"]


def test_results_that_are_a_file_or_in_one(folder):
    (folder / "out").touch()
    for path in (folder / "out", folder / "out/deeper"):
        run, problems = load(folder, {"results": str(path)})
        assert run is None
        assert problems == [f"{path}: results: {folder}/out is a file. Set results to the path of a folder"]


def test_results_of_an_earlier_version_are_not_mixed_with_new_ones(folder):
    (folder / "out").mkdir()
    assert load(folder, {"results": str(folder / "out")})[1] == []
    (folder / "out/preflight.json").write_text("{}")
    run, problems = load(folder, {"results": str(folder / "out")})
    assert run is None
    assert ["was written by an earlier version with another layout" in problem for problem in problems] == [True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"viewer": {"systems": ["shest", "liner"]}},
            "viewer.systems: no system liner in systems. Did you mean linear?",
        ),
        ({"figures": {"system": "shst"}}, "figures.system: no system shst in systems. Did you mean shest?"),
        ({"split": {"by": "sample"}}, "there is one sample to train on, and none is left where it is held out"),
        ({"split": {"by": "patient"}}, "there is one patient to train on"),
        ({"annotate": {"prior": "table"}}, "annotate.prior: table, and there is none for a, b"),
        ({"systems": {"x": {"kind": "linear", "encoder": "y"}}}, "systems.x.encoder: y is not among encoders"),
    ],
)
def test_settings_that_cannot_go_together_are_said(folder, change, said):
    run, problems = load(folder, change)
    assert run is None
    assert any(said in problem for problem in problems), problems


def test_an_alignment_to_be_found_has_the_name_that_it_will_have(folder):
    run, problems = load(folder, {"register": {"method": "estimate"}})
    assert problems == []
    assert run.samples["a"]["alignment"] == "results/samples/a/he_imagealignment.csv"
    sheet = (folder / "samples.tsv").read_text().splitlines()
    (folder / "samples.tsv").write_text("\n".join([sheet[0] + "\tmpp", sheet[1] + "\t0.25", *sheet[2:]]) + "\n")
    assert load(folder, {"register": {"method": "estimate"}})[1] == []
    [problem] = load(folder)[1]
    assert "sample a: column mpp is not used" in problem


def visium(folder, **change):
    """A run of one Visium sample, whose files are there as far as their names go."""
    for name in ("spatial/scalefactors_json.json", "spatial/tissue_positions.csv", "filtered_feature_bc_matrix.h5"):
        (folder / "outs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "outs" / name).touch()
    (folder / "he.tif").touch()
    rows = ["sample\trole\tplatform\tpath\the_image", "v\ttrain\tvisium\touts\the.tif"]
    (folder / "samples.tsv").write_text("\n".join(rows) + "\n")
    config = {"samples": "samples.tsv"} | change
    findings = Findings()
    return run_inputs.load(config, folder / "config.yaml", findings), [str(problem) for problem in findings.problems]


def test_a_run_of_visium_alone_is_of_spots_and_reads_its_files(tmp_path):
    run, problems = visium(tmp_path)
    assert problems == []
    assert {entry["unit"] for entry in run.config["systems"].values()} == {"spots"}
    named = [str(tmp_path / name) for name in ("outs/spatial/scalefactors_json.json", "he.tif")]
    assert set(named) < set(run.files("v"))
    assert len(run.files("v")) == 4
    assert run.samples["v"]["segment"] is None


def test_what_a_folder_of_space_ranger_lacks_is_said_by_name(tmp_path):
    run, _ = visium(tmp_path)
    for path in run.files("v"):
        if "outs" in path:
            (tmp_path / path).unlink()
    findings = Findings()
    run_inputs.load({"samples": "samples.tsv"}, tmp_path / "config.yaml", findings)
    said = " ".join(str(problem) for problem in findings.problems)
    assert len(findings.problems) == 3
    assert all(f"no {what} of Space Ranger" in said for what in ("scale factors", "positions of the spots", "matrix"))


def test_one_sample_with_spots_cannot_be_held_out_whole(tmp_path):
    assert "one sample with spots to train on" in visium(tmp_path, split={"by": "sample"})[1][0]


def test_a_system_of_spots_is_not_packed(tmp_path):
    assert "packages are of cells" in visium(tmp_path, package={"systems": ["linear"]})[1][0]


def test_a_table_of_transcripts_is_checked_when_the_config_is_read(folder):
    (folder / "t.tsv").write_text("gene\tgc\tlength\nA\t0.4\t900\n")
    run, problems = load(folder, {"evaluate": {"transcripts": "t.tsv"}})
    assert problems == []
    assert run.config["evaluate"]["transcripts"] == str(folder / "t.tsv")
    (folder / "t.tsv").write_text("gene\tgc\nA\t0.4\n")
    assert "lacks column length" in load(folder, {"evaluate": {"transcripts": "t.tsv"}})[1][0]
    assert "t2.tsv" in load(folder, {"evaluate": {"transcripts": "t2.tsv"}})[1][0]
