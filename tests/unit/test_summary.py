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
BLIND = evaluation(
    "blind", "net", types=None, calibration=None, intervals={"pearson_median": [0.1, 0.3], "n_blocks": 9}
)
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
    assert cards[0] == cards[0] | {
        "value": "0.200",
        "note": "internal test, 99 cells, 95 % 0.10–0.30 (9 blocks); ridge 0.250",
    }
    assert cards[1]["note"] == "internal test, 99 cells, 95 % 0.65–0.75 (9 blocks); ridge 0.650"
    assert cards[2]["note"] == "internal test, 99 cells, 95 % 0.65–0.75 (9 blocks)"


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
    assert "R ceiling" not in table, "of no real tissue anybody knows it"
    known = replace(NET, pearson=NET.pearson | {"ceiling": 0.6, "ceiling_within_type": 0.4})
    columns = ["median R", "R ceiling", "ceiling within type"]
    assert summary.score_table([known]).iloc[0][columns].tolist() == [0.2, 0.6, 0.4]


def test_comparators_are_compared_with_every_system_but_the_baselines():
    matched = Matched(30, 20, 0.5, 5.0, {"X": 20}, ["X"], type_scores(0.3), type_scores(0.8))
    unmatched = Matched(30, 0, 0.0, 5.0, {}, ["X"])
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
    chosen = replace(PAPER, unrefined=(150, type_scores(0.4)))
    sentences = doubts([*unseen, chosen], 0.3, False, [MODEL | {"classes_left_out": ["Z"]}])
    parts = (
        "too few training cells of Z",
        "no scored cell of Y",
        "only 30% of the nuclei",
        "expression alone",
        "removed 51 of 150 test cells of net",
        "its weighted F1 is 0.400, not 0.700",
    )
    for part in parts:
        assert sum(part in sentence for sentence in sentences) == 1, part


ABLATION = {
    "rows": [
        {"sample": s, "variant": v, "n": 9, "train": 5, "weighted": score, "macro": 0.5}
        for s, scores in (("a", (0.9, 0.8, 0.85)), ("b", (0.7, 0.75, 0.6)))
        for v, score in zip(("all", "algorithm_1", "random"), scores, strict=True)
    ]
}


def test_simulated_tissue_is_said_before_all_else():
    assert summary.opening([MODEL], ["s1", "s2"]).startswith("The tissue of s1, s2 is simulated: ")
    assert summary.opening([MODEL], []) == summary.fitted([MODEL])


def test_a_registration_that_was_insisted_on_is_doubted():
    registration = replace(Registration.of_alignment(np.eye(3), 0.2125), matched={"doubt": "9 % fit"})
    said = summary.doubts([NET], {"s1": registration}, {"s1": True}, [MODEL])
    assert "s1: its registration was insisted on, and 9 % fit." in said
    sound = replace(registration, matched={"doubt": None, "torn": 0, "blocks": [{}] * 9})
    assert not any("registration" in s for s in summary.doubts([NET], {"s1": sound}, {"s1": True}, [MODEL]))
    torn = replace(sound, matched=sound.matched | {"torn": 2})
    said = summary.doubts([NET], {"s1": torn}, {"s1": True}, [MODEL])
    assert any(s.startswith("s1: in 2 of 9 blocks the H&E does not show the nuclei") for s in said)


def test_refinement_is_said_to_win_where_it_does_and_to_lose_where_it_loses():
    registration = replace(Registration.of_alignment(np.eye(3), 0.2125), share_on_tissue=1.0)
    labels = {"s1": {"doubts": ["labels are strange"]}}
    said = summary.doubts([NET], {"s1": registration}, {"s1": True}, [MODEL], labels, [ABLATION])
    assert "s1: labels are strange" in said
    assert any(s.startswith("a: ") and "on all cells is better" in s and "0.900 against 0.800" in s for s in said)
    assert any(s.startswith("b: ") and "Algorithm 1 keeps is better" in s and "0.750 against 0.700" in s for s in said)
    table = summary.ablation_table([ABLATION])
    assert table["training cells"].tolist() == ["all", "Algorithm 1", "as many at random"] * 2


ON = {"sample": "s", "unit": "cells", "ground": "all", "score": "weighted"}


def test_differences_stand_with_their_interval():
    row = ON | {"system": "net", "reference": "ridge", "best": False, "n_blocks": 7, "difference": 0.1}
    rows = [row | {"low": 0.02, "high": 0.18, "p": 0.02, "p_holm": 0.04}]
    rows += [row | {"low": None, "high": None, "p": None, "p_holm": None, "best": True, "ground": "shared"}]
    table = summary.difference_table({"strict": {"differences": rows}})
    assert table["95 % interval"].tolist() == ["+0.020 to +0.180", "–"]
    assert table["against"].tolist() == ["ridge", "ridge (best)"]
    assert table["sample"].tolist() == ["s", "s, shared"]
    assert table["p corrected"].tolist()[0] == 0.04


def test_words_say_which_differences_are_real_and_what_is_not_compared():
    behind = [{"system": "mean", "by": 0.4, "p_holm": 0.001}]
    verdict = ON | {"best": "net", "value": 0.8, "level": ["ridge"], "behind": behind}
    apart = [{"system": "other", "sample": "s", "why": "does not say what it was trained on"}]
    said = summary.verdict_sentences({"strict": {"verdicts": [verdict], "set_apart": apart}})
    assert said == [
        "s (strict), F1, weighted: net is best (0.800); behind it, beyond chance: mean by 0.400; not told apart from "
        "it: ridge.",
        "s (strict): other is not compared: it does not say what it was trained on.",
    ]


def test_the_bars_hold_every_system_that_predicts_types_in_every_protocol():
    rows = figure_data.f1_rows(EVERY)
    assert set(rows["score"]) == {f"s1\n{name}\nn = 99 strict\nn = 99 paper" for name in ("weighted", "macro")}
    assert rows["by"].tolist()[:4] == ["mean, strict", "ridge, strict", "net, strict", "net, paper"]
    net = rows[(rows["by"] == "net, strict") & rows["score"].str.contains("weighted")].iloc[0]
    assert (net["value"], net["low"], net["high"]) == (0.7, 0.65, 0.75)


def test_sections_of_one_patient_on_both_sides_are_doubted():
    patients = {"a": "p", "b": "p", "c": "q", "d": None, "e": None}
    [said] = summary.patient_doubts(patients, "sample")
    assert said.startswith("a, b are of one patient")
    assert summary.patient_doubts(patients, "patient") == summary.patient_doubts(patients, "block") == []
