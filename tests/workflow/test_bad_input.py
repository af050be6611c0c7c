"""Bad input through snakemake: every problem in one message, no traceback, nothing that was there harmed."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from support import bundles

R = "results/mine"


def write_config(folder: Path, **change) -> None:
    """Write config and sheet for the bundles in ``folder/data``."""
    data = folder / "data"
    types = {name: {"subtypes": members} for name, members in bundles.SUBTYPES.items()}
    config = {
        "results": R,
        "samples": "samples.tsv",
        "cell_types": types,
        "train": {"min_cells": 5},
        "reference": {"path": str(data / "reference.h5ad"), "exclude": {"platform": ["Smart-seq2"]}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config | change))
    rows = [
        f"{name}\t{role}\t{data / name}\t{data / name / 'he_annotation.csv'}"
        for name, role in (("a", "train"), ("b", "validation"))
    ]
    (folder / "samples.tsv").write_text("\n".join(["sample\trole\tpath\tannotation", *rows]) + "\n")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, root):
    """A folder in which preflight and ingest of both samples are done."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in ("a", "b"):
        bundles.simulate(folder / "data", name)
    bundles.simulate_reference(folder / "data" / "reference.h5ad")
    write_config(folder)
    done = call(folder, root, f"{R}/a/ingest.json", f"{R}/b/ingest.json")
    assert done.returncode == 0, done.stdout[-5000:]
    return folder


@pytest.fixture
def run(prepared, tmp_path):
    """A copy of it, to be spoilt."""
    folder = tmp_path / "run"
    shutil.copytree(prepared, folder, symlinks=True)
    write_config(folder)
    return folder


def call(folder: Path, root: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [
        "snakemake",
        *arguments,
        "--snakefile",
        str(root / "Snakefile"),
        "--directory",
        str(folder),
        "--cores",
        "1",
        "--rerun-triggers",
        "mtime",
        "--configfile",
        str(folder / "config.yaml"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def digests(folder: Path) -> dict[str, str]:
    """Digests of everything but logs, snakemake's own notes, and the record of the checks that failed."""
    left_out = (".snakemake", f"{R}/logs", f"{R}/benchmarks", f"{R}/preflight.json")
    names = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    kept = [name for name in names if not name.startswith(left_out)]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in kept}


def refused(folder: Path, root: Path, *arguments: str) -> str:
    """Run, see that it is refused without a traceback and that every other file is as it was; return the output."""
    before = digests(folder)
    done = call(folder, root, *arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert digests(folder) == before
    assert not (folder / R / "report.html").exists()
    return done.stdout


def test_one_bad_file_is_one_sentence(run, root):
    path = run / "data/a/a_he_imagealignment.csv"
    path.write_text("1,0,0\n0,1,0\n0,1,1\n")
    output = refused(run, root)
    assert f"ERROR {path}: not affine: the last line is [0.0, 1.0, 1.0]. Export the alignment" in output
    assert not (run / R / "preflight.json").exists()


def test_problems_of_several_files_are_said_in_one_run(run, root):
    bundles.truncate(run / "data/a/a_he_image.ome.tif", 0.5)
    bundles.truncate(run / "data/b/cells.zarr.zip", 0.9)
    bundles.set_table(run / "data/a/cells.parquet", lambda t: t.drop(columns="x_centroid"))
    table = pd.read_csv(run / "data/b/he_annotation.csv").assign(group="Macrofage")
    table.to_csv(run / "data/b/he_annotation.csv", index=False)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["reference"]["label_key"] = "label"
    own = {"name": "own", "architecture": "resnet50", "features": 2048, "weights": "weights"}
    write_config(run, reference=config["reference"], encoders=[own])
    output = refused(run, root)
    assert "ERROR 6 problems in the input:" in output
    for word in (
        "a_he_image.ome.tif",
        "cells.zarr.zip: truncated",
        "no column x_centroid",
        "Macrofage",
        "no column label in obs",
        f"{run}/weights: the weights of own are not there",
    ):
        assert word in output, word
    assert not any(f"Rule: {rule}" in output for rule in ("ingest", "annotate", "encoder"))


def test_files_that_are_not_there_are_said_before_any_rule_runs(run, root):
    (run / "data/a/cells.parquet").rename(run / "data/a/cell.parquet")
    (run / "data/a/a_he_image.ome.tif").rename(run / "data/a/he.ome.tif")
    shutil.copy(run / "data/b/b_he_imagealignment.csv", run / "data/b/old_he_imagealignment.csv")
    (run / "data/b/he_annotation.csv").unlink()
    write_config(run, reference={"path": "refrence.h5ad"}, cels={})
    output = refused(run, root)
    for word in (
        "unknown key cels. Did you mean cells?",
        "refrence.h5ad: reference.path: the reference is not there",
        "cells.parquet: sample a: a file of the bundle is not there. Did you mean cell.parquet?",
        "sample a: no H&E image: no file named *he_image.ome.tif (there are he.ome.tif). Name yours in column he_image",
        "2 candidates for the alignment (b_he_imagealignment.csv, old_he_imagealignment.csv)",
        "he_annotation.csv: sample b: annotation of the sheet is not there",
    ):
        assert word in output, word
    assert "Building DAG" not in output


def test_a_folder_that_is_no_bundle_and_one_that_is_not_there(run, root):
    (run / "data/a/experiment.xenium").unlink()
    (run / "data/b").rename(run / "data/bb")
    output = refused(run, root)
    assert f"{run}/data/a: sample a: no Xenium bundle: experiment.xenium is not there" in output
    assert f"{run}/data/b: sample b: no such folder. Did you mean bb?" in output


def test_a_slide_without_nuclei_and_a_misspelt_simulated_slide(run, root):
    rows = (run / "samples.tsv").read_text().replace("annotation\n", "annotation\tplatform\n").rstrip("\n")
    rows += f"\nc\tpredict\t{run}/data/a/a_he_image.ome.tif\t\tslide\nd\tpredict\t{{results}}/simulated/dd\t\t\n"
    write_config(run, simulate={"slides": {"dd1": {}}})
    (run / "samples.tsv").write_text(rows)
    output = refused(run, root)
    assert "sample c is a plain slide without outlines of nuclei. Detect cells in QuPath" in output
    assert "sample d: no slide dd in simulate.slides. Did you mean dd1?" in output


def test_checks_that_were_repeated_or_lost_redo_nothing_else(run, root):
    record, target = run / R / "preflight.json", (f"{R}/a/ingest.json", f"{R}/b/ingest.json")
    content = record.read_text()
    assert json.loads(content)["samples"]["b"]["cells"] == 120
    record.unlink()
    done = call(run, root, *target, "--forcerun", "preflight")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Looking into every input file" in done.stdout
    assert "Reading the bundle" not in done.stdout
    assert record.read_text() == content
    record.unlink()
    assert "Nothing to be done" in call(run, root, *target, "--dry-run").stdout
    assert record.read_text() == content


def test_after_a_problem_is_mended_no_other_sample_is_read_again(run, root):
    path, target = run / "data/b/b_he_imagealignment.csv", (f"{R}/a/ingest.json", f"{R}/b/ingest.json")
    content = path.read_bytes()
    path.write_text("1,2\n")
    refused(run, root)
    path.write_bytes(content)
    done = call(run, root, *target)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Looking into every input file" in done.stdout
    assert "Reading the bundle of a" not in done.stdout
    assert "Nothing to be done" in call(run, root, *target, "--dry-run").stdout


def test_only_the_sample_whose_file_changed_is_read_again_in_the_same_run(run, root):
    path, target = run / "data/b/b_he_imagealignment.csv", (f"{R}/a/ingest.json", f"{R}/b/ingest.json")
    path.write_text(path.read_text().replace("188.", "187."))
    done = call(run, root, *target)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Looking into every input file" in done.stdout
    assert "Reading the bundle of b" in done.stdout
    assert "Reading the bundle of a" not in done.stdout
    assert "Nothing to be done" in call(run, root, *target, "--dry-run").stdout
