"""A package, moved away from the results it was made of, on plain slides and on somebody else's bundle."""

import os
import shutil
import signal
import subprocess
import sys
import time

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import load_file, save_file
from scipy.spatial import cKDTree
from support import slides
from support.applied import config_for, outlines_of_bundle

from shest.core import files

R = "results/tiny"


@pytest.fixture(scope="module")
def package(tiny, tmp_path_factory):
    """The package of the tiny run's model, in a folder of its own."""
    folder = tmp_path_factory.mktemp("elsewhere") / "shest"
    shutil.copytree(tiny / R / "packages/shest", folder)
    return folder


@pytest.fixture(scope="module")
def data(tiny, tmp_path_factory):
    """Slides: the H&E of a simulated bundle, its nuclei, a file that ends too early and one that says no pixel size."""
    folder = tmp_path_factory.mktemp("slides")
    image = next((tiny / R / "simulated/sim_lung").glob("*he_image.ome.tif"))
    shutil.copy(image, folder / "whole.ome.tif")
    (folder / "cut.ome.tif").write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    slides.tiff(folder / "silent.tif", mpp=None)
    ids, rings = outlines_of_bundle(tiny, "sim_lung")
    made = [slides.feature(ring, "cell") | {"id": cell} for cell, ring in zip(ids, rings, strict=True)]
    slides.write(folder / "nuclei.geojson", slides.collection(made))
    return folder


@pytest.fixture(scope="module")
def run(package, data, tmp_path_factory, snake):
    """The package applied to four slides, two of which cannot be read: folder, config and what was said."""
    folder = tmp_path_factory.mktemp("applied")
    rows = [
        f"found\tpredict\tslide\t{data}/whole.ome.tif\t\t",
        f"given\tpredict\tslide\t{data}/whole.ome.tif\t{data}/nuclei.geojson\t",
        f"cut\tpredict\tslide\t{data}/cut.ome.tif\t\t",
        f"silent\tpredict\tslide\t{data}/silent.tif\t\t",
    ]
    (folder / "two.tsv").write_text("sample\tpatient\ttime\tevent\nfound\tp\t3\t1\ngiven\tq\t4\t0\ncut\tr\t5\t1\n")
    path = config_for(folder, package, rows, cohort={"table": "two.tsv"})
    return folder, path, snake(folder, config=path).stdout


def test_a_cohort_is_told_from_the_expression_of_its_slides(run, package, data, snake):
    """On expression that is planted: no slide of this run has a patient."""
    folder, rng = run[0], np.random.default_rng(3)
    slides = [f"s{k}" for k in range(48)]
    path = config_for(
        folder,
        package,
        [f"{slide}\tpredict\tslide\t{data}/whole.ome.tif\t\t" for slide in slides],
        cohort={"table": "cohort.tsv", "repeats": 1},
    )
    own = folder / "results" / path.stem
    own.mkdir()
    expression = pd.DataFrame(rng.gamma(2, 1, (48, 12)), slides, [f"g{k}" for k in range(12)])
    expression[:-1].rename_axis("slide").to_csv(own / "expression.csv")
    patients = [f"p{k // 2}" for k in range(48)]
    response = (expression["g5"].groupby(patients).transform("mean") > 2).astype(int)
    table = pd.DataFrame({"sample": slides, "patient": patients, "response": response})
    table.to_csv(folder / "cohort.tsv", sep="\t", index=False)
    snake(folder, "--allowed-rules", "cohort", "--", f"results/{path.stem}/cohort.json", config=path)
    record, genes = files.read_json(own / "cohort.json"), pd.read_csv(own / "cohort.csv")
    assert (record["patients"], record["slides"], record["lost"]) == (24, 47, ["s47"])
    assert genes.loc[0, "gene"] == "g5"
    assert genes.loc[0, "auc_out_of_fold"] > 0.9
    assert set(record["out_of_fold"]) >= {"auc", "deviation"}
    assert (own / "figures/cohort.pdf").stat().st_size > 5000
    table.assign(sample=table["sample"].replace("s3", "s99")).to_csv(folder / "cohort.tsv", sep="\t", index=False)
    said = snake(folder, "--dry-run", config=path, check=False)
    assert said.returncode
    assert "sample s99 is no slide of the sheet" in said.stdout


def predictions(folder, name, sample):
    return ad.read_h5ad(folder / f"results/{name}/predictions/shest/strict/{sample}.cells.h5ad")


def test_slides_that_cannot_be_read_do_not_stop_the_others(run):
    folder, _, said = run
    table = pd.read_csv(folder / "results/apply0/slides.tsv", sep="\t").set_index("slide")
    assert table["state"].to_dict() == {"found": "done", "given": "done", "cut": "failed", "silent": "failed"}
    assert "truncated" in table.loc["cut", "reason"]
    assert "mpp" in table.loc["silent", "reason"]
    assert "the other slides go on" in said
    page = (folder / "results/apply0/report.html").read_text()
    assert "truncated" in page
    assert "2 of 4" in page
    assert "1 patient with an event, and 6 are needed" in page
    for word in ("Fitting", "Splitting", "Reading the bundle"):
        assert word not in said


def test_cells_with_the_same_outlines_are_predicted_as_the_training_run_did(run, tiny):
    bundle = ad.read_h5ad(tiny / R / "predictions/shest/strict/sim_lung.cells.h5ad")
    given = predictions(run[0], "apply0", "given")
    assert len(bundle) > 150
    assert list(given.obs_names) == list(bundle.obs_names)
    assert np.array_equal(given.X, bundle.X)
    assert np.array_equal(given.obsm["probabilities"], bundle.obsm["probabilities"])


def test_found_nuclei_are_where_given_ones_are_and_typed_like_them(run, tiny):
    """By position, against the simulated truth. Measures of outlines of another kind cost some of the score."""
    truth = pd.read_parquet(tiny / R / "simulated/sim_lung/truth/truth.parquet").set_index("cell_id")["cell_type"]
    given, found = (predictions(run[0], "apply0", name) for name in ("given", "found"))
    distance, partner = cKDTree(found.obsm["pixel"] * 0.2512).query(given.obsm["pixel"] * 0.2512)
    near = distance < 3
    actual = truth.reindex(given.obs_names).to_numpy(object)[near]
    right = (given.obs["cell_type"].to_numpy(object)[near] == actual).mean()
    right_found = (found.obs["cell_type"].to_numpy(object)[partner[near]] == actual).mean()
    assert near.mean() > 0.8
    assert right > 0.8
    assert right_found > right - 0.25


def test_tables_of_slides_agree_with_their_predictions(run):
    folder = run[0] / "results/apply0"
    given = predictions(run[0], "apply0", "given")
    parts = pd.read_csv(folder / "composition.csv").query("slide == 'given'").set_index("type")
    assert parts["called"].sum() == len(given)
    assert parts["share"].sum() == pytest.approx(1, abs=1e-4)
    p = given.obsm["probabilities"].astype(float)
    for k, name in enumerate(given.uns["classes"]):
        half = 1.96 * np.sqrt((p[:, k] * (1 - p[:, k])).sum()) / len(p)
        assert parts.loc[name, "high"] - parts.loc[name, "share"] == pytest.approx(half, rel=0.01)
    expression = pd.read_csv(folder / "expression.csv", index_col="slide")
    assert list(expression.index) == ["found", "given"]
    assert np.allclose(expression.loc["given"], np.asarray(given.X).mean(axis=0), rtol=0.01)
    beside = pd.read_csv(folder / "neighbours.csv")
    own = beside[(beside["slide"] == "given") & (beside["type"] == beside["beside"])]
    assert own["z"].max() > 2  # tissue is no mixture


def shown(folder, sample):
    """What the list of viewers says of a slide."""
    return files.read_json(folder / f"viewer/{sample}/viewer.json")


def test_every_slide_that_was_predicted_has_a_viewer_and_the_others_their_reason(run):
    folder = run[0] / "results/apply0"
    for name in ("found", "given"):
        table = pd.read_parquet(folder / f"samples/{name}/cells.parquet")
        [page] = shown(folder, name)["pages"]
        assert (page["unit"], page["number"], page["kept"]) == ("cells", len(table), int(table["kept"].sum()))
        assert (folder / f"viewer/{name}/index.html").is_file()
        assert len(list((folder / f"viewer/{name}/tiles").rglob("*.js"))) > 3
        assert len(list((folder / f"viewer/{name}/genes").glob("*.js"))) > 10
    for name, word in (("cut", "truncated"), ("silent", "mpp")):
        assert word in shown(folder, name)["reason"]
        assert not (folder / f"viewer/{name}/index.html").exists()
    listed = (folder / "viewer/samples.js").read_text()
    assert all(f'"sample":"{name}"' in listed for name in ("found", "given", "cut", "silent"))
    page = (folder / "report.html").read_text()
    assert 'href="viewer/index.html"' in page
    assert 'href="viewer/given/index.html"' in page
    assert 'href="viewer/cut/index.html"' not in page


def test_a_second_run_does_nothing_and_a_mended_slide_is_all_that_is_repeated(run, data, snake):
    folder, path, _ = run
    assert "Nothing to be done" in snake(folder, "--dry-run", config=path).stdout
    (data / "cut.ome.tif").write_bytes((data / "whole.ome.tif").read_bytes())
    before = {name: (folder / f"results/apply0/slides/{name}.json").stat().st_mtime_ns for name in ("found", "given")}
    snake(folder, config=path)
    table = pd.read_csv(folder / "results/apply0/slides.tsv", sep="\t").set_index("slide")
    assert table.loc["cut", "state"] == "done"
    assert (folder / "results/apply0/viewer/cut/index.html").is_file()
    assert 'href="viewer/cut/index.html"' in (folder / "results/apply0/report.html").read_text()
    for name, time_ns in before.items():
        assert (folder / f"results/apply0/slides/{name}.json").stat().st_mtime_ns == time_ns


def test_tiles_that_are_kept_give_the_same_predictions(run, package, data, snake):
    folder = run[0]
    row = f"given\tpredict\tslide\t{data}/whole.ome.tif\t{data}/nuclei.geojson\t"
    path = config_for(folder, package, [row], apply={"keep": "tiles"})
    snake(folder, config=path)
    index = files.read_json(folder / f"results/{path.stem}/samples/given/tiles/tiles.json")
    kept, streamed = (predictions(folder, name, "given") for name in (path.stem, "apply0"))
    assert sum(len(shard["cells"]) for shard in index["shards"]) == len(kept)
    assert np.array_equal(kept.X, streamed.X)


def test_a_bundle_is_validation_for_a_package(run, package, tiny, snake):
    folder = run[0]
    path = config_for(folder, package, [])
    simulated = tiny / R / "simulated"
    path.with_suffix(".tsv").write_text(f"sample\trole\tpath\nsim_lung\tvalidation\t{simulated}/sim_lung\n")
    config = yaml.safe_load(path.read_text())
    config["reference"] = {"path": f"{simulated}/reference.h5ad", "exclude": {"platform": ["Smart-seq2"]}}
    path.write_text(yaml.safe_dump(config))
    snake(folder, config=path)
    place = "evaluation/shest/strict/sim_lung.cells.json"
    own, first = files.read_json(folder / "results" / path.stem / place), files.read_json(tiny / R / place)
    assert own["f1"] == first["f1"]
    assert "Samples with labels" in (folder / f"results/{path.stem}/report.html").read_text()


def test_a_changed_weight_is_refused_by_checksum_and_by_probe(run, package, data, tmp_path, snake):
    folder, row = run[0], f"found\tpredict\tslide\t{data}/whole.ome.tif\t\t"
    changed = tmp_path / "shest"
    shutil.copytree(package, changed)
    weights = load_file(changed / "model.safetensors")
    name = next(key for key in sorted(weights) if key.endswith("weight"))
    weights[name] = weights[name] * 3 + 1
    save_file(weights, changed / "model.safetensors")
    path = config_for(folder, changed, [row])
    said = snake(folder, config=path, check=False)
    assert said.returncode
    assert "model.safetensors: is not the file that checksums.txt names" in said.stdout
    lines = (changed / "checksums.txt").read_text().splitlines()
    own = f"{files.sha256(changed / 'model.safetensors')}  model.safetensors"
    (changed / "checksums.txt").write_text("\n".join(own if "model.safetensors" in line else line for line in lines))
    said = snake(folder, config=path, check=False)
    assert said.returncode
    assert "the probe fails: probabilities on the probe's own embeddings" in said.stdout
    assert not (folder / f"results/{path.stem}/slides").exists()


def test_the_config_for_the_demos_package_works(package, tiny, root, tmp_path, snake):
    """As it stands beside the results of make demo."""
    (tmp_path / "config").mkdir()
    for name in ("apply.yaml", "apply.tsv"):
        shutil.copy(root / "config" / name, tmp_path / "config")
    shutil.copytree(package, tmp_path / "results/packages/shest")
    shutil.copytree(tiny / R / "simulated/sim_lung", tmp_path / "results/simulated/sim_lung")
    command = [sys.executable, "-m", "shest.run.check", "config/apply.yaml"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "no problem" in said
    snake(tmp_path, config=tmp_path / "config/apply.yaml")
    assert "sim_train" in (tmp_path / "results/apply/report.html").read_text()


def test_a_thousand_slides_are_planned_in_a_minute(run, package, data, snake):
    rows = [f"s{k}\tpredict\tslide\t{data}/whole.ome.tif\t\t" for k in range(1000)]
    path = config_for(run[0], package, rows)
    start = time.monotonic()
    said = snake(run[0], "--dry-run", "--quiet", "rules", config=path).stdout
    assert time.monotonic() - start < 60
    assert "1000" in said


@pytest.mark.slow
def test_killed_in_the_middle_and_run_again(run, package, data, root, snake):
    folder = run[0]
    rows = [f"s{k}\tpredict\tslide\t{data}/whole.ome.tif\t{data}/nuclei.geojson\t" for k in range(4)]
    path = config_for(folder, package, rows)
    states = folder / f"results/{path.stem}/slides"
    command = ["snakemake", "-s", str(root / "Snakefile"), "-d", str(folder), "--cores", "1", "--configfile", str(path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as job:
        end = time.monotonic() + 300
        while len(list(states.glob("*.json"))) < 2 and time.monotonic() < end:
            time.sleep(0.2)
        os.killpg(job.pid, signal.SIGKILL)
    done = {p.name: p.stat().st_mtime_ns for p in states.glob("*.json")}
    assert 2 <= len(done) < 4
    snake(folder, "--unlock", config=path)
    snake(folder, config=path)
    table = pd.read_csv(folder / f"results/{path.stem}/slides.tsv", sep="\t")
    assert list(table["state"]) == ["done"] * 4
    assert not list((folder / f"results/{path.stem}").rglob("*.part*"))
    untouched = [name for name, time_ns in done.items() if (states / name).stat().st_mtime_ns == time_ns]
    assert len(untouched) >= len(done) - 1  # one may have been cut off between its file and Snakemake's note of it
