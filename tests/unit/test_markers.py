"""Marker genes: planted ones are found; scores are Welch's t as SciPy has it; summaries by type are plain means."""

import numpy as np
import pytest
from scipy import sparse, stats

from shest.score import markers

TYPES = ["A", "B", "C"]
GENES = [f"g{i}" for i in range(30)]


def planted(cells=600, seed=0):
    """Counts in which genes 0-4 mark A, 5-9 mark B, gene 10 A and less so B, and the others nothing."""
    rng = np.random.default_rng(seed)
    cell_type = rng.choice(TYPES, cells, p=[0.2, 0.2, 0.6])
    mean = np.full((cells, len(GENES)), 0.5)
    mean[cell_type == "A", :5] = 4
    mean[cell_type == "B", 5:10] = 4
    mean[cell_type == "A", 10], mean[cell_type == "B", 10] = 8, 4
    return sparse.csr_matrix(rng.poisson(mean)), cell_type


def test_planted_markers_are_found_and_no_gene_marks_two_types():
    counts, cell_type = planted()
    table = markers.scores(counts, cell_type, GENES)
    assert table.set_index("gene").loc["g10", "B"] > 3
    best = markers.top(table, TYPES, 6)
    assert set(best["A"]) == {*GENES[:5], "g10"}
    assert set(GENES[5:10]) < set(best["B"])
    every = [gene for group in best.values() for gene in group]
    assert len(every) == len(set(every))


def test_scores_equal_welchs_t_of_scipy():
    counts, cell_type = planted(200)
    table = markers.scores(counts, cell_type, GENES).set_index("gene")
    dense = counts.toarray()
    logs = np.log1p(dense / dense.sum(axis=1, keepdims=True) * markers.NORMALISED)
    own = cell_type == "A"
    expected = stats.ttest_ind(logs[own], logs[~own], equal_var=False).statistic
    assert table["A"].to_numpy() == pytest.approx(expected, rel=1e-3)


def test_a_type_of_one_cell_and_a_lone_type_have_no_markers():
    counts, cell_type = planted(50)
    cell_type[:] = "A"
    cell_type[0] = "B"
    table = markers.scores(counts, cell_type, GENES)
    assert list(table.columns) == ["gene"]
    assert markers.top(table, TYPES, 5) == {}


def test_summary_by_type_is_the_mean_of_logs_and_the_share_of_cells_with_a_count():
    counts, cell_type = planted(100)
    values, seen = counts.toarray() * 0.4, counts.toarray() >= 2
    own = cell_type == "B"
    for known in (seen, None):
        table = markers.by_type(values, known, cell_type, GENES, TYPES)
        row = table[(table["cell_type"] == "B") & (table["gene"] == "g7")].iloc[0]
        assert row["mean"] == pytest.approx(np.log(values[own, 7] + 1).mean())
        share = seen[own, 7].mean() if known is not None else np.nan
        assert row["share"] == pytest.approx(share, nan_ok=True), (
            "an expectation tells nobody how many cells have a count"
        )
