"""Ways to label beside each other: scores by hand, and the doubt where another way agrees better with the table."""

import pandas as pd
import pytest
from sklearn.metrics import f1_score

from shest.draw import summary
from shest.labels import comparison

CALLS = {
    ("markers", "resolution 4, neoplastic ratio"): pd.Series({"a": "E", "b": "E", "c": None, "d": "C", "e": "C"}),
    ("tacco", "prior estimated"): pd.Series({"a": "E", "b": "C", "c": "C", "d": "C", "e": "E"}),
    ("tacco", "prior table"): pd.Series({"a": "E", "b": "C", "c": "C", "d": "C", "e": "C"}),
}
TABLE = pd.Series({"a": "E", "b": "C", "c": "C", "d": "C", "e": None, "gone": "E"})
USED = next(iter(CALLS))


def test_scores_by_hand():
    table, confusion = comparison.compare(CALLS, USED, TABLE)
    own = table.iloc[0]
    assert (own["used"], own["cells"], own["typed"], own["as_labels"]) == (True, 5, 0.8, 1)
    assert (own["table_cells"], own["accuracy"]) == (4, 0.5)
    assert own["accuracy_typed"] == pytest.approx(2 / 3)
    by_type = {"E": 2 * 1 / (2 + 1), "C": 2 * 1 / (1 + 3)}
    assert own["f1_macro"] == pytest.approx(sum(by_type.values()) / 2)
    assert own["f1_weighted"] == pytest.approx(by_type["E"] / 4 + by_type["C"] * 3 / 4)
    assert table["as_labels"].tolist() == pytest.approx([1, 2 / 5, 3 / 5])
    rows = confusion[confusion["way"] == "markers"][["table_type", "type", "cells"]].values.tolist()
    assert sorted(rows) == [["C", "C", 1], ["C", "E", 1], ["C", "no type", 1], ["E", "E", 1]]
    assert f1_score(["E"], ["E"], average="macro") == 1


def test_without_a_table_there_is_only_agreement_with_the_labels():
    table, confusion = comparison.compare(CALLS, USED, None)
    assert "accuracy" not in table
    assert confusion.empty
    assert summary.label_doubts("s", table) == []


def test_a_way_that_agrees_better_is_named_but_not_one_that_knew_the_table(tmp_path):
    table, _ = comparison.compare(CALLS, USED, TABLE)
    table.to_csv(tmp_path / "t.csv", index=False)
    (said,) = summary.label_doubts("s", pd.read_csv(tmp_path / "t.csv"))
    assert said == (
        "s: its labels agree with the table on 50% of 4 cells, by markers (resolution 4, neoplastic ratio); "
        "tacco (prior estimated) agrees on 100%."
    )
    best, _ = comparison.compare(CALLS, ("tacco", "prior estimated"), TABLE)
    assert summary.label_doubts("s", best) == []
    shown = summary.label_comparison_table({"s": table})
    assert shown["used here"].tolist() == ["yes", "", ""]


def test_every_resolution_is_tried_with_and_without_the_neoplastic_step():
    tried = [comparison.name_of(v) for v in comparison.variants({"resolution": 0.5, "neoplastic": "none"})]
    assert len(tried) == 12
    assert {
        "resolution 0.5, neoplastic none",
        "resolution 1, neoplastic ratio",
        "resolution 4, neoplastic enrichment",
    } <= {*tried}
