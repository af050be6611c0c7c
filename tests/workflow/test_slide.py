"""Plain slides and other systems' labels in a whole run: next to the bundles, nothing of these is done again."""

import json
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import shapely
import yaml
from support import slides

from shest.io import slide, store
from shest.tissue import cells

R, ENCODER = "results/tiny", "morphometrics"
TYPES = ["Alveolar_cell", "Tumor_cell_LUAD", "Macrophage", "Endothelial_cell", "Fibroblast", "Lymphocyte"]
HOVERNET = {0: None, **dict(enumerate(TYPES, start=1))}


def real_slide(kit):
    return kit.parent / "CMU-1-Small-Region.svs"


def outlines_of_bundle(run, sample):
    """Nuclei of a bundle's cells on its H&E, as the registration puts them: cell ids and rings, px."""
    place = json.loads((run / R / "samples" / sample / "registration.json").read_text())
    ids, outlines = store.read_nuclei(run / R / "samples" / sample / "sdata.zarr")
    ids, polygons = cells.nucleus_of_each_cell(ids, store.transform_outlines(outlines, np.array(place["um_to_he"])))
    return ids, [shapely.get_coordinates(polygon.exterior) for polygon in polygons]


def write_hovernet(run, sample, path):
    """Give kept cells the true type, every seventh the next type and every fifth no nucleus; return what is known."""
    truth = pd.read_parquet(run / R / "simulated" / sample / "truth/truth.parquet").set_index("cell_id")["cell_type"]
    kept = pd.read_parquet(run / R / "samples" / sample / "cells.parquet").query("kept").set_index("cell_id")
    actual = truth.reindex(kept.index)
    code = actual.map({name: number for number, name in HOVERNET.items() if name}).fillna(0).astype(int)
    code[::7] = code[::7] % 6 + 1
    found = kept.assign(code=code)[np.arange(len(kept)) % 5 > 0]
    nuclei = {
        str(i): {"centroid": [row.x + 2, row.y - 2], "type": int(row.code)}
        for i, row in enumerate(found.sample(frac=1, random_state=0).itertuples())
    }
    path.write_text(json.dumps({"mag": 40, "nuc": nuclei}))
    return found["code"].map(HOVERNET)


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory, root, snake, kit):
    """A copy of the tiny run to which slides and a comparator came, run again; folder, config and known labels."""
    folder = tmp_path_factory.mktemp("slides") / "run"
    shutil.copytree(tiny, folder, symlinks=True)
    ids, rings = outlines_of_bundle(folder, "sim_lung")
    image = next((folder / R / "simulated/sim_lung").glob("*he_image.ome.tif"))
    data = folder / "data"
    data.mkdir()
    shutil.copy(image, data / "plain.ome.tif")
    made = [slides.feature(ring, "cell") | {"id": cell} for cell, ring in zip(ids, rings, strict=True)]
    slides.write(data / "plain.geojson", slides.collection(made))
    rows = ["plain\tpredict\tslide\t{data}/plain.ome.tif\t\t{data}/plain.geojson"]
    if real_slide(kit).is_file():
        mpp, pixels = slide.read_mpp(real_slide(kit), None), slide.read_image(real_slide(kit))
        part = np.moveaxis(pixels[:, 1000:1600, 600:1200].compute(), 0, -1)
        found = [ring + np.array([600, 1000]) for ring in slides.find_nuclei(part, mpp[0])]
        slides.write(data / "real.geojson", slides.collection([slides.feature(ring) for ring in found]))
        rows.append(f"real\tpredict\tslide\t{real_slide(kit)}\t\t{{data}}/real.geojson")
    known = write_hovernet(folder, "sim_lung", data / "hovernet.json")
    config = yaml.safe_load((root / "config/tiny.yaml").read_text())
    header, *old = (root / "config" / config["samples"]).read_text().splitlines()
    columns = ["sample", "role", "platform", "path", "annotation", "nuclei"]
    given = pd.DataFrame([line.split("\t") for line in old], columns=header.split("\t")).assign(platform="xenium")
    added = pd.DataFrame([row.format(data=data).split("\t") for row in rows], columns=columns)
    pd.concat([given, added])[columns].to_csv(data / "samples.tsv", sep="\t", index=False)
    config["samples"] = str(data / "samples.tsv")
    config.setdefault("evaluate", {})["comparators"] = {
        "HoVer-Net": {"format": "hovernet", "files": {"sim_lung": str(data / "hovernet.json")}, "types": HOVERNET}
    }
    path = data / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    done = snake(folder, config=path)
    return folder, path, known, done.stdout


def predictions(folder, sample, protocol="strict"):
    return ad.read_h5ad(folder / R / f"predictions/shest/{protocol}/{sample}.cells.h5ad")


def test_slides_come_in_without_anything_of_the_bundles_being_done_again(run, tiny):
    folder, _, _, output = run
    for name in (
        "models/shest/strict/all/model.safetensors",
        f"embeddings/{ENCODER}/sim_lung/embeddings.json",
        "samples/sim_lung/ingest.json",
        "samples/sim_lung/cells.parquet",
    ):
        assert (folder / R / name).stat().st_mtime_ns == (tiny / R / name).stat().st_mtime_ns, name
    assert "Reading the slide plain" in output
    assert "Fitting" not in output


@pytest.mark.parametrize("protocol", ["strict", "paper"])
def test_a_bundles_cells_are_predicted_alike_from_the_plain_slide(run, protocol):
    folder = run[0]
    bundle, plain = (predictions(folder, sample, protocol) for sample in ("sim_lung", "plain"))
    assert len(bundle) > 150
    assert list(plain.obs_names) == list(bundle.obs_names)
    assert (plain.obs["cell_type"].astype(str) == bundle.obs["cell_type"].astype(str)).all()
    assert np.array_equal(plain.X, bundle.X)
    for name in ("probability", "entropy", "disagreement", "aleatoric", "epistemic"):
        assert np.array_equal(plain.obs[name], bundle.obs[name]), name
    assert np.allclose(plain.obsm["pixel"], bundle.obsm["pixel"], atol=1e-9)
    assert np.allclose(plain.obsm["spatial"], plain.obsm["pixel"] * 0.2512)
    assert set(plain.obs["part"]) == {"predict"}


def test_a_slides_files_keep_the_contracts_of_a_bundles(run):
    folder = run[0] / R
    folders = [folder / "samples" / sample for sample in ("plain", "sim_lung")]
    place, other = (json.loads((sample / "registration.json").read_text()) for sample in folders)
    assert set(place) == set(other)
    assert place["he_to_um"] == [[0.2512, 0, 0], [0, 0.2512, 0], [0, 0, 1]]
    assert place["share_on_tissue"] == pytest.approx(other["share_on_tissue"], abs=0.05)
    tables = [pd.read_parquet(sample / "cells.parquet") for sample in folders]
    assert list(tables[0].dtypes) == list(tables[1].dtypes)
    both = tables[0].merge(tables[1], on="cell_id")
    assert len(both) == len(tables[0]) == (tables[1]["reason"] != "no_nucleus").sum()
    assert (both["reason_x"] == both["reason_y"]).all()
    for name in ("registration.png", "tiles/tiles.png", "tiles/tiles.json"):
        assert (folder / "samples/plain" / name).is_file(), name
    assert not (folder / "samples/plain/annotation.parquet").exists()
    page = (folder / "report.html").read_text()
    assert 'href="predictions/shest/strict/plain.cells.geojson"' in page
    assert "samples/plain/registration: nuclei on the H&amp;E" in page


def test_the_real_slide_keeps_its_field_of_sixteen_micrometres(run, kit):
    if not real_slide(kit).is_file():
        pytest.skip("needs CMU-1-Small-Region.svs beside the folder of SHEST_KIT, and it is not there")
    folder = run[0]
    index = json.loads((folder / R / "samples/real/tiles/tiles.json").read_text())
    assert (index["window"], index["window_um"], index["mpp"]) == ([32, 32], 16, [0.499, 0.499])
    outlines = json.loads((folder / R / "samples/real/ingest.json").read_text())["nuclei"]
    found = predictions(folder, "real")
    assert 50 < 0.6 * outlines < len(found) <= outlines
    assert np.isfinite(found.X).all()
    assert np.allclose(found.obsm["spatial"], found.obsm["pixel"] * 0.499)


def test_other_systems_labels_are_scored_with_what_was_planted(run):
    folder, _, known, _ = run
    found = json.loads((folder / R / "evaluation/shest/strict/sim_lung.cells.json").read_text())
    scored = (
        pd.read_parquet(folder / R / "samples/sim_lung/annotation.parquet").set_index("cell_id")["cell_type"].dropna()
    )
    kept = pd.read_parquet(folder / R / "samples/sim_lung/cells.parquet").query("kept")["cell_id"]
    scored = scored[scored.index.isin(kept)]
    said = known.reindex(scored.index).dropna()
    expected = pd.crosstab(scored[said.index], said).reindex(index=TYPES, columns=TYPES, fill_value=0)
    one = found["comparators"]["HoVer-Net"]
    assert one["n_objects"] == len(known)
    assert one["n_matched"] == len(said) > 100
    assert one["share_matched"] == pytest.approx(len(said) / found["n"])
    assert one["confusion"] == {"types": TYPES, "counts": expected.to_numpy().tolist()}
    assert 0.7 < one["f1"]["weighted"] < 0.95
    assert np.sum(one["system"]["confusion"]["counts"]) == len(said)
    train = json.loads((folder / R / "evaluation/shest/strict/sim_train.cells.json").read_text())
    assert train["comparators"] == {}


def test_a_second_run_has_nothing_to_do_and_a_changed_file_of_the_system_scores_its_sample_again(run, snake):
    folder, path, _, _ = run
    assert "Nothing to be done" in snake(folder, "--dry-run", config=path).stdout
    file = folder / "data/hovernet.json"
    file.write_text(file.read_text() + " ")
    target = [f"{R}/evaluation/shest/strict/{sample}.cells.json" for sample in ("sim_lung", "sim_train")]
    output = snake(folder, "--", *target, config=path).stdout
    assert "Checking what other programs say of sim_lung" in output
    assert "Scoring sim_lung" in output
    assert "Scoring sim_train" not in output
    assert "Predicting" not in output


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda data: slides.write(
                data / "plain.geojson",
                slides.collection([slides.feature(slides.circle(x, 30, 4)) for x in range(10, 100, 10)]),
            ),
            "they are in µm",
        ),
        (lambda data: (data / "plain.geojson").unlink(), "nuclei of the sheet is not there"),
        (
            lambda data: slides.write(data / "hovernet.json", '{"nuc": {"1": {"centroid": [9, 9], "type": 9}}}'),
            "has the class '9', which evaluate.comparators.HoVer-Net.types does not map",
        ),
    ],
    ids=["micrometres", "missing", "class"],
)
def test_what_cannot_be_used_is_said_before_anything_is_computed(run, snake, tmp_path, spoil, said):
    folder, path, _, _ = run
    copy = tmp_path / "run"
    shutil.copytree(folder / "data", copy / "data")
    for file in ("config.yaml", "samples.tsv"):
        text = (copy / "data" / file).read_text().replace(str(folder), str(copy))
        (copy / "data" / file).write_text(text)
    shutil.copytree(folder / R / "simulated", copy / R / "simulated")
    spoil(copy / "data")
    done = snake(copy, "--rerun-triggers", "mtime", config=copy / "data" / path.name, check=False)
    assert done.returncode != 0
    assert said in done.stdout
    assert "Traceback" not in done.stdout
    assert not (copy / R / "samples/plain/ingest.json").exists()
    assert not list((copy / R).glob("models/*"))
