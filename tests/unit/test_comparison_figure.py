"""The picture of all systems side by side shows the numbers of the table."""

import numpy as np
import pandas as pd
import pytest

from shest.draw import comparison, style
from shest.score.score_list import SCORES

SYSTEMS = ("shest", "linear", "mean")


@pytest.fixture
def rows():
    rng, table = np.random.default_rng(0), []
    for sample in ("colon_train", "lung"):
        for system in SYSTEMS:
            row = {"system": system, "sample": sample, "ground": "all", "n_genes": 200, "n_genes_above_by_chance": 4}
            for name in SCORES:
                value = float(rng.uniform(0.2, 0.8))
                low, high = (value - 0.1, value + 0.08) if system != "mean" else (None, None)
                row |= {name: value, f"{name}_low": low, f"{name}_high": high}
            table.append(row | {"iou_chance": 0.3})
    table[2] |= {"pearson_top": None}
    return table


COSTS = pd.DataFrame({"system": SYSTEMS, "fit_seconds": [100.0, 10.0, 1.0], "units_per_second": [400.0, 900.0, np.nan]})


def test_a_panel_a_score_at_print_size_with_its_numbers_beside(rows, tmp_path):
    figure, data = comparison.draw(rows)
    assert figure.get_figwidth() == pytest.approx(180 / 25.4)
    letters = "ABCDEFGHIJKLMN"
    assert list(data) == list(letters)
    first = data["A"].set_index(["system", "sample"])
    assert first.loc[("linear", "lung"), "value"] == rows[4]["weighted"]
    assert first.loc[("linear", "lung"), "high"] == rows[4]["weighted_high"]
    assert first["chance"].isna().all()
    above = data[letters[list(SCORES).index("genes_above")]]
    assert (above["chance"] == 4 / 200).all()
    assert (data[letters[list(SCORES).index("auc_high")]]["chance"] == 0.5).all()
    sizes = {
        text.get_fontsize() for axis in figure.axes for text in axis.findobj(match=style.plt.Text) if text.get_text()
    }
    assert 6 <= min(sizes) <= max(sizes) <= 8
    style.save(figure, tmp_path / "c.png", data, tmp_path / "data")
    assert len(list((tmp_path / "data").iterdir())) == len(letters)


def test_costs_are_a_picture_apart_and_what_was_not_measured_is_not_drawn(rows):
    figure, data = comparison.draw_costs(rows, COSTS)
    assert figure.get_figwidth() == pytest.approx(180 / 25.4)
    assert list(data) == list("ABCD")
    assert set(data["A"]["system"]) == set(SYSTEMS)
    assert set(data["B"]["system"]) == {"shest", "linear"}


def test_where_programs_were_added_what_all_share_is_drawn(rows):
    shared = [row | {"ground": "shared", "weighted": 0.5} for row in rows if row["sample"] == "lung"]
    table = comparison.shown(rows + shared)
    assert table.groupby("sample")["ground"].agg(set).to_dict() == {"colon_train": {"all"}, "lung": {"shared"}}
    assert len(table) == 6


def test_spots_of_a_sample_that_has_cells_stand_apart(rows):
    both = [row | {"unit": "cells"} for row in rows] + [rows[0] | {"unit": "spots", "ground": "all"}]
    assert set(comparison.shown(both)["sample"]) == {"colon_train", "lung", "colon_train, spots"}
    alone = [row | {"unit": "spots"} for row in rows]
    assert set(comparison.shown(alone)["sample"]) == {"colon_train", "lung"}
