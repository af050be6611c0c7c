"""Joining samples by gene, and choosing the cells to learn from."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from shest.core.errors import InputError
from shest.io import counts
from shest.io.genes import Genes
from shest.labels import training_set

IDS = ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003"]


def test_samples_are_joined_by_gene():
    first = sparse.csr_matrix(np.array([[1, 2, 0], [0, 0, 3]]))
    second = sparse.csr_matrix(np.array([[4, 5, 6]]))
    joined, genes, measured = counts.join(
        [(first, Genes.of("ABC", IDS)), (second, Genes.of("DCQ", [IDS[1][:-1] + "9", "", IDS[0]]))]
    )
    assert genes.symbols == ["A", "B", "C", "D"]
    assert joined.toarray().tolist() == [[1, 2, 0, 0], [0, 0, 3, 0], [6, 0, 5, 4]]
    assert measured.tolist() == [[True, True, True, False], [True, False, True, True]]


def test_counts_are_named_as_the_model_names_their_genes(tmp_path):
    store = ad.AnnData(
        sparse.csr_matrix(np.arange(6, dtype=np.float32).reshape(2, 3)),
        obs=pd.DataFrame({"cell_id": ["c0", "c1"]}, index=["0", "1"]),
        var=pd.DataFrame({"gene_ids": IDS, "feature_types": "Gene Expression"}, index=["NEW", "B", "C"]),
    )
    store.write_zarr(tmp_path / "tables" / "table")
    assert counts.read_counts(tmp_path)[1] == Genes(["NEW", "B", "C"], IDS)
    model = Genes.of(["B", "OLD", "C"], [IDS[1], IDS[0], "ENSG00000000009"])
    values, genes, _ = counts.read_counts(tmp_path, model)
    assert genes.symbols == ["OLD", "B", "C"]
    assert values.toarray().tolist() == [[0, 1, 2], [3, 4, 5]]


def split_table():
    one = [("train", "X")] * 4 + [("train", "Y")] * 4 + [("val", "X")] * 2
    one += [("test", "X"), ("gap", "Y"), ("train", "Z")]
    rows = [(sample, f"{sample}{i}", part, kind) for sample in "ab" for i, (part, kind) in enumerate(one)]
    return pd.DataFrame(rows, columns=["sample", "id", "part", "cell_type"])


def refined(split, lost):
    return {
        s: pd.DataFrame({"cell_id": part["id"], "kept": ~part["id"].isin(lost)}) for s, part in split.groupby("sample")
    }


def test_strict_learns_from_kept_cells_and_validates_on_all():
    split = split_table()
    seen = {
        s: f[f["cell_id"].isin(split.loc[split["part"] == "train", "id"])]
        for s, f in refined(split, ["a0", "b5"]).items()
    }
    table, classes = training_set.training_table(split, seen, "strict", 3)
    assert classes == ["X", "Y"]
    assert (table["part"] == "train").sum() == 14
    assert not {"a0", "b5"} & set(table["id"])
    assert (table["part"] == "val").sum() == 4
    assert (table["label"] == (table["cell_type"] == "Y")).all()


def test_validation_cells_are_not_refined():
    split = split_table()
    table, _ = training_set.training_table(split, refined(split, ["a8", "a1"]), "paper", 3)
    assert (table["part"] == "val").sum() == 4
    assert (table["part"] == "train").sum() == 15
    assert set(table["part"]) == {"train", "val"}


def test_without_refinement_all_training_cells_are_learnt_from():
    split = split_table()
    table, classes = training_set.training_table(split, None, "strict", 2)
    assert classes == ["X", "Y", "Z"]
    assert (table["part"] == "train").sum() == 18


def test_too_few_types_are_refused():
    split = split_table()
    with pytest.raises(InputError, match="fewer than two types have 100 cells"):
        training_set.training_table(split, refined(split, []), "strict", 100)


def test_labelled_cells_are_kept_and_labelled(tmp_path):
    cells = {"cell_id": ["c", "a", "b"], "x": [1.0, 2, 3], "y": [4.0, 5, 6], "kept": [True, True, False]}
    labels = {"cell_id": ["a", "b", "c", "d"], "cell_type": ["X", "Y", None, "X"]}
    pd.DataFrame(cells).to_parquet(tmp_path / "cells.parquet")
    pd.DataFrame(labels).to_parquet(tmp_path / "labels.parquet")
    table = training_set.labelled_cells("s", tmp_path / "cells.parquet", tmp_path / "labels.parquet")
    assert table.to_dict("records") == [{"sample": "s", "id": "a", "x": 2.0, "y": 5.0, "cell_type": "X"}]
