"""Panels: what is drawn is what is returned, medians and n stand in the panel, absent things say so."""

import numpy as np
import pandas as pd
import pytest

from shest.draw import panels, style

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
    found = {("A", "A"): np.array([1.0, 3.0]), ("A", "B"): np.array([10.0, 30.0]), ("B", "A"): np.array([7.0])}
    frame = panels.distances(axis, found, ["A", "B"], PALETTE, "Annotated")
    assert texts(axis) == ["2", "20", "7"]
    assert len(frame) == 5
    assert "(n = 2)" in axis.get_xticklabels()[0].get_text()


def test_moran_names_only_genes_within_a_fifth_of_identity(axis):
    genes = pd.DataFrame(
        {
            "gene": ["near", "far", "outside"],
            "moran_actual": [0.5, 0.5, 0.9],
            "moran_predicted": [0.55, 0.65, 0.9],
            "marks": ["A", None, "B"],
        }
    )
    frame = panels.moran(axis, genes, PALETTE, [(0, 0.8), (0, 0.8)], 10, "Dense")
    assert texts(axis) == ["near"]
    assert frame["gene"].tolist() == ["near", "far"]
    assert "n = 2 genes; 1 of 1 within 20 % named" in axis.get_title()


def test_marker_violins_write_the_median_of_every_gene_in_every_type(axis):
    rng = np.random.default_rng(0)
    values, kind = rng.poisson(3, (40, 3)).astype(float), np.array(["A", "B"] * 20)
    frame = panels.marker_violins(axis, values, kind, {"A": ["g0", "g1"], "B": ["g2"]}, PALETTE, "Actual")
    expected = [f"{np.median(np.log1p(values[kind == t, g])):.2f}" for t in "AB" for g in range(3)]
    assert texts(axis) == expected
    assert frame.shape == (40, 4)


def test_dots_scale_each_gene_to_its_highest_mean_and_size_by_share(axis):
    table = pd.DataFrame({"cell_type": ["A", "B"], "gene": ["g", "g"], "mean": [2.0, 1.0], "share": [1.0, 0.25]})
    panels.dots(axis, table, {"A": ["g"]}, ["A", "B"], "Actual")
    points = axis.collections[0]
    assert points.get_array().tolist() == [1.0, 0.5]
    assert points.get_sizes()[0] > points.get_sizes()[1]


def test_a_scale_bar_is_as_long_as_it_says(axis):
    axis.set(xlim=(0, 700), ylim=(500, 0))
    panels.scale_bar(axis, panels.round_length(700))
    x = axis.lines[0].get_xdata()
    assert x[1] - x[0] == 100
    assert texts(axis) == ["100 µm"]


def test_confusions_of_samples_add_up_by_name():
    scores = [
        {"confusion": {"types": ["A", "B"], "counts": [[1, 2], [3, 4]]}},
        {"confusion": {"types": ["B", "C"], "counts": [[10, 20], [30, 40]]}},
    ]
    matrix, types = panels.summed_confusion(scores)
    assert types == ["A", "B", "C"]
    assert matrix.tolist() == [[1, 2, 0], [3, 14, 20], [0, 30, 40]]


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


def test_a_figure_without_its_sample_says_so_in_every_panel(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(style, "save", lambda figure, *_: kept.append(figure))
    style.without("ABCDE", "no such sample", tmp_path / "figure_9.png", tmp_path / "data")
    said = [t.get_text() for axis in kept[0].axes for t in axis.texts]
    assert said == ["no such sample"] * 5
    style.plt.close(kept[0])


def test_colours_are_the_papers_unless_all_should_tell_them_apart():
    types = {"Lymphocyte": {"subtypes": []}, "Fibroblast": {"subtypes": [], "colour": "teal"}}
    assert style.colours(types) == {"Lymphocyte": "blue", "Fibroblast": "teal"}
    blind = style.colours(types, "colourblind")
    assert set(blind.values()) <= set(style.COLOURBLIND)
    assert len(set(blind.values())) == 2
