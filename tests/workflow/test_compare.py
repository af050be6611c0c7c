"""All systems side by side, and programs from outside among them: the docs' example, the truth, chance, one silent."""

import json
import re
import shutil
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml

from shest.score.score_list import SCORES

R, SAMPLE = "results/tiny", "sim_lung"
TYPES = [name for name, score in SCORES.items() if score.task == "types"]
EXPRESSION = [name for name, score in SCORES.items() if score.task == "expression" and name != "pearson_top"]


def counts_of(results, sample):
    """Measured counts of a sample, cells by id."""
    table = ad.read_zarr(results / f"samples/{sample}/sdata.zarr/tables/table")
    table.obs_names = table.obs["cell_id"].astype(str)
    return table[:, table.var["feature_types"] == "Gene Expression"]


def write_program(path, counts, ids, values, **uns):
    """Write what a program outside would."""
    obs = pd.DataFrame({"cell_id": ids}, index=ids)
    ad.AnnData(values.astype(np.float32), obs, pd.DataFrame(index=counts.var_names), uns=uns).write_h5ad(path)


@pytest.fixture(scope="module")
def programs(tiny, root, tmp_path_factory):
    """Files of programs, by name; the first is what the docs' example writes of the finished run."""
    folder = tmp_path_factory.mktemp("programs")
    page = (root / "docs/compare.md").read_text()
    (folder / "size.py").write_text(re.search(r"```python\n(.*?)```", page, flags=re.S)[1])
    subprocess.run([sys.executable, "size.py", tiny / R, "sim_train", SAMPLE], cwd=folder, check=True)
    counts = counts_of(tiny / R, SAMPLE)
    kept = pd.read_parquet(tiny / R / f"samples/{SAMPLE}/cells.parquet").query("kept")["cell_id"].to_numpy(str)
    truth, rng = counts[kept].X.toarray(), np.random.default_rng(0)
    fine, noise = {"unit": "counts", "trained_on": ["elsewhere"]}, rng.normal(0, 0.3, truth.shape)
    some = rng.permutation(len(kept))[: len(kept) - 5]  # in an order of its own, and not all cells
    known = np.log1p(np.maximum(truth + noise, 0))
    write_program(folder / "truth.h5ad", counts, kept[some], known[some], unit="log1p", trained_on=["elsewhere"])
    write_program(folder / "chance.h5ad", counts, kept, rng.permutation(truth), **fine)
    write_program(folder / "silent.h5ad", counts, kept, truth, unit="counts")
    return {path.stem.removeprefix(f"{SAMPLE}."): str(path) for path in folder.glob("*.h5ad")}


@pytest.fixture(scope="module")
def compared(tiny, root, snake, programs, tmp_path_factory):
    """The finished run, with the programs beside its systems; its comparison."""
    folder = tmp_path_factory.mktemp("compared") / "run"
    shutil.copytree(tiny, folder, symlinks=True)
    config = yaml.safe_load((root / "config/tiny.yaml").read_text()) | {"samples": str(root / "config/tiny.tsv")}
    entries = {name: {"format": "h5ad", "files": {SAMPLE: path}} for name, path in programs.items()}
    config["evaluate"] = {"comparators": entries}
    path = folder.parent / "compared.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    done = snake(folder, "--", f"{R}/comparison/strict.png", config=path)
    assert "rule evaluate:" not in done.stdout, "what was scored is not scored again"
    return folder / R / "comparison"


def test_every_system_stands_in_every_row_that_it_claims(tiny):
    for protocol in ("strict", "paper"):
        table = pd.read_csv(tiny / R / f"comparison/{protocol}.csv")
        assert len(table) == 2 * 2
        assert table[[*TYPES, *EXPRESSION]].notna().all(axis=None)
        folds = (table["role"] == "train") & (protocol == "strict")
        assert table["pearson_top"].notna().equals(folds), "the best genes of other folds, where there are folds"
        for name in (*TYPES, *EXPRESSION):
            there = table[f"{name}_low"].notna()
            assert (table[f"{name}_low"] <= table[name])[there].all()
            assert (table[name] <= table[f"{name}_high"])[there].all()
        assert table["iou_chance"].between(0, 1).all()
        assert (table["n_genes_above"] > table["n_genes_above_by_chance"]).all()
        costs = pd.read_csv(tiny / R / f"comparison/{protocol}.costs.csv").set_index("system")
        assert costs.notna().all(axis=None)
        assert costs.loc["shest", "parameters"] > costs.loc["linear", "parameters"]
        found = json.loads((tiny / R / f"comparison/{protocol}.json").read_text())
        assert found["set_apart"] == []
        of_types = [d for d in found["differences"] if d["score"] in TYPES]
        assert len(of_types) == 2 * len(TYPES), "one pair of systems, two samples"
        assert {v["score"] for v in found["verdicts"]} >= {*TYPES, *EXPRESSION}


def test_the_report_says_which_differences_are_real(tiny):
    page = (tiny / R / "report.html").read_text()
    assert 'id="systems"' in page
    assert re.search(r"<li>sim_lung \(strict\), F1, weighted: (shest|linear) is best \(0\.\d{3}\); ", page)


def test_the_truth_comes_first_and_chance_last(compared):
    table = pd.read_csv(compared / "strict.csv")
    table = table[table["ground"] == "shared"].set_index("system")
    assert set(table.index) == {"shest", "linear", "size", "truth", "chance"}
    assert table["n"].nunique() == table["n_genes"].nunique() == 1
    for name in EXPRESSION:
        best = table[name].idxmax()
        assert best == "truth" or name == "bivariate_moran", name  # which likes smooth maps better than the truth
    assert table.loc["truth", "pearson_median"] > 0.8
    assert table.loc["truth", "unit_r"] > 0.8
    assert table.loc["chance", ["pearson_median", "bivariate_moran"]].abs().max() < 0.1
    assert table.loc["chance", "iou_high"] == pytest.approx(table.loc["chance", "iou_chance"], abs=0.1)
    assert table.loc["chance", "n_genes_above"] <= 1
    assert table.loc[["size", "truth", "chance"], TYPES].isna().all(axis=None), "they name no types"


def test_the_docs_example_is_ranked(compared):
    found = json.loads((compared / "strict.json").read_text())
    verdict = next(v for v in found["verdicts"] if (v["score"], v["ground"]) == ("pearson_median", "shared"))
    assert verdict["best"] == "truth"
    assert {b["system"] for b in verdict["behind"]} | set(verdict["level"]) == {"shest", "linear", "size", "chance"}
    assert "chance" in {b["system"] for b in verdict["behind"]}
    assert set(pd.read_csv(compared / "strict.source_data/E.csv")["system"]) >= {"size", "linear"}


def test_who_does_not_say_what_it_was_trained_on_is_set_apart(compared):
    found = json.loads((compared / "strict.json").read_text())
    assert [row["system"] for row in found["set_apart"]] == ["silent"]
    assert "does not say what it was trained on" in found["set_apart"][0]["why"]
    assert "silent" not in {row["system"] for row in found["rows"]}


def test_what_stood_there_stays_as_it_was(compared, tiny):
    before, after = (pd.read_csv(p / "strict.csv") for p in (tiny / R / "comparison", compared))
    after = after[after["ground"] == "all"].reset_index(drop=True)
    pd.testing.assert_frame_equal(after, before, check_dtype=False)


def test_a_second_comparison_gives_the_same_bytes(snake, copy_of_tiny):
    names = [f"{R}/comparison/strict{suffix}" for suffix in (".csv", ".json", ".costs.csv", ".png")]
    before = [(copy_of_tiny / name).read_bytes() for name in names]
    scores = f"{R}/evaluation/linear/strict/{SAMPLE}.cells.json"
    again = (copy_of_tiny / scores).read_bytes()
    snake(copy_of_tiny, "--forcerun", "compare", scores, "--", names[0], names[3])
    assert [(copy_of_tiny / name).read_bytes() for name in names] == before
    assert (copy_of_tiny / scores).read_bytes() == again
