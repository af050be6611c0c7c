"""Genes of two panels: which are joined, by what, and under which name."""

import numpy as np
import pandas as pd
import pytest

from shest.io import genes
from shest.io.genes import Genes

ID = "ENSG0000000000{}".format


def panel(**ids) -> Genes:
    return Genes.of(list(ids), [ID(n) if n else "" for n in ids.values()])


def joined(first: Genes, second: Genes) -> tuple[list[tuple[str, str]], int]:
    pairs = genes.pair(first, second)
    return [(first.symbols[i], second.symbols[j]) for i, j in zip(pairs.first, pairs.second, strict=True)], pairs.by_id


@pytest.mark.parametrize(
    ("first", "second", "expected", "by_id"),
    [
        # a symbol that has changed, one that is the same, one that the other lacks
        (panel(NEW=1, A=2, LOST=3), panel(A=2, OLD=1), [("NEW", "OLD"), ("A", "A")], 2),
        # a symbol that now means another gene: the id decides, and what is left over joins nothing
        (panel(X=1, Y=2), panel(Y=1, X=3), [("X", "Y")], 1),
        # an id on one side only, or on none, or another one: by symbol
        (panel(A=1, B=0, C=0, D=4), panel(A=0, B=2, C=0, D=9), [(s, s) for s in "ABCD"], 0),
        # by symbol only what no id has joined
        (panel(A=1, B=0), panel(B=1, C=0), [("A", "B")], 1),
    ],
)
def test_ids_join_first_then_symbols(first, second, expected, by_id):
    assert joined(first, second) == (expected, by_id)
    turned, same = joined(second, first)
    assert (sorted((a, b) for b, a in turned), same) == (sorted(expected), by_id)


def test_what_stands_twice_joins_nothing_by_that_name():
    twice = Genes.of(["A", "A", "B", "C", "D"], [ID(1), ID(2), ID(3), ID(3), ""])
    assert joined(panel(Z=2, A=0), twice) == ([("Z", "A")], 1)  # the symbol A is two genes, the id is one
    assert joined(panel(B=3, D=0), twice) == ([("B", "B"), ("D", "D")], 0)  # the id is two genes, the symbol is one
    assert joined(panel(Q=3), twice) == ([], 0)


def test_versions_are_cut_off_and_what_is_no_ensembl_id_is_none():
    found = Genes.of("abcdef", [ID(1) + ".12", "ENSMUSG00000000001", "EPCAM", "NegControlProbe_00001", np.nan, "ENSX"])
    assert found.ids == [ID(1), "ENSMUSG00000000001", "", "", "", ""]
    assert Genes.of(["a", "b"]).ids == ["", ""]


@pytest.mark.parametrize("column", [None, "gene_ids", "ensembl_id", "feature_id"])
def test_ids_are_found_in_the_index_or_in_a_column_of_a_usual_name(column):
    ids, symbols = [ID(1), ID(2), ID(3)], ["A", "B", "C"]
    var = pd.DataFrame({"feature_name": symbols}, index=ids if column is None else symbols)
    if column:
        var[column] = pd.Categorical(ids)
    assert genes.of_var(var, var["feature_name"]) == Genes(symbols, ids)
    assert genes.of_var(pd.DataFrame({"gene_ids": symbols}, index=symbols)) == Genes(symbols, ["", "", ""])


def test_how_many_were_joined_is_said():
    first = panel(NEW=1, A=2, B=0, LOST=3)
    found = genes.pair(first, panel(A=2, OLD=1, B=0)).summary(len(first))
    assert found == {"panel": 4, "by_id": 2, "by_symbol": 1, "not_joined": 1}
    assert genes.describe(found) == "3 of 4 genes joined: 2 by Ensembl id, 1 by symbol; 1 not"


def test_a_gene_is_called_as_the_model_calls_it_and_no_other_gene_is():
    model = panel(OLD=1, X=2, A=0)
    own = Genes.of(["NEW", "X", "A", "Y", "B"], [ID(1), ID(7), "", ID(2), ""])
    assert genes.named_as(own, model) == ["OLD", f"X_{ID(7)}", "A", "X", "B"]


def test_several_panels_are_joined_in_the_order_in_which_they_come():
    everything, named = genes.union([panel(A=0, B=2), panel(C=3, A=1), panel(NEW=1, C=3, D=4)])
    assert everything == Genes(["A", "B", "C", "D"], [ID(1), ID(2), ID(3), ID(4)])
    assert named == [["A", "B"], ["C", "A"], ["A", "C", "D"]]


def test_numbers_that_look_like_ids_join_nothing():
    """Each panel numbers its own genes: the same number is another gene."""
    names = [f"GENE{i}" for i in range(40)]
    one = Genes.of(names, [ID(f"{i:04d}") for i in range(40)])
    other = Genes.of(names[::2], [ID(f"{i:04d}") for i in range(20)])
    pairs = genes.pair(one, other)
    assert pairs.by_id == 0
    assert pairs.first.tolist() == list(range(0, 40, 2))
    renamed = Genes.of([f"NEW{i}" if i % 4 == 0 else name for i, name in enumerate(names)], one.ids)
    assert genes.pair(one, renamed).by_id == 40
