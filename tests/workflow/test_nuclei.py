"""A segmenter in the workflow: trained on the outlines of one sample, it outlines, types and predicts the other."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

R = "results/tiny"
SETTINGS = {"steps": 150, "checks": 5, "patch_px": 64, "batch": 8, "learning_rate": 0.005}


@pytest.fixture(scope="module")
def systems():
    return {"nuclei": {"kind": "nuclei", "settings": SETTINGS}}


def scores(folder, system, sample):
    return json.loads((folder / f"evaluation/{system}/strict/{sample}.cells.json").read_text())


def test_it_outlines_and_types_another_sample(snake, copy_of_tiny, changed, systems):
    trained = {"method": "trained", "weights": "{results}/models/nuclei/strict/all"}
    packed = {"systems": ["nuclei"]}
    config = changed(systems=systems, protocols=["strict"], segment=trained, package=packed)
    output = snake(copy_of_tiny, config=config).stdout
    for job in ("Fitting nuclei (strict, fold 0)", "Outlining the nuclei of sim_lung", "Scoring sim_train (nuclei"):
        assert job in output, job
    for job in ("Outlining the nuclei of sim_train", "Fitting shest", "Fitting linear"):
        assert job not in output, f"{job} was done again"
    folder = copy_of_tiny / R
    said = json.loads((folder / "samples/sim_lung/segment.json").read_text())
    assert (said["method"], said["system"], said["fold"], said["samples"]) == (
        "trained",
        "nuclei",
        "all",
        ["sim_train"],
    )
    assert said["agreement_with_dapi_nuclei"]["detection"]["3"]["f1"] > 0.6
    assert json.loads((folder / "samples/sim_train/segment.json").read_text())["method"] == "bundle"
    kept = pd.read_parquet(folder / "samples/sim_lung/cells.parquet").query("kept")
    found = ad.read_h5ad(folder / "predictions/nuclei/strict/sim_lung.cells.h5ad")
    assert list(found.obs_names) == list(kept["cell_id"])
    assert np.isfinite(found.X).all()
    own = scores(folder, "nuclei", "sim_train")
    labels = pd.read_parquet(folder / "samples/sim_train/annotation.parquet").set_index("cell_id")["cell_type"]
    of_train = pd.read_parquet(folder / "samples/sim_train/cells.parquet").query("kept")["cell_id"]
    assert own["n"] == labels.reindex(of_train).notna().sum()
    assert own["f1"]["weighted"] > 0.5
    outlines = json.loads((folder / "evaluation/nuclei/strict/sim_train.outlines.json").read_text())
    assert sum(part["reference"] for part in outlines["folds"].values()) == outlines["reference"]
    assert sum(part["found"] for part in outlines["folds"].values()) == outlines["found"]
    assert outlines["detection"]["3"]["f1"] > 0.6
    assert outlines["types"]["hovernet"]["f_d"] > 0.6
    kinds = own["f1"]["per_class"]
    assert set(outlines["types"]["hovernet"]["f_c"]) <= set(kinds)
    assert max(v or 0 for v in outlines["types"]["hovernet"]["f_c"].values()) > 0.3
    assert not (folder / "evaluation/nuclei/strict/sim_lung.outlines.json").exists(), (
        "its outlines are the system's own"
    )
    assert not list(folder.glob("models/nuclei/strict/*/scratch"))
    assert "nuclei" in (folder / "report.html").read_text()
    assert "Nothing to be done" in snake(copy_of_tiny, "-n", config=config).stdout
    apply_package(snake, copy_of_tiny, folder)


def apply_package(snake, run, folder):
    """Its package takes one pass a slide."""
    image = next((folder / "simulated/sim_lung").glob("*he_image.ome.tif"))
    (run / "apply.tsv").write_text(f"sample\trole\tplatform\tpath\nplain\tpredict\tslide\t{image}\n")
    model = folder / "packages/nuclei"
    (run / "apply.yaml").write_text(f"results: results/apply\nsamples: apply.tsv\nmodel: {model}\n")
    snake(run, config=run / "apply.yaml")
    state = json.loads((run / "results/apply/slides/plain.json").read_text())
    assert (state["state"], state["segment"]) == ("done", "trained")
    assert set(state["domain"]) == {"embedding", "red", "green", "blue", "size"}
    found = ad.read_h5ad(run / "results/apply/predictions/nuclei/strict/plain.cells.h5ad")
    of_bundle = ad.read_h5ad(folder / "predictions/nuclei/strict/sim_lung.cells.h5ad")
    distance, partner = cKDTree(found.obsm["pixel"]).query(of_bundle.obsm["pixel"])
    near = distance < 2  # px: sim_lung's nuclei were found by the same network
    assert near.mean() > 0.95
    same = found.obs["cell_type"].to_numpy(str)[partner] == of_bundle.obs["cell_type"].to_numpy(str)
    assert same[near].mean() > 0.95
    probe = json.loads((run / "results/apply/check/probe.json").read_text())
    assert all(check["passed"] for check in probe["checks"])


def test_what_it_needs_is_said(snake, tmp_path, changed, systems):
    for segment, sentence in (
        ({"method": "trained"}, "segment.weights is missing"),
        (
            {"method": "trained", "weights": "{results}/models/nucleus/strict/all"},
            "no system nucleus that finds nuclei in systems. Did you mean nuclei?",
        ),
        ({"method": "trained", "weights": "nowhere/model.safetensors"}, "the network is not there"),
    ):
        done = snake(tmp_path, "-n", config=changed(systems=systems, segment=segment), check=False)
        assert done.returncode != 0
        assert sentence in done.stdout
        assert "Traceback" not in done.stdout
