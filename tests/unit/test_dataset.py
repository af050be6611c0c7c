"""Joining samples by gene name, choosing the cells to learn from, and the model card."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from shest.core.errors import InputError
from shest.draw import model_card
from shest.io import counts
from shest.labels import training_set


def test_genes_are_joined_by_name():
    first = sparse.csr_matrix(np.array([[1, 2, 0], [0, 0, 3]]))
    second = sparse.csr_matrix(np.array([[4, 5, 6]]))
    joined, genes, measured = counts.join([(first, ["A", "B", "C"]), (second, ["D", "C", "A"])])
    assert genes == ["A", "B", "C", "D"]
    assert joined.toarray().tolist() == [[1, 2, 0, 0], [0, 0, 3, 0], [6, 0, 5, 4]]
    assert measured.tolist() == [[True, True, True, False], [True, False, True, True]]


def split_table():
    one = [("train", "X")] * 4 + [("train", "Y")] * 4 + [("val", "X")] * 2
    one += [("test", "X"), ("gap", "Y"), ("train", "Z")]
    rows = [(sample, f"{sample}{i}", part, kind) for sample in "ab" for i, (part, kind) in enumerate(one)]
    return pd.DataFrame(rows, columns=["sample", "cell_id", "part", "cell_type"])


def refined(split, lost):
    return {
        s: pd.DataFrame({"cell_id": part["cell_id"], "kept": ~part["cell_id"].isin(lost)})
        for s, part in split.groupby("sample")
    }


def test_strict_learns_from_kept_cells_and_validates_on_all():
    split = split_table()
    seen = {
        s: f[f["cell_id"].isin(split.loc[split["part"] == "train", "cell_id"])]
        for s, f in refined(split, ["a0", "b5"]).items()
    }
    table, classes = training_set.training_table(split, seen, "strict", 3)
    assert classes == ["X", "Y"]
    assert (table["part"] == "train").sum() == 14
    assert not {"a0", "b5"} & set(table["cell_id"])
    assert (table["part"] == "val").sum() == 4
    assert (table["label"] == (table["cell_type"] == "Y")).all()


def test_paper_validates_on_refined_cells():
    split = split_table()
    table, _ = training_set.training_table(split, refined(split, ["a8"]), "paper", 3)
    assert (table["part"] == "val").sum() == 3
    assert set(table["part"]) == {"train", "val"}


def test_too_few_types_are_refused():
    split = split_table()
    with pytest.raises(InputError, match="fewer than two types have 100 cells"):
        training_set.training_table(split, refined(split, []), "strict", 100)


def test_labelled_cells_are_kept_and_labelled(tmp_path):
    cells = {"cell_id": ["c", "a", "b"], "x": [1.0, 2, 3], "y": [4.0, 5, 6], "kept": [True, True, False]}
    labels = {"cell_id": ["a", "b", "c", "d"], "cell_type": ["X", "Y", None, "X"]}
    pd.DataFrame(cells).to_parquet(tmp_path / "cells.parquet")
    pd.DataFrame(labels).to_parquet(tmp_path / "labels.parquet")
    table = training_set.labelled_cells("s", tmp_path / "cells.parquet", tmp_path / "labels.parquet")
    assert table.to_dict("records") == [{"sample": "s", "cell_id": "a", "x": 2.0, "y": 5.0, "cell_type": "X"}]


INFO = {
    "encoder": "enc",
    "protocol": "strict",
    "fingerprint": "f" * 64,
    "dim": 8,
    "genes": ["A"] * 12,
    "classes": ["X", "Y"],
    "samples": ["s1"],
    "members": 3,
    "cells": {"train": {"X": 1234, "Y": 5}, "val": {"X": 6}},
    "classes_left_out": ["Z"],
    "split": {"digest": "d" * 64, "rule": "spatial blocks"},
    "config": {"learning_rate": 0.01, "batch": 1024, "epochs": 40, "views": 1, "seed": 42},
    "calibration": {"temperature": 1.3, "cells": 6, "ece_before": 0.1, "ece_after": None},
}
SCORES = {
    "sample": "s1",
    "protocol": "strict",
    "role": "train",
    "n_cells": 99,
    "f1": {"weighted": 0.7, "macro": 0.6},
    "baselines": {"logistic": {"f1": {"weighted": 0.65}}},
    "pearson": {"median": 0.2},
    "calibration": {"ece_after": 0.02},
}


def test_card_says_what_the_model_is():
    text = model_card.card(INFO)
    cells = ("| X | 1,234 | 6 |", "| Y | 5 | 0 |", "12 genes", "too few training cells: Z")
    for said in (*cells, "0.100 before and – after", "Not scored yet", "Not a medical device"):
        assert said in text


def test_card_holds_the_scores_of_both_protocols():
    text = model_card.card(INFO, [SCORES, SCORES | {"protocol": "paper", "calibration": None}])
    assert "| s1 | strict | train | 99 | 0.700 | 0.600 | 0.650 | 0.200 | 0.020 |" in text
    assert "| s1 | paper | train | 99 | 0.700 | 0.600 | 0.650 | 0.200 | – |" in text
