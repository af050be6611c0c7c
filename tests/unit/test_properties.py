"""What R goes with over genes: rank correlations as SciPy and scikit-learn have them; the table of transcripts."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression
from support.scores import evaluation

from shest.core.errors import InputErrors
from shest.draw import summary
from shest.io.transcripts import read_transcripts
from shest.score import properties


@pytest.fixture(scope="module")
def genes():
    """Genes whose R and Moran's I both follow how many counts there are, and nothing else; length goes with R."""
    rng = np.random.default_rng(2)
    mean = rng.lognormal(0, 1.5, 400)
    length = rng.lognormal(7, 1, 400).round()
    return pd.DataFrame(
        {
            "gene": [f"g{k}" for k in range(400)],
            "pearson": np.log(mean) + rng.normal(0, 0.5, 400) + 0.5 * stats.zscore(np.log(length)),
            "moran_actual": np.log(mean) + rng.normal(0, 0.5, 400),
            "mean_counts": mean,
            "zeros": np.exp(-mean * rng.lognormal(0, 0.1, 400)).round(2),  # with ties
            "length": length,
        }
    )


def residuals(values, others):
    ranks = [stats.rankdata(column) for column in others]
    x = np.stack(ranks, axis=1)
    target = stats.rankdata(values)
    return target - LinearRegression().fit(x, target).predict(x)


def test_correlations_are_those_of_ranks_and_of_what_is_left_of_them(genes):
    found = properties.go_with(genes)
    assert list(found) == ["moran_actual", "mean_counts", "zeros", "length"]
    for name, entry in found.items():
        assert entry["n"] == 400
        assert entry["rho"] == pytest.approx(stats.spearmanr(genes["pearson"], genes[name])[0])
        others = [genes[other] for other in entry["held"]]
        left = [residuals(genes[column], others) for column in ("pearson", name)]
        assert entry["partial"] == pytest.approx(stats.pearsonr(*left)[0], abs=1e-9)


def test_what_goes_with_abundance_alone_is_nothing_once_that_is_fixed(genes):
    found = properties.go_with(genes)
    assert found["moran_actual"]["rho"] > 0.6
    assert abs(found["moran_actual"]["partial"]) < 0.1
    assert found["length"]["partial"] > found["length"]["rho"] > 0.1
    assert "mean_counts" not in found["mean_counts"]["held"]


def test_genes_without_a_value_are_not_counted_and_a_constant_says_nothing(genes):
    some = genes.assign(moran_actual=genes["moran_actual"].where(genes.index < 100))
    found = properties.go_with(some)
    assert found["moran_actual"]["n"] == found["zeros"]["n"] == 100
    assert found["length"]["n"] == 400
    flat = properties.go_with(genes.assign(pearson=0.0))
    assert {entry["rho"] for entry in flat.values()} == {entry["partial"] for entry in flat.values()} == {None}
    assert properties.go_with(genes.head(4))["moran_actual"]["partial"] is None
    same = genes.assign(moran_actual=genes["mean_counts"] ** 2)
    assert properties.go_with(same)["moran_actual"]["partial"] is None, "no other than what is held fixed"


def test_the_report_says_what_r_goes_with(genes):
    flat, own = evaluation(system="mean"), evaluation(system="single_patch")
    own.properties, flat.properties = (properties.go_with(table) for table in (genes, genes.assign(pearson=0.0)))
    table = summary.property_table([flat, own])
    assert set(table["system"]) == {"single_patch"}
    row = table.set_index("R against").loc["length of the transcript"]
    assert row["partial rho"] == own.properties["length"]["partial"]
    assert row["held fixed"] == "mean counts, share of zeros"
    assert (table["genes"] == 400).all()
    assert summary.property_table([flat]).empty


def test_a_table_of_transcripts_is_read_or_refused_with_every_reason(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("gene\tgc\tlength\nA\t0.41\t1200\nB\t\t800\n")
    found = read_transcripts(path)
    assert found.loc["A"].to_dict() == {"gc": 0.41, "length": 1200}
    assert np.isnan(found.loc["B", "gc"])
    path.write_text("gene\tgc\tlength\nA\t41\t1200\nA\t0.4\tlong\n")
    with pytest.raises(InputErrors) as error:
        read_transcripts(path)
    said = str(error.value)
    for problem in ("gc of gene A is 41", "gene A has more than one row", "length of gene A is long"):
        assert problem in said
    path.write_text("gene\tgc\nA\t0.4\n")
    with pytest.raises(InputErrors, match="lacks column length"):
        read_transcripts(path)
