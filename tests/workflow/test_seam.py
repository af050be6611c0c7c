"""The seam: a system that is installed from elsewhere goes through the whole workflow like any other."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from support import slides
from support.applied import config_for, outlines_of_bundle

R = "results/tiny"
INIT = """
from shest.systems.base import SystemSpec

SPEC = SystemSpec("centroid.system:Centroid", settings={"power": {"type": "number", "default": 1.0}})
"""
SYSTEM = '''
import numpy as np

from shest.labels.training_set import moments
from shest.systems.base import Prediction, System


class Centroid(System):
    """Each type's mean embedding; the nearer, the likelier; expression: the type's mean."""

    def fit(self, data, advance):
        self.mean, self.std = moments(data.source, data.train)
        x, label = self.standard(data.source.take(data.train)), data.label[data.train]
        self.centres = np.stack([x[label == k].mean(axis=0) for k in range(len(data.classes))])
        counts = data.counts[data.train]
        self.counts = np.stack([np.asarray(counts[label == k].mean(axis=0)).ravel() for k in range(len(data.classes))])
        advance(1)
        return [{"part": "centroids", "member": 0, "step": 1, "val_loss": 0.0, "best": True}]

    def standard(self, x):
        return (np.asarray(x, np.float32) - self.mean) / self.std

    def predict(self, x, expression=True):
        apart = np.linalg.norm(self.standard(x)[:, None] - self.centres, axis=2)
        logits = -self.settings["power"] * apart
        expected = self.counts[logits.argmax(axis=1)].astype(np.float32)
        return Prediction(logits[None].astype(np.float32), expected if expression else None)

    def tensors(self):
        return {name: getattr(self, name) for name in ("mean", "std", "centres", "counts")}

    def restore(self, tensors, info):
        for name, value in tensors.items():
            setattr(self, name, value)
'''

SMALL = {"side_um": 16, "px": 32, "epochs": 2}
PATCHES = {
    "patch": {
        "kind": "single_patch",
        "settings": SMALL | {"backbone": "test_resnet", "weights": "random", "hidden": 64},
    },
    "space": {"kind": "histospace", "settings": SMALL | {"ae_epochs": 1, "ae_batch": 64, "ae_learning_rate": 0.001}},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder on the path as an installed package has it: a module, and what it says of itself."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "centroid").mkdir()
    (folder / "centroid/__init__.py").write_text(INIT)
    (folder / "centroid/system.py").write_text(SYSTEM)
    (folder / "centroid-1.0.dist-info").mkdir()
    (folder / "centroid-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: centroid\nVersion: 1.0\n")
    (folder / "centroid-1.0.dist-info/entry_points.txt").write_text("[shest.systems]\ncentroid = centroid:SPEC\n")
    return folder


def test_systems_from_outside_and_on_patches_run_through_the_whole_workflow(installed, snake, copy_of_tiny, changed):
    systems = {"nearest": {"kind": "centroid", "settings": {"power": 2.0}}, "mean": {"kind": "mean"}}
    systems["patch"] = PATCHES["patch"]
    config = changed(systems=systems, protocols=["strict"])
    output = snake(copy_of_tiny, config=config, PYTHONPATH=str(installed)).stdout
    for job in ("Fitting nearest", "Predicting sim_lung (nearest", "Scoring sim_lung (nearest", "Figure 4", "report"):
        assert job in output, job
    for job in ("Reading the bundle", "Embedding sim", "Refining", "Splitting", "Fitting shest"):
        assert job not in output, f"{job} was done again"
    folder = copy_of_tiny / R
    scores = json.loads((folder / "evaluation/nearest/strict/sim_lung.cells.json").read_text())
    mean = json.loads((folder / "evaluation/mean/strict/sim_lung.cells.json").read_text())
    assert (scores["kind"], scores["system"], scores["unit"]) == ("centroid", "nearest", "cells")
    assert scores["f1"]["weighted"] > mean["f1"]["weighted"] + 0.3
    assert scores["pearson"]["median"] > mean["pearson"]["median"]
    predicted = ad.read_h5ad(folder / "predictions/nearest/strict/sim_lung.cells.h5ad")
    assert np.isnan(predicted.obs["epistemic"]).all()
    report = (folder / "report.html").read_text()
    assert "nearest" in report
    assert (folder / "models/nearest/strict/0/card.md").is_file() or list(
        folder.glob("models/nearest/strict/*/card.md")
    )
    packed = {"systems": ["patch", "space"]}
    both = changed(systems=systems | {"space": PATCHES["space"]}, protocols=["strict"], package=packed)
    target = "results/tiny/evaluation/space/strict/sim_lung.cells.json"
    output = snake(copy_of_tiny, "--", target, config=both, PYTHONPATH=str(installed)).stdout
    assert "Cutting patches" not in output, "patches of one size serve all"
    check_patches(folder, mean)
    snake(copy_of_tiny, "--", "packages", config=both, PYTHONPATH=str(installed))
    for name in ("patch", "space"):
        check_package(copy_of_tiny, name, snake)
    assert "Nothing to be done" in snake(copy_of_tiny, "-n", config=config, PYTHONPATH=str(installed)).stdout
    code = installed / "centroid/system.py"
    code.write_text(code.read_text() + "\n# changed\n")
    planned = snake(copy_of_tiny, "-n", config=config, PYTHONPATH=str(installed)).stdout
    assert "Fitting nearest" in planned
    assert "Fitting mean" not in planned


def check_patches(folder, mean):
    """What the systems on patches left: logarithms, scored as such and on the scale of all, and no types."""
    for name, unit in (("patch", "log1p CPmedian"), ("space", "log10(1+CP10K)")):
        scores = json.loads((folder / f"evaluation/{name}/strict/sim_lung.cells.json").read_text())
        predicted = ad.read_h5ad(folder / f"predictions/{name}/strict/sim_lung.cells.h5ad")
        assert (predicted.uns["unit"], scores["expression_unit"], scores["f1"]) == (unit, unit, None)
        assert predicted.obs["cell_type"].isna().all()
        assert scores["common"]["by_unit"] > mean["common"]["by_unit"] - 0.1, "about each gene's mean is known"
        genes = pd.read_csv(folder / f"evaluation/{name}/strict/sim_lung.cells.genes.csv")
        assert 0 < genes["mean_actual"].max() < 6, "counts are scored as logarithms"
        record = json.loads((folder / f"models/{name}/strict/all/model.json").read_text())
        assert record["parameters"]["head"] > 0
        history = pd.read_csv(folder / f"models/{name}/strict/all/training.csv")
        assert (history["learning_rate"] >= 0).all()
    table = pd.read_csv(folder / "comparison/strict.csv").set_index(["system", "sample"])
    assert table.loc["patch", "expression_unit"].eq("log1p CPmedian").all()
    assert table["pearson_common"].notna().all()
    assert "median R of logs" in (folder / "report.html").read_text()


def check_package(run, name, snake):
    """The package of a system on patches predicts of a slide with given nuclei what the run did of the bundle."""
    image = next((run / R / "simulated/sim_lung").glob("*he_image.ome.tif"))
    ids, rings = outlines_of_bundle(run, "sim_lung")
    made = [slides.feature(ring, "cell") | {"id": cell} for cell, ring in zip(ids, rings, strict=True)]
    slides.write(run / "nuclei.geojson", slides.collection(made))
    row = f"plain\tpredict\tslide\t{image}\t{run}/nuclei.geojson\t"
    config = config_for(run, run / R / f"packages/{name}", [row])
    snake(run, config=config)
    found = ad.read_h5ad(run / f"results/{config.stem}/predictions/{name}/strict/plain.cells.h5ad")
    bundle = ad.read_h5ad(run / R / f"predictions/{name}/strict/sim_lung.cells.h5ad")
    assert list(found.obs_names) == list(bundle.obs_names)
    assert np.abs(found.X - bundle.X).max() < 0.02, "but for the order of sums"
    assert found.uns["unit"] == bundle.uns["unit"]
    assert not list((run / f"results/{config.stem}").rglob("patches.json")), "patches go when they were looked at"


def test_a_wrong_entry_of_systems_is_said(snake, tmp_path, changed):
    wrong = {
        "a": {"kind": "liner"},
        "b": {"kind": "linear", "encoder": "x"},
        "c": {"kind": "shest", "settings": {"epoch": 1}},
    }
    config = changed(systems=wrong)
    done = snake(tmp_path, "-n", config=config, check=False)
    assert done.returncode != 0
    for sentence in (
        "no kind of system liner. Did you mean linear?",
        "systems.b.encoder: x is not among encoders",
        "systems.c.settings: unknown key epoch. Did you mean epochs?",
    ):
        assert sentence in done.stdout, sentence
    assert "Traceback" not in done.stdout
