"""What the report says of scores: every system by its name, baselines beside it, doubts where they are due."""

from dataclasses import replace

import numpy as np
from support.scores import evaluation, type_scores

from shest.draw import figure_data, summary
from shest.io.registration import Registration
from shest.score.evaluation import Matched

NET = evaluation("net", types=type_scores(0.7))
PAPER = evaluation("net", protocol="paper")
RIDGE = evaluation("ridge", "linear", types=type_scores(0.65), pearson={"median": 0.25, "share_above_0.3": 0.3})
MEAN = evaluation("mean", types=type_scores(0.2), pearson={"median": 0.0, "share_above_0.3": 0.0})
BLIND = evaluation("blind", "net", types=None, calibration=None, intervals={"pearson_median": [0.1, 0.3]})
EVERY = [MEAN, RIDGE, PAPER, NET, BLIND]
MODEL = {
    "system": "net",
    "encoder": "enc",
    "protocol": "strict",
    "cells": {"train": {"X": 1000, "Y": 281}},
    "samples": ["s1", "s2"],
    "classes": ["X", "Y"],
    "genes": ["A"] * 1200,
    "classes_left_out": [],
}


def doubts(evaluations, share=1.0, given=True, models=(MODEL,)):
    registration = replace(Registration.of_alignment(np.eye(3), 0.2125), share_on_tissue=share)
    return summary.doubts(evaluations, {"s1": registration}, {"s1": given}, models)


def test_models_that_share_their_facts_share_a_sentence():
    models = [MODEL, MODEL | {"system": "mean", "encoder": None}, MODEL | {"system": "typist", "genes": []}]
    assert summary.fitted(models) == (
        "net on enc, mean (strict): fitted on 1,281 cells of s1, s2; 2 types, 1,200 genes. "
        "typist on enc (strict): fitted on 1,281 cells of s1, s2; 2 types."
    )


def test_cards_show_the_chosen_system_first_and_strict_first_with_linear_beside():
    cards = summary.headline(EVERY, "blind")
    assert [card["name"] for card in cards] == [
        "s1: median R, strict (blind)",
        "s1: weighted F1, strict (net)",
        "s1: weighted F1, paper (net)",
    ]
    assert cards[0] == cards[0] | {"value": "0.200", "note": "internal test, 99 cells, 95 % 0.10–0.30; ridge 0.250"}
    assert cards[1]["note"] == "internal test, 99 cells, 95 % 0.65–0.75; ridge 0.650"
    assert cards[2]["note"] == "internal test, 99 cells, 95 % 0.65–0.75"


def test_a_baseline_that_is_shown_has_a_card_too():
    assert summary.headline(EVERY, "ridge")[0]["name"] == "s1: weighted F1, strict (ridge)"


def test_the_table_has_a_row_for_every_evaluation_and_nothing_where_nothing_is_predicted():
    folds = replace(PAPER, system="folds", spread={"weighted": 0.03}, unrefined=(200, type_scores(0.4)))
    table = summary.score_table([*EVERY, folds]).set_index(["system", "protocol"])
    assert len(table) == len(EVERY) + 1
    assert table.loc[("folds", "paper"), ["± over folds", "unrefined"]].tolist() == [0.03, 0.4]
    assert "by table alone" not in table
    assert table.loc[("net", "strict"), "95 % interval"] == "0.650–0.750"
    assert table.loc[("blind", "strict"), ["F1 weighted", "F1 macro", "calibration error"]].isna().all()
    assert table.loc[("blind", "strict"), "median R"] == 0.2


def test_comparators_are_compared_with_every_system_but_the_baselines():
    matched = Matched(30, 20, 0.5, 5.0, {"X": 20}, type_scores(0.3), type_scores(0.8))
    unmatched = Matched(30, 0, 0.0, 5.0, {})
    some = [replace(e, comparators={"other": matched, "none": unmatched}) for e in (NET, MEAN)]
    table = summary.comparator_table(some)
    assert table[["program", "system", "F1 weighted", "its F1 weighted"]].to_numpy().tolist() == [
        ["other", "net", 0.3, 0.8]
    ]
    assert summary.comparator_table([NET]).empty


def test_a_system_that_does_not_beat_a_baseline_is_doubted_at_that_task():
    assert doubts([NET, RIDGE, MEAN]) == [
        "s1 (strict): net does not beat ridge at expression (median R 0.200 against 0.250)."
    ]
    worse = replace(NET, types=type_scores(0.2))
    assert "s1 (strict): net does not beat ridge, mean at types (weighted F1 0.200 against 0.650, 0.200)." in doubts(
        [worse, RIDGE, MEAN]
    )


def test_a_system_is_held_against_baselines_of_the_same_sample_and_protocol_alone():
    assert doubts([NET, replace(RIDGE, protocol="other"), replace(RIDGE, sample="s2")]) == [
        "Nothing stands out. That is no proof."
    ]
    assert doubts([BLIND, MEAN, replace(RIDGE, pearson=None)]) == ["Nothing stands out. That is no proof."]


def test_what_else_is_to_be_doubted_is_said_once():
    unseen = [replace(e, types=type_scores(0.9, X=0.9, Y=None)) for e in (NET, RIDGE)]
    sentences = doubts([*unseen, PAPER], 0.3, False, [MODEL | {"classes_left_out": ["Z"]}])
    for part in ("too few training cells of Z", "no scored cell of Y", "only 30% of the nuclei", "TACCO", "paper"):
        assert sum(part in sentence for sentence in sentences) == 1, part


def test_the_bars_hold_every_system_that_predicts_types_in_every_protocol():
    rows = figure_data.f1_rows(EVERY)
    assert set(rows["score"]) == {f"s1\n{name}\nn = 99 strict\nn = 99 paper" for name in ("weighted", "macro")}
    assert rows["by"].tolist()[:4] == ["mean, strict", "ridge, strict", "net, strict", "net, paper"]
    net = rows[(rows["by"] == "net, strict") & rows["score"].str.contains("weighted")].iloc[0]
    assert (net["value"], net["low"], net["high"]) == (0.7, 0.65, 0.75)
