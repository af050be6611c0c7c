"""Labels: what TACCO says, what the table says, and why a cell has none."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from shest.core.errors import InputError
from shest.labels import annotate

SUBTYPES = {"T": ["t1", "t2"], "L": ["l1"]}


def reference(counts=None, labels=("t1", "t2", "l1", "mast"), n=40, **change):
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"cell_type_tumor": np.repeat(labels, n), "platform": ["10x"] * (n * len(labels))})
    rates = np.full((len(labels), 60), 0.3)
    for k in range(len(labels)):
        rates[k, k * 15 : (k + 1) * 15] = 6
    x = rng.poisson(np.repeat(rates, n, axis=0)).astype(np.float32) if counts is None else counts
    var = pd.DataFrame({"feature_name": [f"G{i}" for i in range(60)]}, index=[f"ENSG{i}" for i in range(60)])
    obs.index = [f"c{i}" for i in range(len(obs))]
    data = ad.AnnData(sparse.csr_matrix(x), obs=obs, var=var)
    for name, value in change.items():
        setattr(data, name, value)
    return data


def write(tmp_path, data):
    path = tmp_path / "reference.h5ad"
    data.write_h5ad(path)
    return path


def test_reference_is_read_by_symbol_without_the_excluded_cells(tmp_path):
    data = reference()
    data.obs.iloc[:10, 1] = "Smart-seq2"
    found = annotate.read_reference(write(tmp_path, data), exclude={"platform": ["Smart-seq2"]})
    assert found.shape == (150, 60)
    assert found.var_names[0] == "G0"
    assert "Smart-seq2" in data.obs["platform"].to_numpy()


def test_counts_are_taken_from_raw_where_x_is_normalised(tmp_path):
    data = reference()
    counts = data.X.copy()
    data.raw = data
    data.X = data.X.log1p()
    found = annotate.read_reference(write(tmp_path, data))
    assert abs(found.X - counts).nnz == 0
    with pytest.raises(InputError, match="no whole numbers"):
        annotate.read_reference(tmp_path / "reference.h5ad", counts="X")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.obs.rename(columns={"cell_type_tumor": "x"}, inplace=True), "no column cell_type_tumor in obs"),
        (lambda d: d.var.rename(columns={"feature_name": "x"}, inplace=True), "no column feature_name in var"),
        (lambda d: d.obs.__setitem__("cell_type_tumor", [np.nan] * 3 + ["a", "b"] * 78 + ["a"]), "3 cells have no"),
        (lambda d: d.obs.__setitem__("cell_type_tumor", "one"), "fewer than two labels"),
        (lambda d: d.var.__setitem__("feature_name", "G1"), "stand there twice: G1"),
        (lambda d: setattr(d, "X", d.X.log1p()), "no whole numbers"),
    ],
)
def test_bad_references_are_named(tmp_path, change, said):
    data = reference()
    change(data)
    with pytest.raises(InputError, match=said):
        annotate.read_reference(write(tmp_path, data))


def shares(rows):
    return pd.DataFrame(rows, columns=["t1", "t2", "l1", "mast"], index=[f"c{i}" for i in range(len(rows))])


def test_every_cell_has_a_reason():
    found = shares([[0.6, 0.3, 0.1, 0], [0.1, 0.2, 0.7, 0], [0, 0, 0, 1], [0.5, 0.2, 0.3, 0], [np.nan] * 4])
    groups = pd.Series({"c0": "T", "c1": "T", "c2": "T", "c4": "T", "c5": "L"})
    frame = annotate.label([f"c{i}" for i in range(6)], found, SUBTYPES, groups).set_index("cell_id")
    expected = ["labelled", "disagrees", "excluded_subtype", "not_in_table", "no_counts", "no_counts"]
    assert frame["reason"].tolist() == expected
    assert frame["cell_type"].isna().tolist() == [False, True, True, True, True, True]
    assert frame.loc["c0", ["subtype", "tacco_type", "table_type", "cell_type"]].tolist() == ["t1", "T", "T", "T"]
    assert frame.loc["c0", "score"] == pytest.approx(0.6)


def test_without_a_table_taccos_type_is_the_label():
    frame = annotate.label(["c0", "c1"], shares([[0.6, 0.3, 0.1, 0], [0, 0, 0, 1]]), SUBTYPES, None)
    assert frame["reason"].tolist() == ["labelled", "excluded_subtype"]
    assert frame["table_type"].isna().all()
    assert frame["cell_type"].fillna("").tolist() == ["T", ""]


def test_tacco_finds_planted_types_and_leaves_the_reference_as_it_was(tmp_path):
    known = annotate.read_reference(write(tmp_path, reference()))
    cells = reference(labels=("l1", "t2"), n=30)
    planted = np.repeat(["l1", "t2"], 30)
    rng = np.random.default_rng(1)
    rates = np.full((60, 60), 0.2)
    rates[:30, 30:45], rates[30:, 15:30] = 4, 4
    cells = ad.AnnData(sparse.csr_matrix(rng.poisson(rates).astype(np.float32)))
    cells.var_names = [f"G{i}" for i in range(60)]
    cells.X[5] = 0
    cells.X.eliminate_zeros()
    before = known.copy()
    found = annotate.run_tacco(cells, known, None, 50)
    assert (found.idxmax(axis=1) == planted[found.index.astype(int)]).mean() > 0.95
    assert "5" not in found.index
    assert abs(known.X - before.X).nnz == 0
    assert list(known.varm) == []
    with pytest.raises(InputError, match="only 60 genes"):
        annotate.run_tacco(cells, known, None, 61)


def test_prior_of_a_table_gives_absent_types_no_share(tmp_path):
    known = annotate.read_reference(write(tmp_path, reference()))
    groups = pd.Series({"a": "T", "b": "T", "c": "elsewhere"})
    prior = annotate.prior_from_table(groups, pd.Series({"a": 10.0, "b": 30.0, "c": 5.0}), SUBTYPES, known)
    assert set(prior.index) == {"t1", "t2"}
    assert prior.sum() == pytest.approx(1)
    reads = {s: known[known.obs["subtype"] == s].X.sum() for s in ("t1", "t2")}
    assert prior["t1"] / prior["t2"] == pytest.approx(reads["t1"] / reads["t2"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cell_id,type\na,T\n", "no column group"),
        ("cell_id,group\na,T\na,L\n", "1 cells stand there twice"),
        ("cell_id,group\nz,T\n", "1 cells that the bundle does not have"),
    ],
)
def test_bad_tables_are_named(tmp_path, text, said):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        annotate.read_table(path, np.array(["a", "b"]))
