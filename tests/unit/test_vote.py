"""Votes of marker genes: by hand, with the weight 0 of the last gene, the organ first, and the chance of a panel."""

import re

import pandas as pd
import pytest
from scipy import stats

from shest.io import marker_databases as databases
from shest.labels import vote

RULES = [
    (re.compile(p, re.I), c) for p, c in (("fibro", "Connective"), ("cancer", "Neoplastic"), ("epi", "Epithelial"))
]
ORGANS = [(re.compile(p, re.I), o) for p, o in (("colo", "colon|gut"), (".", "blood"))]


def entries(*rows) -> pd.DataFrame:
    """(organ, cell type, genes) as a database's entries with their categories."""
    parts = [(organ, name, gene, "table") for organ, name, genes in rows for gene in genes.split()]
    return vote.with_categories(pd.DataFrame(parts, columns=[*databases.COLUMNS, "database"]), RULES)


def test_scores_by_hand_and_the_last_gene_counts_nothing():
    votes = pd.DataFrame({"E": [1.0, 0.5, 0.0, 1.0], "C": [0.0, 0.5, 1.0, 0.0]}, index=["A", "B", "C", "D"])
    found = vote.scores(["A", "nowhere", "B", "C", "D"], votes, top=5)  # weights 4 3 2 1 0
    assert found.to_dict() == {"E": 4 + 0.5 * 2, "C": 0.5 * 2 + 1}
    ten = [f"G{i}" for i in range(10)]
    all_one = pd.DataFrame({"E": 1.0}, index=[g.upper() for g in ten])
    assert vote.scores(ten, all_one, 10)["E"] == 45
    assert vote.scores(ten[:9], all_one, 10)["E"] == 45
    assert vote.scores(ten[9:], all_one, 10)["E"] == 9


def test_what_a_gene_says_by_hand():
    table = entries(
        ("", "Fibroblast", "A B"), ("", "Myofibroblast", "A"), ("", "Epithelium", "A C"), ("", "Cancer cell", "A D"),
        ("", "Odd", "B E"),
    )  # fmt: skip
    panel = ["a", "B", "C", "D"]
    counts = vote.gene_votes(table, "counts", panel)
    assert counts.loc["A"].to_dict() == {"Connective": 2, "Epithelial": 1, "Unknown": 0}
    assert counts.loc["B"].to_dict() == {"Connective": 1, "Epithelial": 0, "Unknown": 1}
    assert "D" not in counts.index, "genes of cancer cells do not vote"
    assert "E" not in counts.index, "a gene that was not measured says nothing of the panel"
    scaled = vote.gene_votes(table, "scaled", panel)
    assert scaled.loc["A"].round(6).to_dict() == {"Connective": 0.666667, "Epithelial": 0.333333, "Unknown": 0}
    means = {"Connective": (2 / 3 + 1 / 2) / 3, "Epithelial": (1 / 3 + 1) / 3, "Unknown": 1 / 6}
    against = {name: value / means[name] for name, value in scaled.loc["A"].items()}
    expected = {name: value / sum(against.values()) for name, value in against.items()}
    assert vote.gene_votes(table, "panel", panel).loc["A"].to_dict() == pytest.approx(expected)


def test_the_organ_votes_first_then_all_and_else_it_is_unknown():
    table = entries(("Colon", "Epithelium", "A B"), ("Lung", "Fibroblast", "A B C"), ("Eye", "Odd", "X Y"))
    local = vote.of_organ(table, "colorectal", ORGANS)
    assert set(local["cell_type"]) == {"Epithelium"}
    tables = {"organ": vote.gene_votes(local, "counts", "ABCXY"), "all": vote.gene_votes(table, "counts", "ABCXY")}
    by_organ = vote.decide(["A", "B", "C"], tables, top=3, least=2)
    assert (by_organ.category, by_organ.score, by_organ.reason) == ("Epithelial", 3, "organ")
    fallback = vote.decide(["C", "A", "B"], tables, top=3, least=2)
    assert (fallback.category, fallback.reason) == ("Connective", "all")
    assert fallback.votes == {"Connective": 3, "Epithelial": 1}
    weak = vote.decide(["C", "A", "B"], tables, top=3, least=9)
    assert (weak.category, weak.score, weak.reason) == ("Unknown", 3, "no category has 9 votes")
    odd = vote.decide(["X", "Y", "A"], tables, top=3, least=2)
    assert (odd.category, odd.reason) == ("Unknown", "most votes are for names of no category")
    none = vote.decide(["Q"], tables, top=3, least=2)
    assert (none.category, none.reason) == ("Unknown", "no marker gene among its genes")


def test_an_organ_has_what_every_organ_has_and_an_unknown_one_nothing():
    table = entries(("Gut", "Epithelium", "A"), ("Blood", "Odd", "B"), ("", "Fibroblast", "C"), ("Eye", "Odd", "D"))
    assert set(vote.of_organ(table, "colon", ORGANS)["gene"]) == {"A", "B", "C"}
    assert vote.of_organ(table, "knee", ORGANS).empty
    assert vote.of_organ(table, None, ORGANS).empty


def test_a_gene_that_the_config_names_speaks_for_its_type_alone():
    known = entries(("", "Fibroblast", "A B"), ("", "Cancer cell", "A"))[[*databases.COLUMNS, "database"]]
    own = databases.of_types({"Special": ["a"]})
    found = vote.with_categories(pd.concat([known, own], ignore_index=True), RULES)
    assert found[["gene", "category"]].values.tolist() == [["B", "Connective"], ["A", "Neoplastic"], ["A", "Special"]]


def test_names_that_no_rule_knows_are_counted():
    table = entries(("", "Odd", "A B"), ("", "Fibroblast", "A"), ("", "Else", "C"), ("", "Another", "C"))
    assert vote.unmapped(table) == {"Odd": 2, "Another": 1, "Else": 1}


def test_the_first_rule_that_matches_decides():
    rules = [(re.compile("cancer.associated fibro", re.I), "Connective"), *RULES]
    assert vote.categorise(["Cancer-associated fibroblast", "Cancer cell"], rules).tolist() == [
        "Connective",
        "Neoplastic",
    ]


def test_cancer_genes_beside_the_panels_own_chance():
    panel, cancer = [f"g{i}" for i in range(40)], {f"G{i}" for i in range(10)}
    genes = [f"g{i}" for i in range(8, 14)]  # two of six are cancer genes
    found = vote.cancer_evidence(genes, cancer, panel, ratio=0.25)
    assert (found.share, found.panel) == (2 / 6, 0.25)
    table = stats.hypergeom(40, 10, 6)
    assert found.chance == pytest.approx(1 - table.cdf(1)), "more than a quarter of six are two"
    assert found.p == pytest.approx(table.pmf(range(2, 7)).sum())
    exact = vote.cancer_evidence([f"g{i}" for i in range(5, 25)], cancer, panel, ratio=0.25)
    assert exact.share == 0.25
    assert not vote.is_neoplastic(exact, "ratio", 0.25, 0.05), "the share must be more than the ratio"
    assert vote.is_neoplastic(found, "ratio", 0.25, 0.05)
    assert not vote.is_neoplastic(found, "enrichment", 0.25, 0.05)
    assert not vote.is_neoplastic(found, "none", 0.25, 0.05)
    every = vote.cancer_evidence([f"g{i}" for i in range(6)], cancer, panel, ratio=0.25)
    assert vote.is_neoplastic(every, "enrichment", 0.25, 0.05)
