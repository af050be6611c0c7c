"""Predictions on disk: small, read by plain anndata, and no score is another for it."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from shest.core.errors import InputError
from shest.io import predictions
from shest.score import evaluate

TYPES = ["A", "B", "C"]


def units(n):
    ids = pd.Index([f"c{i}" for i in range(n)])
    place = np.arange(n, dtype=float)
    return pd.DataFrame({"x": place, "y": place, "x_um": place, "y_um": place, "part": "test", "fold": "0"}, index=ids)


def write(path, expected, **layers):
    """Write expectations (n, g) in the blocks that a run writes."""

    def blocks():
        for start in range(0, len(expected), predictions.ROWS):
            part = slice(start, start + predictions.ROWS)
            yield {"expected": expected[part]} | {name: values[part] for name, values in layers.items()}

    genes = [f"g{i}" for i in range(expected.shape[1])]
    predictions.write(path, blocks(), units(len(expected)), [], genes, {"unit": "counts"})
    return path


def tissue(n, genes=24, seed=0):
    """Types with levels of their own, and smooth differences within: expectations, counts, types."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    within = np.exp(rng.normal(size=(n, 5)) @ rng.normal(0, 0.12, (5, genes)))
    expected = np.exp(rng.normal(-1.5, 1.2, genes) + rng.normal(0, 0.8, (3, genes))[kind]) * within
    return expected.astype(np.float32), rng.poisson(expected), np.array(TYPES)[kind]


@pytest.mark.parametrize("bits", [5, 7, 10])
def test_rounding_keeps_the_value_and_the_range(bits):
    rng = np.random.default_rng(bits)
    values = np.exp(rng.uniform(-80, 80, 20_000)).astype(np.float32)
    found = predictions.rounded(values, bits)
    assert (np.abs(found / values - 1) <= 2.0 ** -(bits + 1)).all()
    assert (found.view(np.uint32) % 2 ** (23 - bits) == 0).all()
    assert abs((found / values - 1).mean()) < 2.0 ** -(bits + 5), "rounded to the nearest, not cut off"
    special = np.array([0, np.inf, np.nan, 1, -2], np.float32)
    assert np.array_equal(predictions.rounded(special, bits), special, equal_nan=True)


@pytest.mark.parametrize("n", [250, 2_000, 70_000])
def test_no_score_changes_by_a_thousandth_for_being_rounded(n):
    expected, counts, kind = tissue(n)
    place = np.random.default_rng(1).random((n, 2)) * 1000
    names = [f"g{i}" for i in range(expected.shape[1])]
    scored = evaluate.Scored(kind, place, np.zeros(n, int), sparse.csc_matrix(counts), names)
    kept = predictions.rounded(expected, predictions.mantissa_bits(n))
    before, after = (evaluate.score_expression(scored, lambda part, v=v: v[:, part])[0] for v in (expected, kept))
    for score in ("pearson", "pearson_within_type", "spearman", "moran_predicted"):
        assert (before[score] - after[score]).abs().max() < 1e-3, score
    assert not np.array_equal(expected, kept)


def test_plain_anndata_reads_it_whole_and_from_disk(tmp_path):
    expected, counts, _ = tissue(5_000)
    path = write(tmp_path / "p.h5ad", expected, drawn=counts.astype(np.uint16))
    whole, backed = ad.read_h5ad(path), ad.read_h5ad(path, backed="r")
    assert whole.X.dtype == np.float32
    np.testing.assert_allclose(whole.X, expected, rtol=2.0 ** -(predictions.mantissa_bits(5_000) + 1))
    assert np.array_equal(backed[4090:4100, ["g3", "g9"]].X, whole.X[4090:4100][:, [3, 9]])
    assert whole.layers["drawn"].dtype == np.uint16
    for read in (whole, backed):
        assert np.array_equal(read.layers["drawn"].toarray(), counts)
    assert backed.X.compression == "gzip"


def test_without_a_distribution_there_is_no_layer(tmp_path):
    assert not ad.read_h5ad(write(tmp_path / "p.h5ad", tissue(100)[0])).layers


def test_a_million_cells_and_5001_genes_take_less_than_6_gb(tmp_path):
    """Bytes a value of a part of that size, whose blocks are as those of the whole are; 1,000 counts a cell."""
    n, genes = 4 * predictions.ROWS, 200
    expected = tissue(n, genes)[0]
    counts = np.random.default_rng(3).poisson(expected * (1_000 / 5_001 / expected.mean()))
    bits = predictions.mantissa_bits(1_000_000)
    path = write(tmp_path / "p.h5ad", predictions.rounded(expected, bits), drawn=counts.astype(np.uint16))
    bare = write(tmp_path / "bare.h5ad", expected[:, :0])
    per_value = (path.stat().st_size - bare.stat().st_size) / (n * genes)
    assert per_value * 1e6 * 5001 + bare.stat().st_size / n * 1e6 < 6e9


def test_chosen_genes_come_in_the_order_of_the_model_and_unknown_ones_are_one_error():
    genes = ["EPCAM", "CD3E", "LTBP2", "PTPRC"]
    assert predictions.chosen("all", genes).tolist() == [0, 1, 2, 3]
    assert predictions.chosen(["PTPRC", "CD3E"], genes).tolist() == [1, 3]
    assert predictions.chosen(["CD3E"], []).tolist() == [], "a system of types alone has no gene to choose"
    with pytest.raises(InputError, match=r"not among the 4 genes of the model: CD3 \(CD3E\?\), XYZ123"):
        predictions.chosen(["CD3", "EPCAM", "XYZ123"], genes)
