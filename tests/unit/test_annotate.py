"""Labels: what TACCO says, what the table says, and why a cell has none."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from scipy import sparse

from shest.core.errors import InputError
from shest.labels import annotate, mixture
from shest.labels.label_summary import summarise
from shest.run.config import load_schema, with_defaults

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


def test_symbols_that_stand_twice_are_no_matter_where_ids_tell_them_apart(tmp_path):
    data = reference()
    data.var["feature_name"] = "G1"
    data.var.index = [f"ENSG{i:011d}" for i in range(60)]
    counts = ad.AnnData(data.X[:7], var=pd.DataFrame({"gene_ids": data.var.index[::-1]}, [f"P{i}" for i in range(60)]))
    cells, known, joined = annotate.share_genes(counts, annotate.read_reference(write(tmp_path, data)), 60)
    assert joined == {"panel": 60, "by_id": 60, "by_symbol": 0, "not_joined": 0}
    assert known.var_names.tolist() == cells.var_names.tolist() == [f"P{i}" for i in range(60)]
    assert abs(known.X - data.X[:, ::-1]).nnz == 0


def shares(rows):
    return pd.DataFrame(rows, columns=["t1", "t2", "l1", "mast"], index=[f"c{i}" for i in range(len(rows))])


def called(*subtypes):
    """Calls of c0, c1, …; a cell whose subtype is None had no counts."""
    type_of = {"t1": "T", "t2": "T", "l1": "L"}
    frame = pd.DataFrame({"subtype": subtypes, "type": [type_of.get(s) for s in subtypes], "score": 0.5}, dtype=object)
    frame.index = [f"c{i}" for i in range(len(subtypes))]
    return frame.dropna(subset="subtype").astype({"score": np.float32})


@pytest.mark.parametrize(
    ("pooled", "subtypes", "types", "scores"),
    [
        (False, ["t1", "l1", "mast"], ["T", "L", None], [0.6, 0.4, 0.4]),
        (True, ["t1", "t1", "mast"], ["T", "T", None], [0.9, 0.6, 0.4]),
    ],
)
def test_types_are_called_by_the_largest_subtype_or_by_all_of_a_type(pooled, subtypes, types, scores):
    found = annotate.call_types(
        shares([[0.6, 0.3, 0.1, 0], [0.35, 0.25, 0.4, 0], [0.1, 0.2, 0.3, 0.4], [np.nan] * 4]), SUBTYPES, pooled
    )
    assert found.index.tolist() == ["c0", "c1", "c2"]
    assert found["subtype"].tolist() == subtypes
    assert [None if pd.isna(t) else t for t in found["type"]] == types
    np.testing.assert_allclose(found["score"], scores, rtol=1e-6)


CALLS = called("t1", "l1", "mast", "t2", None, None)
GROUPS = pd.Series({"c0": "T", "c1": "T", "c2": "T", "c4": "T", "c5": None})


@pytest.mark.parametrize(
    ("word", "reasons", "types"),
    [
        ("agree", ["labelled", "disagrees", "excluded_subtype", "not_in_table", "no_counts", "no_counts"], "T....."),
        ("table", ["labelled", "labelled", "labelled", "not_in_table", "labelled", "not_in_table"], "TTT.T."),
        ("expression", ["labelled", "labelled", "excluded_subtype", "labelled", "no_counts", "no_counts"], "TL.T.."),
    ],
)
def test_whose_word_counts_by_hand(word, reasons, types):
    frame = annotate.label([f"c{i}" for i in range(6)], CALLS, GROUPS, word=word)
    assert frame["reason"].tolist() == reasons
    assert "".join(frame["cell_type"].fillna(".")) == types
    assert set(frame["reason"]) <= set(annotate.REASONS)
    assert frame["tacco_type"].fillna(".").tolist() == ["T", "L", ".", "T", ".", "."]
    assert frame["table_type"].fillna(".").tolist() == ["T", "T", "T", ".", "T", "."]


@pytest.mark.parametrize("word", annotate.WORDS)
def test_without_a_table_the_expressions_type_is_the_label(word):
    frame = annotate.label(["c0", "c1", "c2", "c4"], CALLS, None, "mixture", word)
    assert frame["reason"].tolist() == ["labelled", "labelled", "excluded_subtype", "no_counts"]
    assert frame["table_type"].isna().all()
    assert frame["cell_type"].fillna("").tolist() == ["T", "L", "", ""]
    columns = ["cell_id", "subtype", "score", "mixture_type", "table_type", "cell_type", "reason"]
    assert frame.columns.tolist() == columns


def planted(seed=1):
    """60 cells of l1 and t2, in turn; one of them without counts."""
    rates = np.full((60, 60), 0.2)
    rates[:30, 30:45], rates[30:, 15:30] = 4, 4
    cells = ad.AnnData(sparse.csr_matrix(np.random.default_rng(seed).poisson(rates).astype(np.float32)))
    cells.var_names = [f"G{i}" for i in range(60)]
    cells.X[5] = 0
    cells.X.eliminate_zeros()
    return cells, np.repeat(["l1", "t2"], 30)


def test_tacco_finds_planted_types_and_leaves_the_counts_as_they_were(tmp_path):
    counts, truth = planted()
    cells, known, _ = annotate.share_genes(counts, annotate.read_reference(write(tmp_path, reference())), 50)
    before = known.copy(), cells.copy()
    found = annotate.run_tacco(cells, known, None)
    assert (found.idxmax(axis=1) == truth[found.index.astype(int)]).mean() > 0.95
    for data, old in zip((known, cells), before, strict=True):
        assert abs(data.X - old.X).nnz == 0
        assert list(data.varm) == []


def test_a_cell_without_shared_counts_gets_no_label(tmp_path):
    counts, _ = planted()
    known = annotate.read_reference(write(tmp_path, reference()))
    cells, known, _ = annotate.share_genes(counts, known, 60)
    assert "5" not in cells.obs_names
    assert cells.n_obs == 59
    frame = annotate.label(counts.obs_names, annotate.call_types(mixture.fit(cells, known), SUBTYPES, True), None)
    assert frame.set_index("cell_id").loc["5", "reason"] == "no_counts"
    with pytest.raises(InputError, match="only 60 genes"):
        annotate.share_genes(counts, known, 61)
    counts.X = counts.X * 0
    with pytest.raises(InputError, match="no cell has counts"):
        annotate.share_genes(counts, known, 60)


def test_the_estimated_prior_beats_the_references_where_compositions_differ(tmp_path):
    """Nine of ten cells are t1, of four equal shares in the reference; profiles overlap."""
    rng = np.random.default_rng(3)
    rates = np.full((4, 60), 0.25)
    for k in range(4):
        rates[k, k * 15 : (k + 1) * 15] = 0.6
    labels = np.array(["t1", "t2", "l1", "mast"])
    data = reference(counts=rng.poisson(np.repeat(rates, 40, axis=0)).astype(np.float32))
    truth = rng.choice(4, 600, p=[0.9, 0.05, 0.03, 0.02])
    counts = ad.AnnData(sparse.csr_matrix(rng.poisson(rates[truth]).astype(np.float32)))
    counts.var_names = [f"G{i}" for i in range(60)]
    cells, known, _ = annotate.share_genes(counts, annotate.read_reference(write(tmp_path, data)), 50)
    estimated = mixture.composition(mixture.fit(cells, known), pd.Series(annotate.transcripts(cells), cells.obs_names))
    truth = labels[truth[cells.obs_names.astype(int)]]
    right = [(annotate.run_tacco(cells, known, p).idxmax(axis=1) == truth).mean() for p in (None, estimated)]
    assert right[1] > right[0] + 0.1


def test_prior_of_the_config(tmp_path):
    known = annotate.read_reference(write(tmp_path, reference()))
    estimated = pd.Series({"t1": 0.7, "t2": 0.1, "l1": 0.1, "mast": 0.1})
    weights, groups = pd.Series({"a": 10.0, "b": 30.0}), pd.Series({"a": "T", "b": "L"})

    def choose(kind, groups=None):
        return annotate.choose_prior(kind, groups, weights, SUBTYPES, known, estimated)

    for kind in ("auto", "estimated"):
        name, prior = choose(kind)
        assert name == "estimated"
        pd.testing.assert_series_equal(prior, estimated)
    for kind in ("auto", "table"):
        name, prior = choose(kind, groups)
        assert name == "table"
        assert prior[["t1", "t2"]].sum() == pytest.approx(0.25)
    assert choose("estimated", groups)[0] == "estimated"
    name, prior = choose("reference", groups)
    sums = known.X.sum(axis=1).A1
    assert name == "reference"
    assert prior["l1"] == pytest.approx(sums[known.obs["subtype"] == "l1"].sum() / sums.sum())
    assert choose({"t1": 3, "l1": 1})[1].to_dict() == {"t1": 0.75, "l1": 0.25}
    with pytest.raises(InputError, match="table, but the sample has no pathologist's table"):
        choose("table")
    with pytest.raises(InputError, match="unknown subtypes x"):
        choose({"x": 1.0})


@pytest.mark.parametrize(
    ("section", "allowed"),
    [
        ({}, True),
        ({"method": "mixture"}, True),
        ({"method": "mixture", "prior": "estimated"}, True),
        ({"method": "mixture", "prior": "table"}, False),
        ({"method": "mixture", "prior": {"t1": 1}}, False),
        ({"method": "tacco", "prior": {"t1": 1}, "label": "table"}, True),
        ({"prior": {}}, False),
        ({"prior": "none"}, False),
        ({"label": "both"}, False),
        ({"method": "markers", "markers": {"resolution": 1, "vote": "counts", "neoplastic": "none"}}, True),
        ({"method": "markers", "markers": {"databases": [{"format": "panglaodb"}]}}, False),
        ({"method": "markers", "markers": {"databases": [{"format": "cancersea", "path": ["a", "b"]}]}}, True),
        ({"method": "markers", "markers": {"neoplastic": "maybe"}}, False),
        ({"compare": ["tacco", "cellassign"]}, False),
    ],
)
def test_the_schema_knows_what_goes_together(section, allowed):
    schema = load_schema("config")["properties"]["annotate"]
    assert Draft202012Validator(schema).is_valid(section) == allowed
    filled = with_defaults({}, schema)
    assert {key: filled[key] for key in ("method", "prior", "label", "compare")} == {
        "method": "tacco",
        "prior": "auto",
        "label": "agree",
        "compare": [],
    }


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


def test_a_tables_blank_group_is_no_word(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("cell_id,group\na, T \nb,\nc,  \n")
    assert annotate.read_table(path, np.array(["a", "b", "c"])).fillna(".").tolist() == ["T", ".", "."]


# Four cells of 10, 10, 20 and 60 transcripts: TACCO says T T L –, the mixture T L L –, the table T L T T (and c4 L).
TRANSCRIPTS = pd.Series([10.0, 10.0, 20.0, 60.0], index=["c0", "c1", "c2", "c3"])
BOTH = {"tacco": called("t1", "t2", "l1", "mast"), "mixture": called("t1", "l1", "l1", "mast")}
TABLE = pd.Series({"c0": "T", "c1": "L", "c2": "T", "c3": "T", "c4": "L"})
SHARES = {
    "prior": pd.Series({"t1": 0.1, "t2": 0.1, "l1": 0.2, "mast": 0.6}),
    "reference": pd.Series({"t1": 0.25, "t2": 0.25, "l1": 0.5, "mast": 0.0}),
    "estimated": pd.Series({"t1": 0.1, "t2": 0.0, "l1": 0.3, "mast": 0.6}),
}


def summary(groups=TABLE, method="tacco", prior="estimated", shares=SHARES, calls=BOTH):
    return summarise([f"c{i}" for i in range(5)], calls, groups, method, shares, prior, TRANSCRIPTS, SUBTYPES)


def test_agreement_by_hand():
    found = summary()
    assert (found["cells"], found["with_counts"]) == (5, 4)
    methods, table = found["agreement"]["methods"], found["agreement"]["table"]
    assert (methods["cells"], methods["share"]) == (4, 0.75)
    assert methods["by_type"] == {
        "T": {"cells": 2, "share": 0.5},
        "L": {"cells": 1, "share": 1.0},
        "no type": {"cells": 1, "share": 1.0},
    }
    assert (table["cells"], table["share"]) == (3, pytest.approx(1 / 3))
    assert table["by_type"] == {"T": {"cells": 2, "share": 0.5}, "L": {"cells": 1, "share": 0.0}}
    assert found["labelled"] == {"agree": 1, "table": 5, "expression": 3}
    assert found["types"]["labels"] == {"L": 0.2, "T": 0.2, "no type": 0.6}
    assert found["types"]["estimated"] == pytest.approx({"T": 0.1, "L": 0.3, "no type": 0.6})
    assert found["shares"]["reference"] == {"t1": 0.25, "t2": 0.25, "l1": 0.5, "mast": 0.0}
    bare = summary(groups=None, method="mixture")
    assert bare["agreement"]["table"] is None
    assert bare["labelled"] == {"agree": 3, "table": 3, "expression": 3}
    json.dumps(found | bare, allow_nan=False)


def test_doubts_by_hand():
    assert summary(groups=None)["doubts"] == []
    (said,) = summary()["doubts"]
    assert said == "The table disagrees with 67% of the 3 types that expression gives to its cells."
    apart = BOTH | {"mixture": called("l1", "l1", "l1", "mast")}
    (said,) = summary(groups=None, calls=apart)["doubts"]
    assert said == "TACCO and the mixture disagree on 50% of 4 cells."


def test_a_prior_that_shapes_the_labels_is_doubted():
    far = SHARES | {"estimated": pd.Series({"t1": 0.4, "l1": 0.0, "mast": 0.6})}
    (said,) = summary(groups=None, prior="reference", shares=far)["doubts"]
    assert "differ from the sample's own, as estimated, in 20% of the transcripts" in said
    assert summary(groups=None, prior="reference", method="mixture", shares=far)["doubts"] == []
    same = SHARES | {"estimated": pd.Series({"t1": 0.2, "l1": 0.2, "mast": 0.6})}
    assert summary(groups=None, prior="reference", shares=same)["doubts"] == []


def test_a_type_that_the_table_lacks_is_doubted():
    only = SHARES | {"prior": pd.Series({"t1": 0.5, "t2": 0.5})}
    agreed = pd.Series({"c0": "T", "c1": "T"})
    (said,) = summary(groups=agreed, prior="table", shares=only)["doubts"]
    assert said.startswith("The table has no L, so TACCO calls none; the mixture gives it 30% of the transcripts.")
