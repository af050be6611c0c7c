"""The whole workflow on a tiny simulated input: every contract, nothing done twice, nothing stale."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

ENCODER = "morphometrics"
SYSTEMS, SYSTEM, FOLDS = ("shest", "linear"), "shest", {"strict": ("0", "1", "all"), "paper": ("0",)}
R = "results/tiny"


@pytest.fixture(scope="module")
def results(tiny):
    return tiny / R


@pytest.fixture(scope="module")
def samples(results):
    return sorted(p.parent.name for p in results.glob("samples/*/ingest.json"))


def planned(output: str) -> dict[str, int]:
    """Read the table of jobs that a dry run prints."""
    lines = output[output.index("job ") :].splitlines()[2:]
    rows = [line.split() for line in lines[: lines.index("") if "" in lines else None]]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2}


def test_every_file_of_the_contract_is_there(results, samples):
    assert len(samples) >= 2
    for sample in samples:
        for name in (
            "ingest.json",
            "annotation.parquet",
            "registration.json",
            "registration.png",
            "cells.parquet",
            "tiles/tiles.json",
            "tiles/tiles.png",
        ):
            assert (results / "samples" / sample / name).is_file(), name
        assert (results / f"embeddings/{ENCODER}/{sample}/embeddings.json").is_file()
        assert (results / f"viewer/{sample}/index.html").is_file()
        for protocol in ("strict", "paper"):
            assert (results / f"predictions/{SYSTEM}/{protocol}/{sample}.cells.h5ad").is_file()
            assert (results / f"evaluation/{SYSTEM}/{protocol}/{sample}.cells.json").is_file()
    for protocol in ("strict", "paper"):
        assert (results / f"comparison/{protocol}.csv").is_file()
        for system in SYSTEMS:
            for fold in FOLDS[protocol]:
                for name in ("model.safetensors", "model.json", "training.csv"):
                    assert (results / f"models/{system}/{protocol}/{fold}/{name}").is_file(), (system, fold, name)
            assert (results / f"models/{system}/{protocol}/{fold}/card.md").is_file()
    assert (results / "report.html").stat().st_size < 30e6


def test_reasons_add_up_to_the_bundles_cells(results, samples):
    for sample in samples:
        total = json.loads((results / "samples" / sample / "ingest.json").read_text())["cells"]
        for name in ("cells", "annotation"):
            frame = pd.read_parquet(results / "samples" / sample / f"{name}.parquet")
            assert len(frame) == frame["cell_id"].nunique() == frame["reason"].value_counts().sum() == total
        cells = pd.read_parquet(results / "samples" / sample / "cells.parquet")
        assert ((cells["reason"] == "kept") == cells["kept"]).all()
        index = json.loads((results / "samples" / sample / "tiles/tiles.json").read_text())
        tiled = [cell for shard in index["shards"] for cell in shard["cells"]]
        assert sorted(tiled) == sorted(cells.loc[cells["kept"], "cell_id"])


def test_labels_need_tacco_and_the_table(results, samples):
    for sample in samples:
        frame = pd.read_parquet(results / "samples" / sample / "annotation.parquet")
        assert (frame["cell_type"].notna() == (frame["reason"] == "labelled")).all()
        if frame["table_type"].notna().any():
            kept = frame[frame["reason"] == "labelled"]
            assert (kept["cell_type"] == kept["table_type"]).all()


def test_genes_are_joined_by_ensembl_id(results, samples):
    model = json.loads((results / f"models/{SYSTEM}/strict/all/model.json").read_text())
    assert len(model["gene_ids"]) == len(model["genes"])
    of_model = dict(zip(model["genes"], model["gene_ids"], strict=True))
    for sample in samples:
        panel = json.loads((results / "samples" / sample / "ingest.json").read_text())["genes"]
        joined = json.loads((results / "samples" / sample / "annotation.json").read_text())["genes"]
        assert joined == {"panel": panel, "by_id": panel, "by_symbol": 0, "not_joined": 0}
        genes = pd.read_csv(results / f"evaluation/{SYSTEM}/strict/{sample}.cells.genes.csv")
        assert (genes["id"] == genes["gene"].map(of_model)).all()
        assert genes["id"].str.startswith("ENSG").all()


def test_no_training_window_meets_a_test_window_in_the_strict_split(results):
    split = pd.concat(pd.read_parquet(results / f"splits/strict/{f}.parquet").assign(fold=f) for f in FOLDS["strict"])
    for (sample, fold), rows in split.groupby(["sample", "fold"]):
        cells = pd.read_parquet(results / "samples" / sample / "cells.parquet").set_index("cell_id").loc[rows["id"]]
        index = json.loads((results / "samples" / sample / "tiles/tiles.json").read_text())
        height, width = index["window"]
        xy, part = cells[["x", "y"]].to_numpy(), rows["part"].to_numpy()
        for one, other in (("train", "test"), ("train", "val"), ("val", "test")):
            apart = np.abs(xy[part == one][:, None] - xy[part == other][None])
            assert not ((apart[..., 0] < width) & (apart[..., 1] < height)).any(), (one, other)
        assert {"train", "val"} | ({"test"} if fold != "all" else set()) <= set(part)


def test_every_labelled_cell_is_held_out_once_and_predicted_by_that_fold(results):
    splits = {f: pd.read_parquet(results / f"splits/strict/{f}.parquet") for f in FOLDS["strict"]}
    held_out = pd.concat(table[table["part"] == "test"].assign(fold=f) for f, table in splits.items())
    assert held_out["id"].is_unique
    assert set(held_out["id"]) == set(splits["all"]["id"])
    found = ad.read_h5ad(results / f"predictions/{SYSTEM}/strict/sim_train.cells.h5ad").obs
    assert (found["fold"].astype(str).reindex(held_out["id"]).to_numpy() == held_out["fold"].to_numpy()).all()
    lung = ad.read_h5ad(results / f"predictions/{SYSTEM}/strict/sim_lung.cells.h5ad").obs
    assert set(lung["fold"]) == {"all"}


def test_the_paper_split_takes_a_fifth_at_random(results):
    split = pd.read_parquet(results / "splits/paper/0.parquet")
    for _, rows in split.groupby("sample"):
        assert abs((rows["part"] == "test").mean() - 0.2) < 0.01
        assert "gap" not in set(rows["part"])


def test_predictions_hold_every_kept_cell(results, samples):
    for sample in samples:
        cells = pd.read_parquet(results / "samples" / sample / "cells.parquet")
        found = ad.read_h5ad(results / f"predictions/{SYSTEM}/strict/{sample}.cells.h5ad")
        assert sorted(found.obs_names) == sorted(cells.loc[cells["kept"], "cell_id"])
        assert found.X.dtype == np.float32
        assert (found.X >= 0).all()
        columns = {"cell_type", "probability", "entropy", "disagreement", "aleatoric", "epistemic", "part"}
        assert columns <= set(found.obs)
        assert {"aleatoric", "epistemic"} <= set(found.var)
        assert np.allclose(found.obsm["probabilities"].sum(axis=1), 1, atol=1e-4)
        assert "expected counts" in found.uns["unit"]
        assert found.uns["fingerprint"]


def test_counts_are_drawn_where_a_distribution_is_predicted(results, samples):
    for sample in samples:
        found = ad.read_h5ad(results / f"predictions/{SYSTEM}/strict/{sample}.cells.h5ad")
        drawn = found.layers["drawn"].toarray().astype(float)
        assert drawn.mean() == pytest.approx(found.X.mean(), rel=0.1)
        assert np.corrcoef(drawn.mean(axis=0), found.X.mean(axis=0))[0, 1] > 0.95
        assert not ad.read_h5ad(results / f"predictions/linear/strict/{sample}.cells.h5ad").layers
        scores, beside = (
            json.loads((results / f"evaluation/{s}/strict/{sample}.cells.json").read_text())["moran"] for s in SYSTEMS
        )
        assert scores["median_drawn"] < scores["median_predicted"] - 0.1, "expectations are smoother than counts"
        assert abs(scores["median_drawn"] - scores["median_actual"]) < 0.1
        assert beside["drawn"] is False
        assert beside["median_drawn"] is None


def test_no_system_is_better_than_the_truth_that_was_simulated(results, samples):
    for sample in samples:
        genes = pd.read_csv(results / f"evaluation/{SYSTEM}/strict/{sample}.cells.genes.csv")
        scored = pd.read_parquet(results / f"evaluation/{SYSTEM}/strict/{sample}.cells.scored.parquet")
        truth = ad.read_h5ad(results / f"simulated/{sample}/truth/truth.h5ad")[scored["cell_id"]]
        counts = ad.read_zarr(results / f"samples/{sample}/sdata.zarr/tables/table")
        row = pd.Index(counts.obs["cell_id"]).get_indexer(scored["cell_id"])
        best = genes.loc[genes["ceiling"].idxmax()]
        actual = counts[row, best["gene"]].X.toarray().ravel()
        expected = ((1 - truth[:, best["gene"]].layers["pi"]) * truth[:, best["gene"]].X).ravel()
        assert best["ceiling"] == pytest.approx(np.corrcoef(actual, expected)[0, 1], abs=1e-4)
        for system in SYSTEMS:
            found = json.loads((results / f"evaluation/{system}/strict/{sample}.cells.json").read_text())["pearson"]
            assert found["median"] < found["ceiling"]
            assert found["within_type"] < found["ceiling_within_type"]


def test_scores_are_of_the_cells_they_say(results, samples):
    for protocol in ("strict", "paper"):
        split = pd.read_parquet(results / f"splits/{protocol}/0.parquet").set_index(["sample", "id"])
        for sample in samples:
            scores = json.loads((results / f"evaluation/{SYSTEM}/{protocol}/{sample}.cells.json").read_text())
            labels = (
                pd.read_parquet(results / "samples" / sample / "annotation.parquet")
                .set_index("cell_id")["cell_type"]
                .dropna()
            )
            kept = pd.read_parquet(results / "samples" / sample / "cells.parquet").query("kept")["cell_id"]
            expected = set(labels.index) & set(kept)
            if sample in split.index.get_level_values(0):
                part = split.loc[sample]["part"]
                if protocol == "paper":
                    expected &= set(part.index[part == "test"])
                    refined = pd.read_parquet(results / f"refinement/{ENCODER}/paper/{sample}.parquet")
                    assert scores["unrefined"]["n"] == len(expected)
                    expected &= set(refined.loc[refined["kept"].fillna(False).astype(bool), "cell_id"])
            assert scores["n"] == len(expected)
            assert np.sum(scores["confusion"]["counts"]) == len(expected)


def test_every_system_is_fitted_predicts_and_is_scored_on_the_same_cells(results, samples):
    for protocol in ("strict", "paper"):
        for sample in samples:
            scores = [
                json.loads((results / f"evaluation/{s}/{protocol}/{sample}.cells.json").read_text()) for s in SYSTEMS
            ]
            assert len({s["n"] for s in scores}) == 1
            assert [s["system"] for s in scores] == list(SYSTEMS)


def test_heads_learn_the_simulated_types(results, samples):
    validation = [s for s in samples if not s.endswith("train")]
    for sample in validation:
        scores = json.loads((results / f"evaluation/{SYSTEM}/strict/{sample}.cells.json").read_text())
        assert scores["f1"]["weighted"] > 0.6  # guessing by frequency scores about 0.25


def test_a_second_run_has_nothing_to_do(snake, tiny):
    assert "Nothing to be done" in snake(tiny, "--dry-run").stdout


def test_a_changed_palette_draws_and_computes_nothing(snake, tiny, changed):
    jobs = planned(snake(tiny, "--dry-run", config=changed(figures={"palette": "colourblind"})).stdout)
    assert {"figure", "refinement_picture"} <= set(jobs)
    assert not {"ingest", "cells", "tiles", "embed_part", "embed", "split", "refine", "fit", "predict"} & set(jobs)


def test_a_changed_head_trains_and_encodes_nothing(snake, tiny, changed):
    jobs = planned(snake(tiny, "--dry-run", config=changed(train={"members": 3})).stdout)
    assert jobs["fit"] == 4, "shest, in every fold of both protocols; linear does not know of members"
    assert not {"ingest", "cells", "tiles", "encoder", "embed_part", "embed", "split", "refine"} & set(jobs)


def test_a_lost_embedding_is_made_again_without_touching_the_others(snake, copy_of_tiny, samples):
    sample = samples[0]
    index = copy_of_tiny / R / f"embeddings/{ENCODER}/{sample}/embeddings.json"
    before = {p: p.stat().st_mtime_ns for p in (copy_of_tiny / "results/cache").rglob("*.npy")}
    lost = copy_of_tiny / "results/cache" / json.loads(index.read_text())["shards"][0]["parts"][0]["file"]
    content = lost.read_bytes()
    lost.unlink()
    index.unlink()
    for part in index.parent.glob("parts/*.json"):
        part.unlink()
    snake(copy_of_tiny, "--notemp", f"{R}/embeddings/{ENCODER}/{sample}/embeddings.json")
    assert lost.read_bytes() == content
    assert {p: p.stat().st_mtime_ns for p in before if p != lost} == {p: t for p, t in before.items() if p != lost}


def test_the_same_input_gives_the_same_bytes(snake, copy_of_tiny, tiny):
    targets = [f"{R}/models/{SYSTEM}/strict/0/model.safetensors", f"{R}/splits/strict/0.parquet"]
    snake(copy_of_tiny, "--forcerun", "split", "refine", "fit", "--", *targets)
    for target in targets:
        assert (copy_of_tiny / target).read_bytes() == (tiny / target).read_bytes(), target


def test_the_card_tells_the_scores_of_both_protocols(results, samples):
    text = (results / f"models/{SYSTEM}/strict/all/card.md").read_text()
    for protocol in ("strict", "paper"):
        for sample in samples:
            scores = json.loads((results / f"evaluation/{SYSTEM}/{protocol}/{sample}.cells.json").read_text())
            row = next(line for line in text.splitlines() if line.startswith(f"| {sample} | {protocol} |"))
            assert f"{scores['f1']['weighted']:.3f}" in row


def test_further_views_are_encoded_once_and_scattering_changes_nothing(snake, copy_of_tiny, changed):
    vit = {"name": "vit", "architecture": "vit_tiny_patch16_224", "weights": "random", "features": 192}
    model = f"{R}/models/shest/strict/0/model.safetensors"
    index = copy_of_tiny / R / "embeddings/vit/sim_train/embeddings.json"
    cache = copy_of_tiny / "results/cache"

    def held():
        return {str(p.relative_to(cache)): p.read_bytes() for p in cache.rglob("*.v*.npy")}

    def run(target, *arguments, views, shards=1):
        train = {"views": views, "epochs": 2, "members": 1}
        config = changed(encoders=[vit], protocols=["strict"], train=train, embed={"shards": shards})
        snake(copy_of_tiny, *arguments, "--", target, config=config)
        return held()

    before = set(held())
    once = {name: data for name, data in run(model, views="sampled").items() if name not in before}
    assert any(".v0.npy" in name for name in once)
    assert any(f".v{view}." in name for name in once for view in range(1, 8)), "no further view was encoded"
    more = run(model, views=8)
    assert all(more[name] == data for name, data in once.items())
    all_views = json.loads((copy_of_tiny / R / "models/shest/strict/0/views/sim_train.json").read_text())
    assert {part["view"] for shard in all_views["shards"] for part in shard["parts"]} == set(range(1, 8))
    whole = json.loads(index.read_text())
    whole_shards = [part["file"] for shard in whole["shards"] for part in shard["parts"]]
    assert set(whole_shards) <= set(once)
    for name in whole_shards:
        (cache / name).unlink()
    target = str(index.relative_to(copy_of_tiny))
    again = run(target, "--forcerun", "embed_part", views=8, shards=2)
    assert all(again[name] == once[name] for name in whole_shards)
    assert json.loads(index.read_text()) == whole


def test_what_was_planted_comes_back_to_the_cell(results, samples):
    for sample in samples:
        folder = results / "simulated" / sample / "truth"
        truth = pd.read_parquet(folder / "truth.parquet").set_index("cell_id")
        planted = json.loads((folder / "truth.json").read_text())
        found = json.loads((results / "samples" / sample / "registration.json").read_text())
        assert np.allclose(found["he_to_um"], planted["he_to_um"], atol=1e-6)
        assert (found["mpp_x"], found["mpp_y"]) == pytest.approx(planted["mpp"], abs=1e-7)
        cells = pd.read_parquet(results / "samples" / sample / "cells.parquet").set_index("cell_id")
        assert (cells["reason"] == truth["reason"].reindex(cells.index)).all()
        there = cells["reason"] != "no_nucleus"
        for column in ("x", "y", "width_um", "height_um"):
            assert np.allclose(cells.loc[there, column], truth[column].reindex(cells.index[there]), atol=1e-3), column
        labels = pd.read_parquet(results / "samples" / sample / "annotation.parquet").set_index("cell_id")
        empty = truth.index[truth["defect"] == "no_counts"]
        assert set(labels.index[labels["reason"] == "no_counts"]) == set(empty)
        typed = labels["tacco_type"].dropna()
        assert (typed == truth["cell_type"].reindex(typed.index)).mean() > 0.95
