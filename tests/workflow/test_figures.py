"""Figures and tables of the tiny run: all there, their data are the results', drawing touches nothing else."""

import re
import subprocess

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from shest.draw.figure_list import FIGURES as LISTED
from shest.labels.split import ALL
from shest.score.evaluation import Evaluation

R = "results/tiny"
DRAWN = [number for number, figure in LISTED.items() if figure.kind is None]  # others are of systems that it lacks
SHOWN = "shest/strict"
REFINED = "refinement/morphometrics/strict/sim_train.parquet"


@pytest.fixture(scope="module")
def results(tiny):
    return tiny / R


@pytest.fixture(scope="module")
def external(results):
    return Evaluation.read(results / f"evaluation/{SHOWN}/sim_lung.cells.json")


def data(results, figure, panel):
    return pd.read_csv(results / f"figures/source_data/figure_{figure}/{panel}.csv")


def test_every_figure_is_there_as_picture_and_as_drawing(results):
    for figure in DRAWN:
        assert (results / f"figures/figure_{figure}.png").stat().st_size > 5_000, figure
        pdf = (results / f"figures/figure_{figure}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF"), figure
        assert b"/Type3" not in pdf, figure


def test_the_report_shows_every_figure(results):
    page = (results / "report.html").read_text()
    for figure in DRAWN:
        assert f"figures/source_data/figure_{figure}" in page


def test_figure_2_counts_the_refined_cells_and_measures_the_labelled_ones(results):
    refined = pd.read_parquet(results / REFINED)
    refined = refined[refined["fold"] == ALL]
    for panel, rows in (("J", refined), ("M", refined[refined["kept"]])):
        drawn = data(results, "2", panel).set_index("cell_type")["cells"]
        assert drawn[drawn > 0].to_dict() == rows["cell_type"].value_counts().to_dict()
    assert len(data(results, "2", "H")) == len(refined)
    assert len(data(results, "2", "L")) == int(refined["kept"].sum())
    labels = pd.read_parquet(results / "samples/sim_train/annotation.parquet").set_index("cell_id")["cell_type"]
    cells = pd.read_parquet(results / "samples/sim_train/cells.parquet").query("kept").set_index("cell_id")
    widths = cells.join(labels.dropna(), how="inner")
    sizes = data(results, "2", "A").query("side == 'width' and group == 'Lymphocyte'")["value"]
    expected = widths.loc[widths["cell_type"] == "Lymphocyte", "width_um"]
    assert np.sort(sizes) == pytest.approx(np.sort(expected), rel=1e-4)


def test_figures_4_and_5_show_the_scores(results, external):
    internal = Evaluation.read(results / f"evaluation/{SHOWN}/sim_train.cells.json")
    assert data(results, "4", "A").drop(columns="label").to_numpy().tolist() == internal.types.counts
    assert data(results, "5", "B").drop(columns="label").to_numpy().tolist() == external.types.counts
    genes = pd.read_csv(results / f"evaluation/{SHOWN}/sim_train.cells.genes.csv")
    assert data(results, "4", "D")["pearson"].tolist() == pytest.approx(genes["pearson"].tolist(), rel=1e-4)
    assert len(data(results, "5", "A")) == external.n
    medians = data(results, "5", "G").groupby(["from", "to"])["distance_um"].median()
    for pair in external.distances:
        if pair["n_annotated"]:
            assert medians[pair["from"], pair["to"]] == pytest.approx(pair["median_annotated"], rel=1e-3)


@pytest.mark.parametrize(("figure", "panel", "sample"), [("4", "C", "sim_train"), ("5", "F", "sim_lung")])
def test_f1_is_drawn_of_every_system_in_every_protocol(results, figure, panel, sample):
    drawn = data(results, figure, panel).set_index("by")
    paths = sorted((results / "evaluation").glob(f"*/*/{sample}.cells.json"))
    assert len(paths) == 4
    for scores in map(Evaluation.read, paths):
        name = f"{scores.system}, {scores.protocol}"
        values = {name: scores.types} | ({f"{name}, unrefined": scores.unrefined[1]} if scores.unrefined else {})
        for by, types in values.items():
            assert drawn.loc[by, "value"].tolist() == pytest.approx([types.weighted, types.macro], rel=1e-4)
        drawn = drawn.drop(index=list(values))
    assert drawn.empty


def test_figures_7_and_8_show_the_genes(results):
    genes = pd.read_csv(results / f"evaluation/{SHOWN}/sim_lung.cells.genes.csv")
    best = genes.sort_values("pearson", ascending=False)["pearson"].head(20)
    assert data(results, "7", "A")["pearson"].tolist() == pytest.approx(best.tolist(), rel=1e-4)
    for panel, side in (("A", "predicted"), ("C", "drawn")):
        both = genes.dropna(subset=["moran_actual", f"moran_{side}"]).set_index("gene")[f"moran_{side}"]
        drawn = data(results, "8", panel).set_index("gene")[f"moran_{side}"]
        assert drawn.to_dict() == pytest.approx(both.to_dict(), rel=1e-4)


def test_dots_are_sized_by_the_cells_with_a_measured_or_a_drawn_count(results):
    scored = pd.read_parquet(results / f"evaluation/{SHOWN}/sim_train.cells.scored.parquet")
    found = ad.read_h5ad(results / f"predictions/{SHOWN}/sim_train.cells.h5ad")[scored["cell_id"]]
    row = data(results, "4", "F").sort_values("share").iloc[-1]
    own = found[(scored["label"] == row["cell_type"]).to_numpy(), row["gene"]]
    assert row["share"] == pytest.approx((own.layers["drawn"].toarray() > 0).mean(), rel=1e-4)
    assert row["mean"] == pytest.approx(np.log1p(own.X).mean(), rel=1e-4)


def test_a_gene_off_the_panel_is_called_unmeasured_and_reconstructed_all_the_same(results, external):
    assert "LTBP2" in external.genes["unmeasured"]
    folder = results / "figures/source_data/figure_7"
    assert not (folder / "H.csv").exists()
    assert len(pd.read_csv(folder / "I.csv")) == external.n
    assert len(pd.read_csv(folder / "E.csv")) == external.n


def test_a_second_external_sample_that_is_not_there_leaves_figures_that_say_so(results):
    for figure in ("S1", "S3", "S4"):
        assert list((results / f"figures/source_data/figure_{figure}").glob("*.csv")) == []


def test_examples_are_cells_that_were_predicted_as_they_say(results):
    cells = pd.read_parquet(results / f"evaluation/{SHOWN}/sim_lung.cells.scored.parquet").set_index("cell_id")
    drawn, types = data(results, "S2", "tiles").set_index("cell_id"), ["label", "predicted"]
    assert (cells.loc[drawn.index, types].to_numpy() == drawn[types].to_numpy()).all()


def test_tables_describe_the_samples_and_gather_the_subtypes(results):
    table = pd.read_csv(results / "tables/table_1.csv").set_index("sample")
    for sample in table.index:
        cells = pd.read_parquet(results / "samples" / sample / "cells.parquet")
        assert table.loc[sample, "cells"] == len(cells)
        assert table.loc[sample, "kept_cells"] == cells["kept"].sum()
    subtypes = pd.read_csv(results / "tables/table_S1.csv")
    labelled = sum(
        (pd.read_parquet(results / "samples" / sample / "annotation.parquet")["reason"] == "labelled").sum()
        for sample in table.index
    )
    assert subtypes["labelled_cells"].sum() == labelled
    assert subtypes.set_index("subtype").loc["B cell", "cell_type"] == "Lymphocyte"


@pytest.fixture(scope="module")
def drawing(root):
    """The arguments of snakemake with which ``make figures`` draws: which rules it allows, which it forces."""
    command = subprocess.run(
        ["make", "--dry-run", "--always-make", "figures"], cwd=root, capture_output=True, text=True
    )
    line = next(line for line in command.stdout.splitlines() if line.startswith("snakemake figures"))
    return re.search(r"--allowed-rules .*(?= --cores)", line)[0].split()


def test_make_figures_draws_all_again_and_touches_no_model(snake, copy_of_tiny, drawing):
    for model in (copy_of_tiny / R / "models").rglob("model.json"):
        model.touch()
    target = copy_of_tiny / R / "figures/figure_8.png"
    before = target.read_bytes(), target.with_suffix(".pdf").read_bytes()
    target.unlink()
    planned = snake(copy_of_tiny, "--dry-run", *drawing, "--", "figures").stdout
    stats = planned[planned.index("Job stats") :]
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", stats[: stats.index("total")], flags=re.MULTILINE))
    assert jobs == {"figure": str(len(DRAWN)), "figures": "1", "tables": "1"}
    allowed = drawing[: drawing.index("--forcerun")]
    snake(copy_of_tiny, *allowed, "--", f"{R}/figures/figure_8.png")
    assert (target.read_bytes(), target.with_suffix(".pdf").read_bytes()) == before


def test_figures_show_the_system_that_the_config_names(snake, copy_of_tiny, changed):
    config = changed(figures={"system": "linear", "protocol": "paper"})
    before = {path: path.read_bytes() for path in (copy_of_tiny / R / "figures").glob("figure_[45].png")}
    snake(copy_of_tiny, "--", *(f"{R}/figures/{path.name}" for path in before), config=config)
    assert all(path.read_bytes() != content for path, content in before.items())
    assert data(copy_of_tiny / R, "4", "F")["share"].isna().all(), "linear predicts no distribution of counts"
    shown = Evaluation.read(copy_of_tiny / R / "evaluation/linear/paper/sim_lung.cells.json")
    assert data(copy_of_tiny / R, "5", "B").drop(columns="label").to_numpy().tolist() == shown.types.counts


def test_chosen_genes_alone_are_written_scored_and_drawn(snake, copy_of_tiny, changed):
    chosen = ["CD3E", "EPCAM", "LTBP2"]
    targets = [f"{R}/figures/figure_{number}.png" for number in ("4", "7", "8")]
    snake(copy_of_tiny, "--", *targets, config=changed(predict={"genes": chosen}))
    found = ad.read_h5ad(copy_of_tiny / R / f"predictions/{SHOWN}/sim_lung.cells.h5ad")
    assert sorted(found.var_names) == sorted(chosen)
    assert found.layers["drawn"].shape == found.shape
    scores = Evaluation.read(copy_of_tiny / R / f"evaluation/{SHOWN}/sim_lung.cells.json")
    assert scores.genes["scored"] == 2
    assert scores.genes["unmeasured"] == ["LTBP2"]
    assert set(data(copy_of_tiny / R, "7", "A")["gene"]) == {"CD3E", "EPCAM"}
    target = f"{R}/predictions/{SHOWN}/sim_lung.cells.h5ad"
    failed = snake(copy_of_tiny, "--", target, config=changed(predict={"genes": ["EPCAN"]}), check=False)
    assert failed.returncode != 0
    assert "genes of the model: EPCAN (EPCAM?)" in failed.stdout


def test_where_no_chosen_gene_was_measured_types_are_scored_alone(snake, copy_of_tiny, changed):
    targets = [f"{R}/figures/figure_{number}.png" for number in ("7", "8")]
    snake(copy_of_tiny, "--", *targets, config=changed(predict={"genes": ["LTBP2"]}))
    scores = Evaluation.read(copy_of_tiny / R / f"evaluation/{SHOWN}/sim_lung.cells.json")
    assert scores.pearson is scores.moran is None
    assert (scores.genes["scored"], scores.genes["unmeasured"]) == (0, ["LTBP2"])
    assert scores.types.weighted > 0.6
