"""Nuclei found in the H&E in a whole run: a slide without outlines, and a bundle whose own are not taken."""

import json
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml

from shest.io.outlines import read_outlines

R = "results/tiny"


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory, root, snake, kit):
    """A copy of the tiny run to which slides without outlines came, predicted; folder and config."""
    folder = tmp_path_factory.mktemp("segment") / "run"
    shutil.copytree(tiny, folder, symlinks=True)
    data = folder / "data"
    data.mkdir()
    image = next((folder / R / "simulated/sim_lung").glob("*he_image.ome.tif"))
    shutil.copy(image, data / "plain.ome.tif")
    samples = ["plain\tpredict\tslide\t" + str(data / "plain.ome.tif")]
    real = kit.parent / "CMU-1-Small-Region.svs"
    if real.is_file():
        samples.append(f"real\tpredict\tslide\t{real}")
    config = yaml.safe_load((root / "config/tiny.yaml").read_text())
    header, *old = (root / "config" / config["samples"]).read_text().splitlines()
    columns = ["sample", "role", "platform", "path", "annotation"]
    given = pd.DataFrame([line.split("\t") for line in old], columns=header.split("\t")).assign(platform="xenium")
    added = pd.DataFrame([row.split("\t") for row in samples], columns=columns[:4])
    pd.concat([given, added])[columns].to_csv(data / "samples.tsv", sep="\t", index=False)
    config["samples"] = str(data / "samples.tsv")
    path = data / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    names = [row.split("\t")[0] for row in samples]
    targets = [f"{R}/predictions/linear/strict/{name}.cells.geojson" for name in names]
    snake(folder, "--", *targets, *(f"{R}/samples/{name}/tiles/tiles.png" for name in names), config=path)
    return folder, path, names


def facts(folder, sample):
    return json.loads((folder / R / "samples" / sample / "segment.json").read_text())


def test_a_bundles_own_outlines_are_all_written_and_the_kept_ones_go_on(run):
    folder, _, _ = run
    assert facts(folder, "sim_lung")["method"] == "bundle"
    ids, _, _ = read_outlines(folder / R / "samples/sim_lung/outlines.parquet")
    table = pd.read_parquet(folder / R / "samples/sim_lung/cells.parquet").set_index("cell_id")
    assert set(ids) == set(table.index[table["reason"] != "no_nucleus"])
    index = json.loads((folder / R / "samples/sim_lung/tiles/tiles.json").read_text())
    tiles = {cell for shard in index["shards"] for cell in shard["cells"]}
    assert tiles == set(table.index[table["kept"]])


def test_slides_without_outlines_are_predicted(run):
    folder, _, names = run
    for name in names:
        said = facts(folder, name)
        assert (said["method"], said["stain"]["source"]) == ("classical", "macenko")
        assert said["nuclei"] == said["found"] > 100
        table = pd.read_parquet(folder / R / "samples" / name / "cells.parquet")
        assert len(table) == said["nuclei"]
        predicted = ad.read_h5ad(folder / R / f"predictions/linear/strict/{name}.cells.h5ad")
        assert list(predicted.obs_names) == list(table.loc[table["kept"], "cell_id"])
        assert len(predicted) > 0.7 * said["nuclei"]
        assert np.isfinite(predicted.X).all()
        shapes = json.loads((folder / R / f"predictions/linear/strict/{name}.cells.geojson").read_text())
        assert len(shapes["features"]) == len(predicted)
        assert (folder / R / "samples" / name / "segment.png").stat().st_size > 50_000
        assert not (folder / R / "samples" / name / "segment.blocks").exists()


def test_a_real_slide_has_as_many_nuclei_as_tissue_has(run):
    folder, _, names = run
    if "real" not in names:
        pytest.skip("needs CMU-1-Small-Region.svs beside the folder of SHEST_KIT, and it is not there")
    said = facts(folder, "real")
    assert 1500 < said["nuclei"] / said["area_mm2"]["tissue"] < 9000
    assert said["mpp"] == [0.499, 0.499]


def test_a_bundle_can_be_segmented_otherwise_and_its_cells_keep_their_counts(run, snake):
    folder, path, _ = run
    config = yaml.safe_load(path.read_text())
    other = path.with_name("classical.yaml")
    other.write_text(yaml.safe_dump(config | {"segment": {"method": "classical"}}, sort_keys=False))
    before = pd.read_parquet(folder / R / "samples/sim_lung/cells.parquet").set_index("cell_id")
    snake(folder, "--", f"{R}/samples/sim_lung/cells.parquet", config=other)
    said, after = facts(folder, "sim_lung"), pd.read_parquet(folder / R / "samples/sim_lung/cells.parquet")
    after = after.set_index("cell_id")
    assert list(after.index) == list(before.index)
    agreement = said["agreement_with_dapi_nuclei"]
    assert agreement["detection"]["3"]["recall"] > 0.6
    assert 0.3 < agreement["dice"] <= 1
    cells = said["cells"]
    owned = (before["reason"] != "no_nucleus").sum()
    assert cells["inside"] + cells["near"] + cells["shared"] + cells["none"] == owned
    assert (after["reason"] != "no_nucleus").sum() == cells["inside"] + cells["near"] == said["nuclei"]
    both = after.dropna(subset="x").join(before, rsuffix="_before").dropna(subset="x_before")
    away = np.hypot(both["x"] - both["x_before"], both["y"] - both["y_before"]) * 0.2512
    assert np.median(away) < 1.5


def test_methods_that_a_sample_cannot_have_are_refused(run, snake):
    folder, path, _ = run
    config = yaml.safe_load(path.read_text())
    other = path.with_name("refused.yaml")
    for settings, said in (
        ({"method": "bundle"}, "bundle, and sample plain is a plain slide"),
        ({"method": "file"}, "file, and sample plain has no outlines of nuclei"),
        ({"method": "torchscript"}, "segment.weights is missing"),
        ({"method": "torchscript", "weights": "nowhere.pt"}, "the network is not there"),
        ({"method": "magic"}, "'magic' is not one of"),
    ):
        other.write_text(yaml.safe_dump(config | {"segment": settings}, sort_keys=False))
        done = snake(folder, "--dry-run", config=other, check=False)
        assert done.returncode != 0, said
        assert said in done.stdout
        assert "Traceback" not in done.stdout
