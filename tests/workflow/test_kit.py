"""Real bundles from end to end: labels that agree with the experts, scores that hold on tissue apart."""

import json

import numpy as np
import pandas as pd
import pytest

pytestmark = [pytest.mark.kit, pytest.mark.slow]
SAMPLES = ("colon_train", "lung_train", "lung_validation")
R = "results/kit"


@pytest.fixture(scope="module")
def run(snake, kit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit")
    snake(folder, config="kit", SHEST_KIT=str(kit))
    return folder / R


def scores(run, protocol, sample):
    return json.loads((run / f"evaluation/morphometrics/{protocol}/{sample}.json").read_text())


def test_reasons_add_up_to_the_bundles_cells(run, kit):
    for sample in SAMPLES:
        total = len(pd.read_parquet(kit / sample / "cells.parquet", columns=["cell_id"]))
        for name in ("cells", "annotation"):
            assert pd.read_parquet(run / sample / f"{name}.parquet")["reason"].value_counts().sum() == total


def test_labels_agree_with_the_experts(run, kit):
    experts = pd.read_csv(kit / "colon_train/he_annotation.csv").set_index("cell_id")["group"]
    found = pd.read_parquet(run / "colon_train/annotation.parquet").set_index("cell_id")["tacco_type"]
    assert (found.reindex(experts.index) == experts).mean() >= 0.83


def test_scores_on_tissue_apart(run):
    assert scores(run, "strict", "colon_train")["f1"]["weighted"] >= 0.68
    assert scores(run, "strict", "lung_validation")["f1"]["weighted"] >= 0.90


@pytest.mark.parametrize("protocol", ["strict", "paper"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_heads_are_no_worse_than_logistic_regression(run, protocol, sample):
    found = scores(run, protocol, sample)
    assert found["f1"]["weighted"] >= found["baselines"]["logistic"]["f1"]["weighted"] - 0.02


def test_nuclei_lie_on_tissue(run):
    for sample in SAMPLES:
        found = json.loads((run / sample / "registration.json").read_text())
        assert found["share_on_tissue"] > 0.9
        assert found["mpp_x"] == pytest.approx(0.25, rel=0.01)
    mirrored = {s: json.loads((run / s / "registration.json").read_text())["mirror"] for s in SAMPLES}
    assert np.array_equal(list(mirrored.values()), [False, True, False])
