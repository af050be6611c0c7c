"""Another program's predictions: read, matched to cells and genes, brought to counts, or set apart by one sentence."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from shest.core.errors import Findings, InputError
from shest.io import detections, programs
from shest.io.genes import Genes
from shest.score import programs as adopting

N, GENES = 30, ["EPCAM", "CD3E", "OWN"]
RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(3, (N, 3)).astype(np.float32)
CELLS = pd.DataFrame(
    {"x": np.arange(N) * 100.0, "y": 50.0, "fold": ["0", "1"] * (N // 2), "part": "test"},
    index=[f"c{i}" for i in range(N)],
)
ENTRY = {"unit": None, "trained_on": None, "types": {}, "radius_um": 5, "scale": 1.0}
KNOWN = Genes(["CD3E", "EPCAM", "LTBP2"], ["", "", ""])


@pytest.fixture
def write(tmp_path):
    """Write a program's file; return it opened."""

    def make(X=COUNTS, obs=None, genes=GENES, scale=1.0, **uns):
        obs = pd.DataFrame({"cell_id": CELLS.index}) if obs is None else obs
        data = ad.AnnData(X, obs.set_axis(obs.index.astype(str)), pd.DataFrame(index=genes), uns=uns)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.h5ad"
        data.write_h5ad(path)
        return programs.read(path, scale)

    return make


def why(program, sample="s", role="validation", entry=ENTRY, cells=CELLS):
    rows = adopting.partners(program, cells, (0.25, 0.25), 5)
    return adopting.why_apart(program, entry, sample, role, cells, rows, adopting.shared_names(program, KNOWN)[1])


@pytest.mark.parametrize("matrix", [np.array, sparse.csr_matrix])
def test_cells_are_found_by_id_and_genes_by_name_in_any_order(write, matrix):
    order = RNG.permutation(N)[:20]
    found = write(matrix(COUNTS[order]), pd.DataFrame({"cell_id": CELLS.index[order]}), unit="counts", trained_on=["t"])
    rows = adopting.partners(found, CELLS, (0.25, 0.25), 5)
    assert (rows >= 0).sum() == 20
    columns, names = adopting.shared_names(found, KNOWN)
    assert names == ["EPCAM", "CD3E"]
    there = np.flatnonzero(rows >= 0)
    assert np.array_equal(found.expected(rows[there], columns, "counts"), COUNTS[there][:, :2])
    assert why(found) is None


def test_cells_without_ids_are_found_by_place_at_any_magnification(write):
    places = pd.DataFrame({"x": (CELLS["x"] + 0.5) * 2 - 0.5 + 3, "y": (CELLS["y"] + 0.5) * 2 - 0.5})
    found = write(obs=places.reset_index(drop=True), scale=0.5, unit="counts", trained_on="t")
    assert adopting.partners(found, CELLS, (0.25, 0.25), 5).tolist() == list(range(N))
    assert found.trained_on == ["t"]


def test_logarithms_become_counts_and_what_is_below_nothing_is_nothing(write):
    found = write(np.log1p(COUNTS), unit="expected log1p counts, of a ridge")
    assert programs.unit_of(found.unit) == "log1p"
    assert found.expected(np.array([3, 3, 1]), np.arange(3), "log1p") == pytest.approx(COUNTS[[3, 3, 1]], abs=1e-5)
    assert write(COUNTS - 100).expected(np.arange(N), np.arange(3), "counts").max() == 0
    assert programs.unit_of("expected counts per cell, (1 - pi) mu of a ZINB") == "counts"
    assert programs.unit_of("log1p CP10K") is programs.unit_of(None) is None


def test_what_cannot_be_compared_says_why_in_one_sentence(write):
    fine = {"unit": "counts", "trained_on": ["t"]}
    assert why(write(**fine)) is None
    assert "does not say the unit of its expression" in why(write(trained_on=["t"]))
    assert "gives expression in 'CP10K', which cannot be brought to counts" in why(
        write(unit="CP10K", trained_on=["t"])
    )
    assert "does not say what it was trained on" in why(write(unit="counts"))
    assert "does not say what it was trained on" in why(write(unit="counts", trained_on=[]))
    assert why(write(), entry=ENTRY | fine) is None, "the config says what the file does not"
    assert why(write(**fine), sample="t") == "was trained on t, which it would be scored on"
    assert "has no gene that the systems predict" in why(write(genes=["A", "B", "C"], **fine))
    assert "has none of the 30 cells" in why(write(**fine), cells=CELLS.set_axis([f"d{i}" for i in range(N)]))


def test_who_trained_on_the_sample_must_have_held_out_as_the_run_does(write):
    obs = pd.DataFrame({"cell_id": CELLS.index, "fold": CELLS["fold"].to_numpy()})
    fine = {"unit": "counts", "trained_on": ["t"]}
    assert why(write(obs=obs, **fine), "t", "train") is None
    assert why(write(obs=obs, **fine), "t", "validation") == "was trained on t, which it would be scored on"
    other = obs.assign(fold=["1", *obs["fold"][1:]])
    assert "held 1 of 30 cells out in other folds" in why(write(obs=other, **fine), "t", "train")


def test_types_are_mapped_or_taken_by_their_names(write):
    obs = pd.DataFrame({"cell_id": CELLS.index, "cell_type": ["A", "b"] * (N // 2)})
    found = write(obs=obs)
    mapped = adopting.types_of(found, ENTRY | {"types": {"A": "B", "b": None}}, ["A", "B"])
    assert mapped.tolist()[:2] == ["B", None]
    with pytest.raises(InputError, match="has the class 'b'"):
        adopting.types_of(found, ENTRY, ["A", "B"])
    assert adopting.types_of(write(), ENTRY, ["A"]) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"obs": pd.DataFrame({"cell": CELLS.index})}, "obs has neither cell_id nor x and y"),
        ({"obs": pd.DataFrame({"cell_id": ["a"] * N})}, "names the cell a twice"),
        ({"obs": pd.DataFrame({"x": [np.nan] * N, "y": 0.0})}, "30 cells without a place"),
        ({"genes": ["A", "A", "B"]}, "names the gene A twice"),
        ({"X": COUNTS[:0], "obs": pd.DataFrame({"cell_id": []})}, "no cells in it"),
    ],
)
def test_bad_files_are_named(write, tmp_path, change, said):
    with pytest.raises(InputError, match=said):
        write(**change)
    findings = Findings()
    detections.check({"own": ENTRY | {"format": "h5ad", "path": str(tmp_path / "0.h5ad")}}, findings)
    assert said in str(findings.problems[0])


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "p.h5ad").write_text("no")
    with pytest.raises(InputError, match="no h5ad"):
        programs.read(tmp_path / "p.h5ad")
    with pytest.raises(InputError, match="not there"):
        programs.read(tmp_path / "none.h5ad")
