"""Panels: what is drawn is what is returned, medians and n stand in the panel, what is missing says so."""

import numpy as np
import pandas as pd
import pytest

from shest.draw import figure_data, panels, style, training_plots
from shest.score.evaluation import TypeScores
from shest.systems.base import HISTORY

SPACES = ("expression", "morphology")
PALETTE = {"A": "red", "B": "blue"}


@pytest.fixture
def axis():
    figure, axis = style.plt.subplots()
    yield axis
    style.plt.close(figure)


def texts(axis):
    return [t.get_text() for t in axis.texts]


def test_violins_name_group_median_and_number(axis):
    frame = panels.violins(axis, {"A": np.array([1.0, 2, 4]), "B": np.array([])}, ["red", "blue"], "µm")
    assert [t.get_text() for t in axis.get_xticklabels()] == ["A\n2.00\nn = 3", "B\n–"]
    assert frame["value"].tolist() == [1, 2, 4]


def test_violins_of_nothing_say_so(axis):
    panels.violins(axis, {"A": np.array([])}, ["red"], "µm")
    assert texts(axis) == ["no values"]


def test_distances_write_each_pairs_median_below(axis):
    nearest = {("A", "A"): np.array([1.0, 3.0]), ("A", "B"): np.array([10.0, 30.0]), ("B", "A"): np.array([7.0])}
    frame = panels.distances(axis, nearest, ["A", "B"], PALETTE, "Annotated")
    assert texts(axis) == ["2", "20", "7"]
    assert len(frame) == 5
    assert "(n = 2)" in axis.get_xticklabels()[0].get_text()


@pytest.mark.parametrize(("side", "said"), [("predicted", "expected counts"), ("drawn", "drawn counts")])
def test_moran_names_only_genes_within_a_fifth_of_identity(axis, side, said):
    genes = pd.DataFrame(
        {
            "gene": ["near", "far", "outside"],
            "moran_actual": [0.5, 0.5, 0.9],
            f"moran_{side}": [0.55, 0.65, 0.9],
            "marks": ["A", None, "B"],
        }
    )
    frame = panels.moran(axis, genes, side, PALETTE, [(0, 0.8), (0, 0.8)], 10, "Dense")
    assert said in axis.get_ylabel()
    assert texts(axis) == ["near"]
    assert frame["gene"].tolist() == ["near", "far"]
    assert "n = 2 genes; 1 of 1 within 20 % named" in axis.get_title()


def test_marker_violins_write_the_median_of_every_gene_in_every_type(axis):
    rng = np.random.default_rng(0)
    values, cell_type = rng.poisson(3, (40, 3)).astype(float), np.array(["A", "B"] * 20)
    frame = panels.marker_violins(axis, values, cell_type, {"A": ["g0", "g1"], "B": ["g2"]}, PALETTE, "Actual")
    expected = [f"{np.median(np.log1p(values[cell_type == t, g])):.2f}" for t in "AB" for g in range(3)]
    assert texts(axis) == expected
    assert frame.shape == (40, 4)


def test_dots_scale_each_gene_to_its_highest_mean_and_size_by_share(axis):
    table = pd.DataFrame({"cell_type": ["A", "B"], "gene": ["g", "g"], "mean": [2.0, 1.0], "share": [1.0, 0.25]})
    panels.dots(axis, table, {"A": ["g"]}, ["A", "B"], "Actual", "cells with a count")
    points = axis.collections[0]
    assert points.get_array().tolist() == [1.0, 0.5]
    assert points.get_sizes()[0] > points.get_sizes()[1]
    assert axis.get_legend().get_title().get_text() == "cells with a count"


def test_dots_of_unknown_shares_are_alike_and_say_so(axis):
    table = pd.DataFrame({"cell_type": ["A", "B"], "gene": ["g", "g"], "mean": [2.0, 1.0], "share": [np.nan, np.nan]})
    panels.dots(axis, table, {"A": ["g"]}, ["A", "B"], "Reconstructed", "no distribution")
    assert len(set(axis.collections[0].get_sizes())) == 1
    assert axis.get_legend().get_title().get_text() == "no distribution"
    assert not axis.get_legend().get_texts()


def test_a_scale_bar_is_as_long_as_it_says(axis):
    axis.set(xlim=(0, 700), ylim=(500, 0))
    panels.scale_bar(axis, panels.round_length(700))
    x = axis.lines[0].get_xdata()
    assert x[1] - x[0] == 100
    assert texts(axis) == ["100 µm"]


def test_refinement_shares_its_limits_before_and_after_and_returns_what_each_panel_shows():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(30, 4)), columns=[f"{s}_umap_{k}" for s in SPACES for k in (1, 2)])
    table["cell_type"], table["kept"] = ["A"] * 20 + ["B"] * 10, np.arange(30) < 25
    figure, axes = style.plt.subplots(2, 3)
    data = panels.refinement(axes, table, PALETTE)
    assert [len(frame) for frame in data] == [30, 30, 2, 25, 25, 2]
    assert data[2]["cells"].tolist() == [20, 10]
    assert data[5]["cells"].tolist() == [20, 5]
    for above, below in axes.T:
        assert above.get_xlim() == below.get_xlim()
    for above, below in axes.T[:2]:
        assert above.get_ylim() == below.get_ylim()
    style.plt.close(figure)


def test_bars_stand_side_by_side_in_a_colour_for_each_name(axis):
    rows = [("one", "a", 0.5, 0.4, 0.6), ("one", "b", 0.2, np.nan, np.nan), ("two", "b", 0.1, np.nan, np.nan)]
    panels.bars(axis, pd.DataFrame(rows, columns=figure_data.F1_COLUMNS), "F1")
    assert texts(axis) == ["0.50", "0.20", "0.10"]
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["a", "b"]
    drawn = [bar for bar in axis.patches if bar.get_height() > 0]
    assert [round(bar.get_x() + bar.get_width() / 2, 2) for bar in drawn] == [-0.2, 0.2, 1]
    assert drawn[1].get_facecolor() == drawn[2].get_facecolor() != drawn[0].get_facecolor()


def test_confusions_of_samples_add_up_by_name():
    scores = [
        TypeScores(0.5, 0.5, {}, 0.5, ["A", "B"], [[1, 2], [3, 4]]),
        TypeScores(0.5, 0.5, {}, 0.5, ["B", "C"], [[10, 20], [30, 40]]),
    ]
    counts = figure_data.confusion(scores)
    assert list(counts) == list(counts.index) == ["A", "B", "C"]
    assert counts.to_numpy().tolist() == [[1, 2, 0], [3, 14, 20], [0, 30, 40]]


def test_a_figure_is_written_at_300_dpi_with_text_as_text_and_its_data(tmp_path):
    from PIL import Image

    figure, axis = style.plt.subplots(figsize=(2, 1))
    axis.set_title("Alveolar")
    style.save(figure, tmp_path / "figure_9.png", {"A": pd.DataFrame({"x": [1]})}, tmp_path / "data")
    with Image.open(tmp_path / "figure_9.png") as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.5)
        assert picture.size == (600, 300)
    pdf = (tmp_path / "figure_9.pdf").read_bytes()
    assert b"/Type3" not in pdf
    assert b"/TrueType" in pdf or b"/CIDFontType2" in pdf
    assert (tmp_path / "data" / "A.csv").read_text() == "x\n1\n"


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        ([("classifier", 0, step, 1.0, 0.9, np.nan, 0.1, step == 2, 0.01) for step in (1, 2)], {"epoch"}),
        ([("logistic", 0, c, np.nan, 0.5, np.nan, np.nan, c == 0.1, np.nan) for c in (0.01, 0.1)], {"inverse penalty"}),
        ([], {""}),
    ],
)
def test_training_is_drawn_for_every_kind_of_history(tmp_path, monkeypatch, rows, labels):
    figures = []
    monkeypatch.setattr(training_plots, "save_picture", lambda figure, *_: figures.append(figure))
    training_plots.draw_training(pd.DataFrame(rows, columns=HISTORY), "title", tmp_path / "training.png")
    assert {axis.get_xlabel() for axis in figures[0].axes if axis.get_subplotspec().is_last_row()} == labels
    style.plt.close(figures[0])


def test_colours_are_the_papers_unless_all_should_tell_them_apart():
    types = {"Lymphocyte": {"subtypes": []}, "Fibroblast": {"subtypes": [], "colour": "teal"}}
    assert style.colours(types) == {"Lymphocyte": "blue", "Fibroblast": "teal"}
    blind = style.colours(types, "colourblind")
    assert set(blind.values()) <= set(style.COLOURBLIND)
    assert len(set(blind.values())) == 2
