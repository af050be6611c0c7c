"""Spots from end to end: Visium beside a bundle with pseudo-spots, and a real legacy section."""

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from shest.io.counts import read_counts

R = "results/tiny"
SPOT_SYSTEMS = {"spot_linear", "spot_mean", "spot_high", "patches"}
FOLDS = ("0", "1", "all")
PATCHES = {
    "backbone": "test_resnet",
    "weights": "random",
    "side_um": 40,
    "px": 112,
    "stain": "vahadane",
    "stain_target": "visium",
    "members": 2,
    "epochs": 60,
    "learning_rate": 0.02,
}


@pytest.fixture(scope="module")
def run(snake, root, tmp_path_factory):
    """A bundle with pseudo-spots and a Visium section to train on; a linear system of cells, four systems of spots."""
    folder = tmp_path_factory.mktemp("spots")
    config = yaml.safe_load((root / "config/tiny.yaml").read_text())
    small = {"genes": 80, "defects": 2, "mpp": 0.5}
    config["simulate"]["slides"] = {
        "bundle": {"cells": 700} | small,
        "visium": {"cells": 2600, "platform": "visium"} | small,
    }
    config |= {
        "samples": "sheet.tsv",
        "spots": {"diameter_um": 40, "pitch_um": 45, "patch_um": 40, "patch_px": 112},
        "systems": {
            "linear": {"kind": "linear"},
            "spot_linear": {"kind": "linear", "unit": "spots"},
            "spot_mean": {"kind": "mean", "unit": "spots"},
            "spot_high": {"kind": "high_low", "unit": "spots"},
            "patches": {"kind": "stimage", "unit": "spots", "settings": PATCHES},
        },
        "protocols": ["strict"],
    }
    config["train"] = {"min_cells": 10}
    simulated = "{results}/simulated"
    image = f"{simulated}/visium/visium_he_image.ome.tif"
    (folder / "sheet.tsv").write_text(
        "sample\trole\tplatform\tpath\the_image\tannotation\n"
        f"bundle\ttrain\txenium\t{simulated}/bundle\t\t{simulated}/bundle/he_annotation.csv\n"
        f"visium\ttrain\tvisium\t{simulated}/visium\t{image}\t\n"
    )
    (folder / "spots.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    snake(folder, config=folder / "spots.yaml")
    return folder


@pytest.fixture(scope="module")
def results(run):
    return run / R


def evaluation(results, system, sample, unit="spots"):
    return json.loads((results / f"evaluation/{system}/strict/{sample}.{unit}.json").read_text())


def test_reasons_add_up_to_all_spots(results):
    for sample in ("bundle", "visium"):
        table = pd.read_parquet(results / f"samples/{sample}/spots.parquet")
        assert table["spot_id"].is_unique
        assert (table["kept"] == (table["reason"] == "kept")).all()
        assert table["kept"].sum() > 20
        found = evaluation(results, "spot_linear", sample)
        assert found["n"] == table["kept"].sum() == found["reasons"]["spots"]["kept"]
        assert sum(found["reasons"]["spots"].values()) == len(table)


def test_a_pseudo_spot_has_the_counts_of_its_cells(results):
    folder = results / "samples/bundle"
    cells, genes, ids = read_counts(folder / "sdata.zarr")
    spots, same, spot_ids = read_counts(folder / "spots.zarr")
    members = pd.read_parquet(folder / "spot_cells.parquet")
    assert same.symbols == genes.symbols
    assert members["cell_id"].is_unique
    table = pd.read_parquet(folder / "spots.parquet").set_index("spot_id")
    for spot in table.index[table["kept"]][:5]:
        inside = members.loc[members["spot_id"] == spot, "cell_id"]
        assert len(inside) == table.loc[spot, "n_cells"]
        expected = cells[pd.Index(ids).get_indexer(inside)].sum(axis=0)
        assert np.array_equal(spots[spot_ids == spot].toarray(), expected)
    shares = table.filter(like="type:")[table["n_cells"] > 5].sum(axis=1)
    assert shares.dropna().to_numpy() == pytest.approx(1)


def test_visium_counts_are_the_truths_within_their_noise(results):
    truth = ad.read_h5ad(results / "simulated/visium/truth/truth.h5ad")
    counts, genes, ids = read_counts(results / "samples/visium/sdata.zarr")
    rows = pd.Index(ids).get_indexer(truth.obs_names)
    found = counts[rows].toarray()
    assert genes.symbols == truth.var_names.tolist()
    assert found.sum() == pytest.approx(truth.X.sum(), rel=0.05)


def test_both_units_are_held_out_by_the_same_blocks(results):
    splits = {fold: pd.read_parquet(results / f"splits/strict/{fold}.parquet") for fold in FOLDS}
    held_out = pd.concat(table[table["part"] == "test"] for table in splits.values())
    of_spots = held_out[held_out["unit"] == "spots"]
    for sample in ("bundle", "visium"):
        kept = pd.read_parquet(results / f"samples/{sample}/spots.parquet").query("kept")["spot_id"]
        assert sorted(of_spots.loc[of_spots["sample"] == sample, "id"]) == sorted(kept)
    for fold in FOLDS[:-1]:
        table = splits[fold][splits[fold]["sample"] == "bundle"]
        blocks = {u: set(rows.loc[rows["part"] == "test", "block"]) for u, rows in table.groupby("unit")}
        assert blocks["spots"] <= blocks["cells"]


def test_no_training_patch_meets_a_test_patch(results):
    for fold in FOLDS:
        table = pd.read_parquet(results / f"splits/strict/{fold}.parquet").query("unit == 'spots'")
        for sample, rows in table.groupby("sample"):
            index = json.loads((results / f"samples/{sample}/spots/40um_112px/patches.json").read_text())
            places = pd.read_parquet(results / f"samples/{sample}/spots.parquet").set_index("spot_id").loc[rows["id"]]
            xy, part = places[["x", "y"]].to_numpy(), rows["part"].to_numpy()
            for one, other in (("train", "test"), ("train", "val"), ("val", "test")):
                apart = np.abs(xy[part == one][:, None] - xy[part == other][None])
                assert not (apart < np.array(index["window"][::-1])).all(axis=2).any(), (fold, sample, one, other)


def test_spots_of_a_system_of_cells_are_sums_over_its_cells(results):
    cells = ad.read_h5ad(results / "predictions/linear/strict/bundle.cells.h5ad")
    spots = ad.read_h5ad(results / "predictions/linear/strict/bundle.spots.h5ad")
    beside = ad.read_h5ad(results / "predictions/spot_linear/strict/bundle.spots.h5ad")
    members = pd.read_parquet(results / "samples/bundle/spot_cells.parquet").set_index("cell_id")["spot_id"]
    member = members.reindex(cells.obs_names)
    for spot in spots.obs_names[:5]:
        expected = cells.X[(member == spot).to_numpy()].sum(axis=0)
        assert spots[spot].X.ravel() == pytest.approx(expected, rel=2e-3, abs=1e-6)
    assert (spots.obs["fold"] == beside.obs["fold"]).all()
    assert spots.obs_names.equals(beside.obs_names)
    assert set(spots.obs["part"]) == {"test"}
    assert "sum over cells" in spots.uns["unit"]
    assert "per spot" in beside.uns["unit"]


def test_systems_of_both_units_are_scored_on_the_same_spots_and_blocks(results):
    table = pd.read_csv(results / "comparison/strict.csv")
    of_spots = table[(table["sample"] == "bundle") & (table["unit"] == "spots")].set_index("system")
    assert set(of_spots.index) == {"linear", *SPOT_SYSTEMS}
    assert of_spots["n"].nunique() == of_spots["n_blocks"].nunique() == 1
    assert of_spots.loc["linear", "pearson_median"] > of_spots.loc["spot_mean", "pearson_median"]
    assert of_spots["weighted"].isna().all()
    assert of_spots["pearson_within_type"].isna().all()
    assert set(table.loc[table["sample"] == "visium", "system"]) == SPOT_SYSTEMS
    assert table.loc[table["sample"] == "visium", "pearson_median"].max() > 0.2
    gaps = json.loads((results / "comparison/strict.json").read_text())["differences"]
    pairs = {frozenset((g["system"], g["reference"])) for g in gaps if (g["sample"], g["unit"]) == ("bundle", "spots")}
    assert frozenset(("linear", "spot_linear")) in pairs


def test_a_gene_is_told_to_be_high_by_probabilities_and_by_counts(results):
    table = pd.read_csv(results / "comparison/strict.csv").query("sample == 'visium'").set_index("system")
    assert table.loc["spot_mean", "auc_high"] == pytest.approx(0.5, abs=0.05)  # a constant a fold, not one
    for system in ("spot_high", "spot_linear"):
        assert table.loc[system, "auc_high"] > 0.55
        assert table.loc[system, "auc_high_low"] < table.loc[system, "auc_high"] < table.loc[system, "auc_high_high"]
    predicted = ad.read_h5ad(results / "predictions/spot_high/strict/visium.spots.h5ad")
    assert predicted.uns["unit"].startswith("probability")


def test_a_backbone_predicts_spots_with_uncertainty_and_its_colours_are_shown(results):
    found = ad.read_h5ad(results / "predictions/patches/strict/visium.spots.h5ad")
    assert (found.var["aleatoric"] > 0).all()
    assert (found.var["epistemic"] > 0).all()
    assert found.uns["encoder"] == ""
    held_out = evaluation(results, "patches", "visium")
    assert held_out["common"]["pearson"] > evaluation(results, "spot_mean", "visium")["common"]["pearson"]
    folder = results / "models/patches/strict/all"
    assert json.loads((folder / "model.json").read_text())["parameters"]["networks trained"] == 0
    with Image.open(folder / "stains.png") as picture:
        rows = np.array_split(np.asarray(picture.convert("RGB"), float)[60:], 6)  # two samples, three stages each
    assert min(row.std() for row in rows) > 5
    before, _, after = rows[:3]
    assert np.abs(before[: len(after)] - after[: len(before)]).max() > 20
    assert "before and after" in (results / "report.html").read_text()


def test_the_figure_of_stimage_shows_what_the_system_says(results):
    assert (results / "figures/figure_stimage.png").stat().st_size > 20_000
    folder = results / "figures/source_data/figure_stimage"
    assert {path.stem for path in folder.glob("*.csv")} == set("ABCDEFGHIJ")
    predicted = ad.read_h5ad(results / "predictions/patches/strict/bundle.spots.h5ad")
    shown = pd.read_csv(folder / "A.csv")["value"].to_numpy()
    assert any(np.allclose(shown, predicted.X[:, g], rtol=2e-2) for g in range(predicted.n_vars))
    assert pd.read_csv(folder / "C.csv")["value"].min() >= 0
    together = pd.read_csv(folder / "G.csv").set_index(["members", "first"])["median_r"]
    assert set(together.index) == {(1, 0), (1, 1), (2, 0)}
    boxes = pd.read_csv(folder / "H.csv").set_index(["sample", "system"])
    scored = evaluation(results, "spot_linear", "visium")["pearson"]["median"]
    assert boxes.loc[("visium", "spot_linear"), "q0.5"] == pytest.approx(scored, abs=1e-4)
    assert "figure_stimage" in (results / "report.html").read_text()


def test_the_report_says_how_many_spots_there_are_and_why(results):
    page = (results / "report.html").read_text()
    assert "Spot filter" in page
    assert "all spots" in page
    assert pd.read_csv(results / "tables/table_1.csv").set_index("sample").loc["visium", "kept_spots"] > 20
    assert (results / "samples/visium/registration.png").stat().st_size > 10_000


def test_the_viewer_has_a_page_of_the_cells_and_one_of_the_spots(results):
    for sample, units in (("bundle", ["cells", "spots"]), ("visium", ["spots"])):
        shown = json.loads((results / f"viewer/{sample}/viewer.json").read_text())
        tables = [pd.read_parquet(results / f"samples/{sample}/{unit}.parquet") for unit in units]
        assert [(p["unit"], p["page"], p["number"], p["kept"]) for p in shown["pages"]] == [
            (unit, page, len(table), int(table["kept"].sum()))
            for unit, page, table in zip(units, ("index.html", "spots.html"), tables, strict=False)
        ]
        for page in shown["pages"]:
            assert (results / f"viewer/{sample}/{page['page']}").is_file()
    assert json.loads((results / "viewer/bundle/viewer.json").read_text())["systems"] == [
        "linear",
        "spot_linear",
        "spot_high",
        "patches",
    ]
    links = (results / "report.html").read_text()
    assert 'href="viewer/bundle/spots.html"' in links
    assert 'href="viewer/visium/index.html"' in links


def test_nothing_is_done_twice(run, snake):
    assert "Nothing to be done" in snake(run, "--dry-run", config=run / "spots.yaml").stdout


HER2ST = Path("data/her2st")


@pytest.mark.slow
def test_a_real_legacy_section(snake, root, tmp_path):
    """C2 of HER2ST: 187 spots and 15,706 genes; the score is that of neighbouring tissue of one section."""
    data = root.parent / "shared" / HER2ST
    if not data.is_dir():
        pytest.skip("needs HER2ST in shared/data/her2st, which is not there")
    config = yaml.safe_load((root / "config/spots.yaml").read_text())
    lines = (root / "config/spots.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "c2.tsv").write_text(lines[0] + next(line for line in lines if line.startswith("C2")))
    config |= {"samples": "c2.tsv", "split": {"folds": 2, "block_um": 1000}}
    del config["systems"]["high_low"]  # minutes for 15,706 genes
    config["systems"]["stimage"]["settings"] = {"members": 1, "epochs": 3}
    config["predict"] = {"genes": ["GNAS", "FASN", "ATP1A1", "CD74", "B2M", "SPARC"]}
    (tmp_path / "c2.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    snake(tmp_path, config=tmp_path / "c2.yaml", HER2ST=str(data))
    results = tmp_path / config["results"]
    table = pd.read_parquet(results / "samples/C2/spots.parquet")
    assert len(table) == 187
    registration = json.loads((results / "samples/C2/registration.json").read_text())
    assert registration["mpp_x"] == pytest.approx(0.69, abs=0.005)
    assert registration["share_on_tissue"] > 0.9
    found = evaluation(results, "linear", "C2")
    assert found["n"] == table["kept"].sum() > 100
    assert found["genes"]["scored"] == 6
    assert found["pearson"]["median"] > evaluation(results, "mean", "C2")["pearson"]["median"]
    assert (results / "report.html").is_file()
