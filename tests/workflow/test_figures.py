"""Figures and tables of the tiny run: all there, their data are the results', drawing touches nothing else."""

import json
import re
import subprocess

import numpy as np
import pandas as pd
import pytest

R = "results/tiny"
SHOWN = "morphometrics/strict"
FIGURES = {"2": "ABCDEFGHIJKLM", "4": "ABCDEF", "5": "ABCDEFGH", "6": "ABCDEF", "7": "ABCDEFGHIJKL", "8": "AB"}
SUPPLEMENT = ["S1", "S2", "S3", "S4"]


@pytest.fixture(scope="module")
def results(tiny):
    return tiny / R


@pytest.fixture(scope="module")
def scores(results):
    return json.loads((results / f"evaluation/{SHOWN}/sim_lung.json").read_text())


def data(results, figure, panel):
    return pd.read_csv(results / f"figures/source_data/figure_{figure}/{panel}.csv")


def test_every_figure_is_there_as_picture_and_as_drawing(results):
    for figure in [*FIGURES, *SUPPLEMENT]:
        assert (results / f"figures/figure_{figure}.png").stat().st_size > 5_000, figure
        pdf = (results / f"figures/figure_{figure}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF"), figure
        assert b"/Type3" not in pdf, figure


def test_the_report_shows_every_figure(results):
    page = (results / "report.html").read_text()
    for figure in [*FIGURES, *SUPPLEMENT]:
        assert f"figures/source_data/figure_{figure}" in page


def test_figure_2_counts_the_refined_cells_and_measures_the_labelled_ones(results):
    refined = pd.read_parquet(results / f"refinement/{SHOWN}/sim_train.parquet")
    for panel, rows in (("J", refined), ("M", refined[refined["kept"]])):
        drawn = data(results, "2", panel).set_index("cell_type")["cells"]
        assert drawn[drawn > 0].to_dict() == rows["cell_type"].value_counts().to_dict()
    assert len(data(results, "2", "H")) == len(refined)
    assert len(data(results, "2", "L")) == int(refined["kept"].sum())
    labels = pd.read_parquet(results / "sim_train/annotation.parquet").set_index("cell_id")["cell_type"]
    cells = pd.read_parquet(results / "sim_train/cells.parquet").query("kept").set_index("cell_id")
    widths = cells.join(labels.dropna(), how="inner")
    sizes = data(results, "2", "A").query("side == 'width' and group == 'Lymphocyte'")["value"]
    expected = widths.loc[widths["cell_type"] == "Lymphocyte", "width_um"]
    assert np.sort(sizes) == pytest.approx(np.sort(expected), rel=1e-4)


def test_figures_4_and_5_show_the_scores(results, scores):
    test = json.loads((results / f"evaluation/{SHOWN}/sim_train.json").read_text())
    assert data(results, "4", "A").drop(columns="actual").to_numpy().tolist() == test["confusion"]["counts"]
    assert data(results, "5", "B").drop(columns="actual").to_numpy().tolist() == scores["confusion"]["counts"]
    genes = pd.read_csv(results / f"evaluation/{SHOWN}/sim_train.genes.csv")
    assert data(results, "4", "D")["pearson"].tolist() == pytest.approx(genes["pearson"].tolist(), rel=1e-4)
    heads = data(results, "4", "C").query("by == 'heads, strict'")["value"]
    assert heads.tolist() == pytest.approx([test["f1"]["weighted"], test["f1"]["macro"]], rel=1e-4)
    assert len(data(results, "5", "A")) == scores["n_cells"]
    medians = data(results, "5", "G").groupby(["from", "to"])["distance_um"].median()
    for pair in scores["distances"]:
        if pair["n_annotated"]:
            assert medians[pair["from"], pair["to"]] == pytest.approx(pair["median_annotated"], rel=1e-3)


def test_figures_7_and_8_show_the_genes(results):
    genes = pd.read_csv(results / f"evaluation/{SHOWN}/sim_lung.genes.csv")
    best = genes.sort_values("pearson", ascending=False)["pearson"].head(20)
    assert data(results, "7", "A")["pearson"].tolist() == pytest.approx(best.tolist(), rel=1e-4)
    both = genes.dropna(subset=["moran_actual", "moran_predicted"])
    assert sorted(data(results, "8", "A")["gene"]) == sorted(both["gene"])


def test_a_gene_off_the_panel_is_called_unmeasured_and_reconstructed_all_the_same(results, scores):
    assert "LTBP2" in scores["genes"]["unmeasured"]
    folder = results / "figures/source_data/figure_7"
    assert not (folder / "H.csv").exists()
    assert len(pd.read_csv(folder / "I.csv")) == scores["n_cells"]
    assert len(pd.read_csv(folder / "E.csv")) == scores["n_cells"]


def test_a_second_external_sample_that_is_not_there_leaves_figures_that_say_so(results):
    for figure in ("S1", "S3", "S4"):
        assert list((results / f"figures/source_data/figure_{figure}").glob("*.csv")) == []


def test_examples_are_cells_that_were_called_as_they_say(results):
    cells = pd.read_parquet(results / f"evaluation/{SHOWN}/sim_lung.cells.parquet").set_index("cell_id")
    drawn = data(results, "S2", "tiles").set_index("cell_id")
    assert (cells.loc[drawn.index, ["actual", "called"]].to_numpy() == drawn[["actual", "called"]].to_numpy()).all()


def test_tables_describe_the_samples_and_gather_the_subtypes(results):
    table = pd.read_csv(results / "tables/table_1.csv").set_index("sample")
    for sample in table.index:
        cells = pd.read_parquet(results / sample / "cells.parquet")
        assert table.loc[sample, "cells"] == len(cells)
        assert table.loc[sample, "kept_cells"] == cells["kept"].sum()
    subtypes = pd.read_csv(results / "tables/table_S1.csv")
    labelled = sum(
        (pd.read_parquet(results / sample / "annotation.parquet")["reason"] == "labelled").sum()
        for sample in table.index
    )
    assert subtypes["labelled_cells"].sum() == labelled
    assert subtypes.set_index("subtype").loc["B cell", "cell_type"] == "Lymphocyte"


@pytest.fixture(scope="module")
def drawing(root):
    """The rules that ``make figures`` allows."""
    command = subprocess.run(
        ["make", "--dry-run", "--always-make", "figures"], cwd=root, capture_output=True, text=True
    )
    line = next(line for line in command.stdout.splitlines() if line.startswith("snakemake figures"))
    return re.search(r"--allowed-rules (.*?) --forcerun", line)[1].split()


def test_make_figures_draws_all_again_and_touches_no_model(snake, copy_of_tiny, drawing):
    model = copy_of_tiny / R / f"models/{SHOWN}/model.json"
    model.touch()
    target = copy_of_tiny / R / "figures/figure_8.png"
    before = target.read_bytes(), target.with_suffix(".pdf").read_bytes()
    target.unlink()
    drawn = snake(
        copy_of_tiny, "--dry-run", "--allowed-rules", *drawing, "--forcerun", *drawing[1:], "--", "figures"
    ).stdout
    stats = drawn[drawn.index("Job stats") :]
    rules = re.findall(r"^(\w+) +\d+$", stats[: stats.index("total")], flags=re.MULTILINE)
    assert sorted(rules) == sorted(drawing)
    snake(copy_of_tiny, "--allowed-rules", *drawing, "--", f"{R}/figures/figure_8.png")
    assert (target.read_bytes(), target.with_suffix(".pdf").read_bytes()) == before
