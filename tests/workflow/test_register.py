"""An alignment that is wrong is refused before anything is learnt from it; one that is missing is found."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from scipy import ndimage
from support import slides

R = "results/tiny"


@pytest.fixture
def with_alignment(copy_of_tiny, changed, root):
    """Config whose sheet names an alignment of sim_lung, and where to put it; the bundle's own, and its folder."""
    bundle = copy_of_tiny / R / "simulated/sim_lung"
    own = np.loadtxt(next(bundle.glob("*alignment.csv")), delimiter=",")
    rows = pd.read_csv(root / "config/tiny.tsv", sep="\t", dtype=str, keep_default_na=False).to_dict("records")
    path = copy_of_tiny / "other.csv"
    for row in rows:
        row["alignment"] = str(path) if row["sample"] == "sim_lung" else ""
    sheet = copy_of_tiny / "sheet.tsv"
    pd.DataFrame(rows).to_csv(sheet, sep="\t", index=False)

    def write(matrix, **sections):
        np.savetxt(path, matrix, delimiter=",")
        config = changed(**sections)
        config.write_text(config.read_text().replace(str(root / "config/tiny.tsv"), str(sheet)))
        return config

    return write, own, bundle


def test_an_alignment_of_another_place_is_refused_with_a_picture(snake, copy_of_tiny, with_alignment):
    write, own, bundle = with_alignment
    pixel = json.loads((bundle / "experiment.xenium").read_text())["pixel_size"]
    shifted = own.copy()
    shifted[0, 2] += 30 / pixel
    target = f"{R}/samples/sim_lung/registration.json"
    done = snake(copy_of_tiny, "--", target, config=write(shifted), check=False)
    assert done.returncode != 0
    assert "the H&E does not show the nuclei where the alignment puts them" in done.stdout
    assert "µm they would fit; see" in done.stdout
    assert "Reading the bundle" not in done.stdout
    picture = f"{R}/samples/sim_lung/check_alignment.refused.png"
    assert picture in done.stdout
    assert (copy_of_tiny / picture).is_file()
    snake(copy_of_tiny, "--", target, config=write(shifted, register={"insist": True}))
    matched = json.loads((copy_of_tiny / target).read_text())["matched"]
    assert matched["share"] - matched["null"] < 0.2
    assert "by chance" in matched["doubt"]
    assert matched["torn"] > 0
    assert any(block["shift_um"] for block in matched["blocks"])


def test_a_missing_alignment_is_found(snake, copy_of_tiny, changed):
    target = f"{R}/samples/sim_lung/registration.json"
    bundle = copy_of_tiny / R / "simulated/sim_lung"
    given = json.loads((copy_of_tiny / target).read_text())
    assert given["source"] == "given"
    assert given["matched"]["share"] - given["matched"]["null"] > 0.4
    next(bundle.glob("*alignment.csv")).rename(copy_of_tiny / "taken.csv")
    outlines = f"{R}/samples/sim_lung/segment.json"
    config = changed(register={"method": "estimate"}, segment={"method": "classical"})
    snake(copy_of_tiny, "--rerun-triggers", "params", "--", target, outlines, config=config)
    found = json.loads((copy_of_tiny / target).read_text())
    assert found["source"] == "estimated"
    cells = pd.read_parquet(bundle / "cells.parquet")[["x_centroid", "y_centroid"]].to_numpy(float)
    to_he, to_um = np.array(given["um_to_he"]), np.array(found["he_to_um"])
    pixels = cells @ to_he[:2, :2].T + to_he[:2, 2]
    displaced = np.linalg.norm(pixels @ to_um[:2, :2].T + to_um[:2, 2] - cells, axis=1)
    assert np.median(displaced) < 0.5
    assert np.percentile(displaced, 95) < 2
    facts = json.loads((copy_of_tiny / R / "samples/sim_lung/align.json").read_text())
    assert facts["match"]["share"] - facts["match"]["null"] > 2 * (facts["second"]["share"] - facts["second"]["null"])
    segmented = json.loads((copy_of_tiny / outlines).read_text())
    assert {key: segmented[key] for key in ("stain", "mpp", "settings")} == facts["segment"]  # not looked for again
    seen = pd.read_parquet(copy_of_tiny / R / "samples/sim_lung/align.parquet")
    assert segmented["found"] == len(seen)
    assert segmented["agreement_with_dapi_nuclei"]["detection"]["3"]["recall"] > 0.6


def speckled(shape: tuple[int, int, int]) -> np.ndarray:
    """Noise in the colours of tissue, of which nuclei are made: purple blobs on pink."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape[:2]), 8)
    share = np.clip(0.5 + noise / noise.std(), 0, 1)[..., None]
    return ((1 - share) * (225, 160, 200) + share * (90, 60, 140)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["empty", "noise"])
def test_a_slide_that_shows_no_nuclei_is_registered_by_nothing(snake, tiny, tmp_path, root, kind):
    bundle = tmp_path / "sim_lung"
    shutil.copytree(tiny / R / "simulated/sim_lung", bundle, symlinks=True)
    image = next(bundle.glob("*he_image.ome.tif"))
    with tifffile.TiffFile(image) as tiff:
        height, width = tiff.series[0].shape[:2]
    shape = (height, width, 3)
    pixels = np.full(shape, 243, np.uint8) if kind == "empty" else speckled(shape)
    image.unlink()
    slides.ome_tiff(image, pixels, 0.2512)
    next(bundle.glob("*alignment.csv")).unlink()
    sheet = tmp_path / "sheet.tsv"
    other = "other\ttrain\t{results}/simulated/sim_train"
    sheet.write_text(f"sample\trole\tpath\n{other}\nlung\tvalidation\t{bundle}\n")
    config = yaml.safe_load((root / "config/tiny.yaml").read_text())
    path = tmp_path / "config.yaml"
    change = {"samples": str(sheet), "register": {"method": "estimate"}}
    path.write_text(yaml.safe_dump(config | change, sort_keys=False))
    done = snake(tmp_path, "--", f"{R}/samples/lung/he_imagealignment.csv", config=path, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    said = "too few nuclei to register by: 0 in the H&E" if kind == "empty" else "no alignment of it was found: "
    assert said in done.stdout
    picture = tmp_path / R / "samples/lung/align.refused.png"
    assert f"see {R}/samples/lung/align.refused.png. Export the alignment from Xenium Explorer" in done.stdout
    assert picture.stat().st_size > 10_000
    assert not picture.with_name("he_imagealignment.csv").exists()
