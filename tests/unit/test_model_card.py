"""The model card says what a model is, whatever its kind, and nothing that does not hold for it."""

import pytest
from support.scores import evaluation

from shest.draw import model_card

INFO = {
    "system": "shest",
    "kind": "shest",
    "encoder": "enc",
    "protocol": "strict",
    "fold": "0",
    "fingerprint": "f" * 64,
    "dim": 8,
    "genes": ["A"] * 12,
    "classes": ["X", "Y"],
    "samples": ["s1"],
    "cells": {"train": {"X": 1234, "Y": 5}, "val": {"X": 6}},
    "classes_left_out": ["Z"],
    "split": {"digest": "d" * 64, "rule": "spatial blocks"},
    "refined": True,
    "settings": {"learning_rate": 0.01, "members": 3},
    "calibration": {"temperature": 1.3, "cells": 6, "ece_before": 0.1, "ece_after": None},
    "temperature": 1.3,
    "expression_unit": "expected counts per cell",
}
BARE = INFO | {
    "system": "plain",
    "kind": "mean",
    "encoder": None,
    "refined": False,
    "settings": {},
    "classes": [],
    "calibration": {"temperature": None, "cells": 6, "ece_before": None, "ece_after": None},
    "temperature": None,
}


def test_the_card_says_what_the_model_is():
    text = model_card.card(INFO)
    facts = (
        "| X | 1,234 | 6 |",
        "| Y | 5 | 0 |",
        "12 genes",
        "too few training cells: Z",
        "kind `shest`",
        "Encoder: enc",
    )
    settings = ("| `learning_rate` | `0.01` |", "| `members` | `3` |")
    calibration = ("Temperature 1.300", "0.100 before and – after")
    for phrase in (*facts, *settings, *calibration, "Not scored yet", "Not a medical device", "never predicted"):
        assert phrase in text


def test_the_card_of_a_system_without_types_and_encoder_says_nothing_of_them():
    text = model_card.card(BARE)
    assert "Encoder: none" in text
    for phrase in ("Temperature", "never predicted", "probability", "types of cells", "`learning_rate`", "Algorithm 1"):
        assert phrase not in text


@pytest.mark.parametrize(
    ("scores", "row"),
    [
        ({}, "| s1 | strict | train | 99 | 0.700 | 0.650–0.750 | 9 | – | – | 0.600 | 0.200 | – | – | – | 0.020 |"),
        (
            {"protocol": "paper", "calibration": None},
            "| s1 | paper | train | 99 | 0.700 | 0.650–0.750 | 9 | – | – | 0.600 | 0.200 | – | – | – | – |",
        ),
        (
            {"types": None, "calibration": None},
            "| s1 | strict | train | 99 | – | 0.650–0.750 | 9 | – | – | – | 0.200 | – | – | – | – |",
        ),
        (
            {"pearson": {"median": 0.2, "within_type": 0.1, "ceiling": 0.5, "ceiling_within_type": 0.3}},
            "| 9 | – | – | 0.600 | 0.200 | 0.500 | 0.100 | 0.300 | 0.020 |",
        ),
        (
            {"pearson": None},
            "| s1 | strict | train | 99 | 0.700 | 0.650–0.750 | 9 | – | – | 0.600 | – | – | – | – | 0.020 |",
        ),
    ],
)
def test_the_card_holds_the_scores_and_a_dash_for_what_is_not_predicted(scores, row):
    assert row in model_card.card(INFO, [evaluation("shest", **scores)])
