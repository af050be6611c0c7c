"""An alignment that is wrong is refused before anything is learnt from it; one that is missing is found."""

import json

import numpy as np
import pandas as pd
import pytest

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
    shifted[:2, 2] += 30 / pixel
    target = f"{R}/samples/sim_lung/registration.json"
    done = snake(copy_of_tiny, "--", target, config=write(shifted), check=False)
    assert done.returncode != 0
    assert "the H&E does not show the nuclei where the alignment puts them" in done.stdout
    assert "registration.png.refused.png" in done.stdout
    assert (copy_of_tiny / f"{R}/samples/sim_lung/registration.png.refused.png").is_file()
    assert not (copy_of_tiny / target).exists()
    snake(copy_of_tiny, "--", target, config=write(shifted, register={"insist": True}))
    matched = json.loads((copy_of_tiny / target).read_text())["matched"]
    assert matched["share"] - matched["null"] < 0.2
    assert "by chance" in matched["doubt"]


def test_a_missing_alignment_is_found(snake, copy_of_tiny, changed):
    target = f"{R}/samples/sim_lung/registration.json"
    bundle = copy_of_tiny / R / "simulated/sim_lung"
    given = json.loads((copy_of_tiny / target).read_text())
    assert given["source"] == "given"
    assert given["matched"]["share"] - given["matched"]["null"] > 0.4
    next(bundle.glob("*alignment.csv")).rename(copy_of_tiny / "taken.csv")
    snake(copy_of_tiny, "--rerun-triggers", "params", "--", target, config=changed(register={"method": "estimate"}))
    found = json.loads((copy_of_tiny / target).read_text())
    assert found["source"] == "estimated"
    cells = pd.read_parquet(bundle / "cells.parquet")[["x_centroid", "y_centroid"]].to_numpy(float)
    to_he, to_um = np.array(given["um_to_he"]), np.array(found["he_to_um"])
    pixels = cells @ to_he[:2, :2].T + to_he[:2, 2]
    displaced = np.linalg.norm(pixels @ to_um[:2, :2].T + to_um[:2, 2] - cells, axis=1)
    assert np.median(displaced) < 0.5
    assert np.percentile(displaced, 95) < 2
