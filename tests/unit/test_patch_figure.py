"""Figure P: what stands in each panel, and why a panel is left out."""

import numpy as np
import pandas as pd
import pytest
from support.scores import evaluation

from shest.draw import patch_figure
from shest.draw.style import plt

PATIENTS = {"a": "p", "b": "p", "c": "q", "d": None}


def of(system, sample, hvg, above=3, kind="single_patch"):
    return evaluation(
        system,
        kind,
        sample=sample,
        gene_sets={"HVG": {"genes": 5, "pearson": hvg}, "MG": {"genes": 0, "pearson": None}},
        pearson={"median": hvg, "n_above_0.3": above, "null": {"mean": 0.4}},
        common={"pearson": hvg / 2},
    )


def record(system, **settings):
    return {
        "system": system,
        "kind": "single_patch",
        "samples": ["a", "b"],
        "settings": {"augment": "mpa", "backbone": "resnet18"} | settings,
        "parameters": {"backbone": 1000, "head": 200, "backbone trained": 1000, "head trained": 200},
    }


@pytest.fixture
def run():
    """Two samples of one donor and one of another; the same system with and without augmentation."""
    evaluations = [of(s, name, r) for s, r in (("one", 0.3), ("plain", 0.2)) for name in "abc"]
    evaluations[1] = of("one", "b", 0.5, above=7)
    evaluations.append(evaluation("mean", sample="a", common={"pearson": 0.0}))
    records = {"one": record("one"), "plain": record("plain", augment="none"), "mean": {"kind": "mean", "settings": {}}}
    rng = np.random.default_rng(0)
    columns = {"pearson": rng.normal(0, 1, 20), "moran_actual": rng.random(20), "mean_counts": rng.random(20) + 0.1}
    genes = pd.DataFrame({"gene": [f"g{k}" for k in range(20)]} | columns)
    return evaluations, records, {name: genes for name in "abc"}


def test_sets_are_means_over_samples_and_empty_sets_say_nothing(run):
    rows = patch_figure.set_rows(run[0]).set_index(["score", "by"])
    assert list(rows.index) == [("HVG", "one"), ("HVG", "plain")]
    assert rows.loc[("HVG", "one")].to_list() == pytest.approx([1.1 / 3, 0.3, 0.5])


def test_augmentations_are_compared_where_nothing_else_differs(run):
    evaluations, records, _ = run
    rows = patch_figure.augmentation_rows(evaluations, records)
    assert dict(zip(rows["by"], rows["value"], strict=True)) == pytest.approx({"mpa": 1.1 / 3, "none": 0.2})
    records["plain"]["settings"]["backbone"] = "resnet50"
    assert patch_figure.augmentation_rows(evaluations, records).empty


def test_size_is_of_the_whole_network(run):
    rows = patch_figure.size_rows(*run[:2])
    assert set(rows["parameters"]) == {1200}
    assert rows["genes"].tolist() == [3, 7, 3, 3, 3, 3]
    assert set(rows["by_chance"]) == {0.4}
    assert set(rows["system"]) == {"one", "plain"}


@pytest.mark.parametrize(
    ("sample", "by", "said"),
    [
        ("a", "block", "same section"),
        ("a", "sample", "same donor"),
        ("a", "patient", "other donor"),
        ("c", "sample", "other donor"),
        ("d", "block", "other donor"),
    ],
)
def test_a_donor_is_known_by_the_other_samples_that_were_trained_on(sample, by, said):
    assert patch_figure.donor(sample, ["a", "b"], PATIENTS, by) == said
    assert patch_figure.donor("b", ["b", "d"], PATIENTS, "sample") == "other donor"


def text_of(figure):
    return " ".join(text.get_text() for text in figure.findobj(plt.Text)).replace("\n", " ")


def test_the_figure_holds_what_the_run_has_and_says_what_it_lacks(run):
    evaluations, records, genes = run
    figure, data = patch_figure.compose(evaluations, records, genes, PATIENTS, "sample", "one")
    assert list(data) == list("ABCDEF")
    assert dict(data["D"][["sample", "donor"]].to_numpy()) == {"a": "same donor", "b": "same donor", "c": "other donor"}
    pd.testing.assert_frame_equal(data["E"], genes["a"][["gene", "moran_actual", "pearson"]])
    plt.close(figure)
    few = [e for e in evaluations if e.sample == "a" and e.system == "one"]
    genes["a"] = genes["a"].assign(pearson=0.0)
    figure, data = patch_figure.compose(few, records, genes, PATIENTS, "sample", "one")
    assert list(data) == ["A", "C"]
    said = text_of(figure)
    for reason in ("B: no two systems differ", "D: every sample is of the same donor", "E, F: no gene's R varies"):
        assert reason in said
    plt.close(figure)
