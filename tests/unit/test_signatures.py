"""AUCell, UCell and mean scores of gene sets: by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from shest.labels import signatures

COUNTS = sparse.csr_matrix(np.array([[9, 7, 5, 3, 0, 0], [0, 0, 2, 2, 0, 8]], float))
SETS = {"first": np.array([0, 1]), "second": np.array([2, 3]), "none": np.array([4])}


def test_aucell_by_hand():
    """Half of six genes are looked at: ranks 1 2 3. The best a pair can have is 3 + 2, a single gene 3."""
    found = signatures.aucell(COUNTS, SETS, top_share=0.5)
    assert found["first"].tolist() == pytest.approx([1, 0])
    assert found["second"].tolist() == pytest.approx([(1 + 0) / 5, (1.5 + 1.5) / 5])  # tied, at 2.5 both
    assert found["none"].tolist() == [0, 0]


def test_ucell_by_hand():
    """Ranks of the first cell 1 2 3 4 5.5 5.5, of the second 5 5 2.5 2.5 5 1; U_max is two times six less three."""
    found = signatures.ucell(COUNTS, SETS)
    assert found["first"].tolist() == pytest.approx([1, 1 - (10 - 3) / 9])
    assert found["second"].tolist() == pytest.approx([1 - (7 - 3) / 9, 1 - (5 - 3) / 9])
    capped = signatures.ucell(COUNTS, SETS, max_rank=4)
    assert capped["first"].tolist() == pytest.approx([1, 0])  # ranks above four count as five
    assert capped["second"].tolist() == pytest.approx([1 - (7 - 3) / 5, 1 - (5 - 3) / 5])


def test_top_down_by_hand():
    found = signatures.top_down(COUNTS, SETS)
    logs = np.log1p(COUNTS.toarray() / np.array([[24], [12]]) * 18)
    assert found["first"].tolist() == pytest.approx(logs[:, :2].mean(axis=1) - logs.mean(axis=1))


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(0.4, (50, 30)).astype(float))
    sets = {"a": np.arange(5), "b": np.arange(5, 12)}
    once = signatures.ucell(counts, sets)
    monkeypatch.setattr(signatures, "BLOCK", 7)
    pd.testing.assert_frame_equal(signatures.ucell(counts, sets), once)


def test_the_highest_score_decides_and_a_tie_or_none_is_unknown():
    table = pd.DataFrame({"A": [0.5, 0.2, 0.0, -1.0], "B": [0.1, 0.2, 0.0, -2.0]})
    assert signatures.best_category(table).tolist() == ["A", "Unknown", "Unknown", "Unknown"]


def test_a_gene_is_in_the_set_that_it_speaks_most_for():
    votes = pd.DataFrame(
        {"E": [0.7, 0.5, 0.0, 0.2], "C": [0.3, 0.5, 0.0, 0.1], "Unknown": [0, 0, 1.0, 0.7]}, index=["A", "B", "C", "D"]
    )
    found = signatures.gene_sets(votes, ["x", "a", "b", "c", "d"])
    assert {name: columns.tolist() for name, columns in found.items()} == {"E": [1]}
