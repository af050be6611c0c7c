"""Real bundles from end to end: labels that agree with the experts, scores that hold on tissue apart."""

import json

import anndata as ad
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
    assert list(mirrored.values()) == [False, True, False]


def within_class_medians(run, kit, sample, permutations=1000):
    """Median Pearson R over genes within each class of the experts, and the same with cells permuted within it."""
    found = ad.read_h5ad(run / f"predictions/morphometrics/strict/{sample}.h5ad")
    counts = ad.read_zarr(run / sample / "sdata.zarr/tables/table")
    counts.obs_names = counts.obs["cell_id"].astype(str)
    experts = pd.read_csv(kit / sample / "he_annotation.csv").set_index("cell_id")["group"]
    test = found.obs_names[(found.obs["part"] == "test") & found.obs_names.isin(experts.index)]
    rng, medians = np.random.default_rng(0), {}
    for name, cells in experts.reindex(test).groupby(experts.reindex(test)):
        if len(cells) < 200:
            continue
        genes = [g for g in found.var_names if g in counts.var_names]
        predicted = np.asarray(found[cells.index, genes].X, float)
        actual = counts[cells.index, genes].X.toarray().astype(float)
        varies = (actual.std(axis=0) > 0) & (predicted.std(axis=0) > 0)
        x, y = (v[:, varies] for v in (predicted, actual))
        x, y = ((v - v.mean(axis=0)) / v.std(axis=0) for v in (x, y))
        shuffled = [np.median((x[rng.permutation(len(x))] * y).mean(axis=0)) for _ in range(permutations)]
        medians[name] = np.median((x * y).mean(axis=0)), np.quantile(shuffled, [0.005, 0.995])
    return medians


def test_nothing_is_learnt_within_a_class_where_nothing_can_be(run, kit):
    """The kit pairs nuclei and counts at random within the expert's class: any correlation there would be a leak."""
    medians = within_class_medians(run, kit, "colon_train")
    assert len(medians) >= 2
    for name, (median, (low, high)) in medians.items():
        assert abs(median) <= 0.03, name
        assert low <= median <= high, name
