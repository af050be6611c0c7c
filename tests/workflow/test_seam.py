"""The seam: a system that is installed from elsewhere goes through the whole workflow like any other."""

import json

import anndata as ad
import numpy as np
import pytest

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


def test_a_system_from_outside_runs_through_the_whole_workflow(installed, snake, copy_of_tiny, changed):
    systems = {"nearest": {"kind": "centroid", "settings": {"power": 2.0}}, "mean": {"kind": "mean"}}
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
    assert "Nothing to be done" in snake(copy_of_tiny, "-n", config=config, PYTHONPATH=str(installed)).stdout
    code = installed / "centroid/system.py"
    code.write_text(code.read_text() + "\n# changed\n")
    planned = snake(copy_of_tiny, "-n", config=config, PYTHONPATH=str(installed)).stdout
    assert "Fitting nearest" in planned
    assert "Fitting mean" not in planned


def test_a_wrong_entry_of_systems_is_said(snake, tmp_path, changed):
    wrong = {
        "a": {"kind": "liner"},
        "b": {"kind": "linear", "encoder": "x"},
        "c": {"kind": "shest", "settings": {"epoch": 1}},
    }
    done = snake(tmp_path, "-n", config=changed(systems=wrong), check=False)
    assert done.returncode != 0
    for sentence in (
        "no kind of system liner. Did you mean linear?",
        "systems.b.encoder: x is not among encoders",
        "systems.c.settings: unknown key epoch. Did you mean epochs?",
    ):
        assert sentence in done.stdout, sentence
    assert "Traceback" not in done.stdout
