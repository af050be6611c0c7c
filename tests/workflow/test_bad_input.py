"""Bad input through snakemake: every problem in one message, no traceback, nothing that was there harmed."""

import hashlib
import os
import re
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


CHECKS = ("check", "check_alignment", "check_table")
TARGETS = tuple(f"{R}/samples/{name}/ingest.json" for name in "ab")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, root):
    """A folder in which both samples are checked and read."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in ("a", "b"):
        bundles.simulate(folder / "data", name)
    bundles.simulate_reference(folder / "data" / "reference.h5ad")
    write_config(folder)
    done = call(folder, root, *TARGETS, "check")
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
        "--configfile",
        str(folder / "config.yaml"),
    ]
    command += [] if "--rerun-triggers" in arguments else ["--rerun-triggers", "mtime"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def digests(folder: Path, *left_out: str) -> dict[str, str]:
    """Digests of everything but snakemake's own notes."""
    names = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    kept = [name for name in names if not name.startswith((".snakemake", *left_out))]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in kept}


def refused(folder: Path, root: Path, *arguments: str) -> str:
    """Run, see that it is refused without a traceback and that every other file is as it was; return the output."""
    checks = [f"{R}/samples/{name}/{check}.json" for name in "ab" for check in CHECKS]
    left_out = (f"{R}/logs", f"{R}/benchmarks", f"{R}/check/reference.json", *checks)
    before = digests(folder, *left_out)
    done = call(folder, root, *arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert digests(folder, *left_out) == before
    return done.stdout


def planned(folder: Path, root: Path, *arguments: str) -> dict[str, int]:
    """Jobs that a dry run lists, by rule; it writes nothing."""
    before = digests(folder)
    done = call(folder, root, "--dry-run", *arguments)
    assert done.returncode == 0, done.stdout[-3000:]
    assert digests(folder) == before
    jobs = re.findall(r"^(\w+) +(\d+)$", done.stdout.partition("Job stats:")[2], flags=re.M)
    return {rule: int(count) for rule, count in jobs if rule not in ("total", "check")}


def test_one_bad_file_is_one_sentence_and_the_other_sample_goes_on(run, root):
    path = run / "data/a/a_he_imagealignment.csv"
    path.write_text("1,0,0\n0,1,0\n0,1,1\n")
    output = refused(run, root, *TARGETS, "--keep-going")
    assert f"ERROR {path}: not affine: the last line is [0.0, 1.0, 1.0]. Export the alignment" in output
    assert not (run / R / "samples/a/check.json").exists()
    assert (run / R / "samples/b/check.json").exists()
    assert "Reading the bundle" not in output


def test_an_alignment_that_nobody_made_is_refused_before_anything_is_read(run, root):
    """The slide is turned, and its alignment is the identity: every file is sound."""
    shutil.rmtree(run / "data/a")
    bundle = bundles.simulate(run / "data", "a", rotation=131.0)
    bundles.set_alignment(bundle, bundles.identity(bundle))
    (run / R / "samples/b/check_alignment.json").unlink()
    before = digests(run, f"{R}/logs", f"{R}/benchmarks", f"{R}/samples/a", f"{R}/samples/b")
    done = call(run, root, *TARGETS, "check", "--keep-going")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    picture = f"{R}/samples/a/check_alignment.refused.png"
    assert (
        f"ERROR {bundles.alignment(bundle)}: the H&E does not show the nuclei where the alignment puts" in done.stdout
    )
    assert f"(after a shift of 20 µm); see {picture}. Check that image" in done.stdout
    assert (run / picture).stat().st_size > 50_000
    assert (run / R / "samples/a/check.json").exists()
    assert not (run / R / "samples/a/check_alignment.json").exists()
    assert (run / R / "samples/b/check_alignment.json").exists()
    assert "Reading the bundle of a" not in done.stdout
    assert digests(run, f"{R}/logs", f"{R}/benchmarks", f"{R}/samples/a", f"{R}/samples/b") == before


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
    encoder = f"{R}/embeddings/own/encoder.json"
    output = refused(run, root, *TARGETS, "check", encoder, "--keep-going", "--forcerun", "check_reference")
    for word in (
        "ERROR 2 problems in the input:\n  1. ",
        "a_he_image.ome.tif",
        "cells.zarr.zip: truncated",
        "no column x_centroid",
        "Macrofage",
        "no column label in obs",
        f"{run}/weights: the weights of own are not there",
    ):
        assert word in output, word
    assert "Reading the bundle" not in output


def test_other_programs_labels_are_checked_before_they_are_scored(run, root):
    (run / "data/labels.csv").write_text("x,y,class\n1,2,tumor\n")
    entry = {"format": "csv", "files": {"b": str(run / "data/labels.csv")}, "types": {"other": None}}
    write_config(run, evaluate={"comparators": {"Own": entry}})
    output = refused(run, root, f"{R}/samples/b/check_comparators.json")
    assert "labels.csv: has the class 'tumor', which evaluate.comparators.Own.types does not map" in output


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


def test_a_slide_without_a_file_of_nuclei_and_a_misspelt_simulated_slide(run, root):
    rows = (run / "samples.tsv").read_text().replace("annotation\n", "annotation\tplatform\n").rstrip("\n")
    rows += f"\nc\tpredict\t{run}/data/a/a_he_image.ome.tif\t\tslide\nd\tpredict\t{{results}}/simulated/dd\t\t\n"
    write_config(run, simulate={"slides": {"dd1": {}}}, segment={"method": "file"})
    (run / "samples.tsv").write_text(rows)
    output = refused(run, root)
    assert "segment.method: file, and sample c has no outlines of nuclei. Detect cells in QuPath" in output
    assert "segment.method: file, and sample a is a Xenium bundle. Set it to auto" in output
    assert "sample d: no slide dd in simulate.slides. Did you mean dd1?" in output


def test_a_dry_run_lists_what_will_run_and_writes_nothing(run, root):
    assert planned(run, root, *TARGETS, "check") == {}
    fresh = run.parent / "fresh"
    fresh.mkdir()
    shutil.copytree(run / "data", fresh / "data")
    write_config(fresh)
    whole = {"check_alignment": 2, "check_reference": 1, "check_sample": 2, "check_table": 2, "ingest": 2}
    assert planned(fresh, root, *TARGETS, "check") == whole
    (run / "data/b/b_he_imagealignment.csv").touch()
    again = {"check_sample": 1, "check_alignment": 1, "ingest": 1}
    assert planned(run, root, *TARGETS, "check") == again
    (run / "data/reference.h5ad").touch()
    assert planned(run, root, *TARGETS, "check") == again | {"check_reference": 1}


def test_a_lost_check_is_made_again_where_it_is_asked_for_and_nowhere_else(run, root):
    (run / R / "samples/a/check.json").unlink()
    assert planned(run, root, *TARGETS) == {}
    assert planned(run, root, "check") == {"check_sample": 1, "check_alignment": 1}


def test_a_lost_store_is_read_again(run, root):
    shutil.rmtree(run / R / "samples/a/sdata.zarr")
    assert planned(run, root, f"{R}/samples/a/sdata.zarr") == {"ingest": 1}
    assert planned(run, root, f"{R}/samples/a/registration.json") == {"ingest": 1, "register": 1}


def test_a_change_of_the_config_elsewhere_repeats_no_check(prepared, root):
    write_config(prepared, train={"min_cells": 7}, cells={"min_um": 3})
    triggers = ("--rerun-triggers", "mtime", "params", "input", "code")
    assert planned(prepared, root, *TARGETS, "check", *triggers) == {}
    config = yaml.safe_load((prepared / "config.yaml").read_text())
    write_config(prepared, reference=config["reference"] | {"min_shared_genes": 40})
    assert planned(prepared, root, *TARGETS, "check", *triggers) == {}
    write_config(prepared, cell_types=config["cell_types"] | {"More": {"subtypes": ["NK cell LUAD"]}})
    assert planned(prepared, root, *TARGETS, "check", *triggers) == {"check_reference": 1, "check_table": 2}


def test_after_a_problem_is_mended_no_other_sample_is_read_again(run, root):
    path = run / "data/b/b_he_imagealignment.csv"
    content = path.read_bytes()
    path.write_text("1,2\n")
    refused(run, root, *TARGETS)
    path.write_bytes(content)
    assert planned(run, root, *TARGETS) == {"check_sample": 1, "check_alignment": 1, "ingest": 1}
    done = call(run, root, *TARGETS)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Reading the bundle of b" in done.stdout
    assert "Reading the bundle of a" not in done.stdout
    assert planned(run, root, *TARGETS) == {}


def test_results_that_are_a_file_or_of_an_earlier_version_are_refused_in_a_sentence(run, root):
    (run / R / "preflight.json").write_text("{}")
    output = refused(run, root)
    assert f"{R}: was written by an earlier version with another layout. Set results to another folder" in output
    write_config(run, results="samples.tsv")
    assert "samples.tsv: results: samples.tsv is a file. Set results to the path of a folder" in refused(run, root)
