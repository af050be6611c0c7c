"""Where a run's input lies: other systems' files by sample, with defaults and resolved paths."""

import pytest
import yaml

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


def load(folder, **comparators):
    config = {
        "samples": "samples.tsv",
        "reference": {"path": "reference.h5ad"},
        "cell_types": {"A": {"subtypes": ["a"]}, "B": {"subtypes": ["b"]}},
        "simulate": {"slides": {name: {} for name in "abc"}},
        "evaluate": {"comparators": comparators},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return run_inputs.load(yaml.safe_load((folder / "config.yaml").read_text()), folder / "config.yaml")


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


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"bb": "b.json"}, "evaluate.comparators.Hover.files: no sample bb in the sheet. Did you mean b?"),
        ({"c": "b.json"}, "sample c has the role predict and is not scored"),
        ({"b": "bb.json"}, "evaluate.comparators.Hover.files.b is not there. Did you mean b.json?"),
        ({"b": "$NOWHERE/b.json"}, "needs the environment variable NOWHERE"),
    ],
)
def test_files_that_cannot_be_used_are_named(folder, files, said, monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    run, problems = load(folder, Hover=ENTRY | {"files": files})
    assert run is None
    assert [said in problem for problem in problems] == [True]
