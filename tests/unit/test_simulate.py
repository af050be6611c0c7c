"""A simulated bundle against its own truth: files, geometry, defects, bytes."""

import json
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tifffile
from skimage.color import rgb2hed
from skimage.draw import polygon as fill

from shest.simulate import bundle, profiles, slide
from shest.simulate.spec import BUNDLE_FILES, PIXEL_SIZE, Slide

ROOT = Path(__file__).resolve().parents[2]
MARKERS = profiles.read_markers(ROOT / "resources/markers.tsv")
SPEC = Slide("small", cells=330, genes=150, defects=3, rotation=93.0, mirror=True, mpp=0.262, seed=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("simulated") / SPEC.name
    slide.simulate_slide(SPEC, MARKERS, path)
    return path


@pytest.fixture(scope="module")
def truth(folder) -> pd.DataFrame:
    return pd.read_parquet(folder / "truth/truth.parquet")


@pytest.fixture(scope="module")
def picture(folder) -> np.ndarray:
    return tifffile.imread(folder / "small_he_image.ome.tif")


@pytest.fixture(scope="module")
def counts(folder) -> np.ndarray:
    with h5py.File(folder / "cell_feature_matrix.h5") as file:
        matrix = file["matrix"]
        shape = tuple(matrix["shape"][:])
        from scipy.sparse import csc_matrix

        return csc_matrix((matrix["data"][:], matrix["indices"][:], matrix["indptr"][:]), shape).T.toarray()


@pytest.fixture(scope="module")
def outlines_px(folder) -> tuple[np.ndarray, np.ndarray]:
    """Nucleus outlines (m, k, 2) in H&E pixels by way of the files alone, and their cells' ids."""
    table = pq.read_table(folder / "nucleus_boundaries.parquet").to_pandas()
    matrix = np.loadtxt(folder / "small_he_imagealignment.csv", delimiter=",")
    points = table[["vertex_x", "vertex_y"]].to_numpy(float) / PIXEL_SIZE
    points = np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(matrix).T
    k = int((table.label_id == 1).sum())
    return points[:, :2].reshape(-1, k, 2), table.cell_id.to_numpy()[::k]


def test_same_seed_same_bytes_in_another_process_and_folder(folder, tmp_path):
    code = (
        "from shest.simulate import profiles, slide; from shest.simulate.spec import Slide\n"
        f"markers = profiles.read_markers({str(ROOT / 'resources/markers.tsv')!r})\n"
        f"slide.simulate_slide({SPEC!r}, markers, {str(tmp_path / 'again')!r})"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "PYTHONHASHSEED": "77"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    first = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    again = {p.relative_to(tmp_path / "again"): p.read_bytes() for p in (tmp_path / "again").rglob("*") if p.is_file()}
    assert first.keys() == again.keys()
    assert [str(name) for name in first if first[name] != again[name]] == []


def test_no_time_stamp_in_the_zip_and_no_random_uuid(folder):
    with zipfile.ZipFile(folder / "cells.zarr.zip") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    uuids = [tifffile.TiffFile(p).ome_metadata.split("urn:uuid:")[1][14] for p in folder.rglob("*.ome.tif")]
    assert uuids == ["5", "5"]  # by name, not by time


def test_another_seed_is_another_slide():
    plans = [slide.populated(Slide("small", cells=200, defects=2, seed=s))[1] for s in (1, 2)]
    assert not np.array_equal(plans[0].x.to_numpy()[:20], plans[1].x.to_numpy()[:20])


def test_bundle_has_every_file_and_the_number_of_cells_asked_for(folder, truth):
    assert all((folder / name.format(name="small")).is_file() for name in BUNDLE_FILES)
    specs = json.loads((folder / "experiment.xenium").read_text())
    cells = pd.read_parquet(folder / "cells.parquet")
    assert specs["num_cells"] == len(cells) == len(truth) == SPEC.cells
    assert specs["pixel_size"] == PIXEL_SIZE
    assert cells.cell_id.is_monotonic_increasing
    assert cells.cell_id.tolist() == truth.cell_id.tolist()
    assert cells.cell_id.str.fullmatch("[a-p]{8}-1").all()


@pytest.mark.parametrize("lean", [True, False])
def test_spatialdata_reads_the_bundle_without_a_word_of_mismatch(folder, truth, lean):
    from spatialdata.transformations import get_transformation
    from spatialdata_io import xenium

    off = dict.fromkeys(
        ("morphology_focus", "morphology_mip", "cells_labels", "nucleus_labels", "cells_boundaries"), False
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        sdata = xenium(folder, transcripts=False, **(off if lean else {}))
    assert not [w for w in said if "does not match" in str(w.message) or "version" in str(w.message)]
    assert sdata["table"].obs.cell_id.tolist() == truth.cell_id.tolist()
    assert sdata["table"].n_vars == SPEC.genes
    nuclei = sdata["nucleus_boundaries"]
    assert np.issubdtype(nuclei.index.dtype, np.integer)
    assert len(nuclei) == SPEC.cells - 3 + 3  # without a nucleus, with two
    assert nuclei.geometry.is_valid.all()
    matrix = get_transformation(sdata["he_image"], "global").to_affine_matrix(("x", "y"), ("x", "y"))
    expected = json.loads((folder / "truth/truth.json").read_text())["he_to_morphology"]
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=0)
    if not lean:
        assert set(sdata.labels) == {"cell_labels", "nucleus_labels"}
        labels = np.asarray(sdata["nucleus_labels"]["scale0"]["image"])
        place = nuclei.centroid
        at = labels[(place.y / PIXEL_SIZE).astype(int), (place.x / PIXEL_SIZE).astype(int)]
        assert np.mean(at == nuclei.index) > 0.97


def test_outlines_lie_on_dark_nuclei(picture, outlines_px, truth):
    polygons, ids = outlines_px
    visible = set(truth.cell_id[truth.drawn & (truth.defect != "two_nuclei")])
    stain = rgb2hed(picture)[..., 0]
    darker = []
    for corners, cell in zip(polygons, ids, strict=True):
        if cell not in visible:
            continue
        centre = corners.mean(axis=0)
        inside = stain[fill(corners[:, 1], corners[:, 0], stain.shape)].mean()
        wide = centre + 1.9 * (corners - centre)
        ring = set(zip(*fill(wide[:, 1], wide[:, 0], stain.shape), strict=True))
        ring -= set(zip(*fill(*(centre + 1.2 * (corners - centre)).T[::-1], stain.shape), strict=True))
        darker.append(inside > np.mean([stain[p] for p in ring]))
    assert np.mean(darker) > 0.98


def test_places_and_sizes_of_the_truth_are_those_of_the_outlines(outlines_px, truth):
    polygons, ids = outlines_px
    single = truth[truth.defect.isin(["", "too_small", "too_large", "bare_glass"])].set_index("cell_id")
    mpp = SPEC.mpp * np.array([1.0015, 0.9985])
    for corners, cell in zip(polygons, ids, strict=True):
        if cell in single.index:
            row = single.loc[cell]
            width, height = np.ptp(corners, axis=0) * mpp
            assert abs(width - row.width_um) < 0.01
            assert abs(height - row.height_um) < 0.01
            assert np.hypot(*(corners[:-1].mean(axis=0) - [row.x, row.y])) * SPEC.mpp < 0.3 * max(width, height)


def test_planted_defects_are_what_they_claim_and_nothing_else_is_defective(folder, truth, counts, picture, outlines_px):
    polygons, ids = outlines_px
    cells = pd.read_parquet(folder / "cells.parquet").set_index("cell_id")
    mpp = SPEC.mpp * np.array([1.0015, 0.9985])
    nuclei = pd.Series(ids).value_counts()
    largest = dict(zip(ids[::-1], polygons[::-1], strict=True))  # the first nucleus is the larger one
    found = {}
    for row, cell in enumerate(truth.cell_id):
        assert cells.nucleus_count[cell] == nuclei.get(cell, 0)
        if cell not in largest:
            found[cell] = "no_nucleus"
            continue
        low, high = largest[cell].min(axis=0), largest[cell].max(axis=0)
        centre, size = (low + high) / 2, (high - low) * mpp
        edge = min(*(centre + 0.5), *(picture.shape[1::-1] - centre - 0.5)) * SPEC.mpp
        x, y = np.round(centre - 8 / SPEC.mpp).astype(int).clip(0)
        window = picture[y : y + round(16 / SPEC.mpp), x : x + round(16 / SPEC.mpp)]
        tests = {
            "outside_image": edge < 0,
            "too_small": (size < 2).any(),
            "too_large": (size > 16).any(),
            "window_off_image": edge < 8,
            "bare_glass": edge >= 8 and window.mean() > 230,
            "two_nuclei": nuclei[cell] == 2,
            "no_counts": counts[row].sum() == 0,
        }
        found[cell] = next((name for name, yes in tests.items() if yes), "")
    assert found == dict(zip(truth.cell_id, truth.defect, strict=True))
    planted = truth.defect[truth.defect != ""].value_counts()
    assert planted.to_dict() == dict.fromkeys(
        (
            "no_counts",
            "no_nucleus",
            "two_nuclei",
            "too_small",
            "too_large",
            "outside_image",
            "window_off_image",
            "bare_glass",
        ),
        SPEC.defects,
    )


def test_counts_come_from_the_parameters_of_the_truth(folder, truth, counts):
    known = ad.read_h5ad(folder / "truth/truth.h5ad")
    mu, theta, pi = known.X, known.layers["theta"], known.layers["pi"]
    own, mean = (1 - pi) * mu, known.layers["measured"]
    with h5py.File(folder / "cell_feature_matrix.h5") as file:
        names = file["matrix/features/name"][:].astype(str)
        kinds = file["matrix/features/feature_type"][:].astype(str)
    assert names[kinds == "Gene Expression"].tolist() == known.var_names.tolist()
    assert (kinds == "Negative Control Probe").sum() == slide.PROBES
    rows = (truth.defect != "no_counts").to_numpy()
    seen = counts[rows][:, kinds == "Gene Expression"]
    own, mean = own[rows], mean[rows]
    variance = ((1 - pi) * (mu + mu**2 * (1 / theta + pi)))[rows]  # of the own counts, nearly that of the measured
    z = (seen - mean).sum(axis=0) / np.sqrt(variance.sum(axis=0))
    assert abs(z.mean()) < 0.35
    assert 0.8 < z.std() < 1.25
    by_cell = (seen - mean).sum(axis=1) / np.sqrt(variance.sum(axis=1))
    assert 0.8 < by_cell.std() < 1.25  # rows are not permuted against the truth
    moved = mean - own
    slope = ((seen - own) * moved).sum() / (moved**2).sum()  # 0: counts are what the cells express
    assert 0.75 < slope < 1.25
    shares = pd.read_parquet(folder / "truth/truth.parquet").spillover[rows]
    assert 0.6 * SPEC.spillover < shares.mean() < 1.2 * SPEC.spillover


def test_cells_hold_their_nuclei_and_do_not_overlap(folder):
    from shapely import STRtree, intersection, polygons

    table = pq.read_table(folder / "cell_boundaries.parquet").to_pandas()
    k = int((table.label_id == 1).sum())
    cells = polygons(table[["vertex_x", "vertex_y"]].to_numpy().reshape(-1, k, 2))
    pairs = STRtree(cells).query(cells, predicate="intersects")
    pairs = pairs[:, pairs[0] < pairs[1]]
    shared = np.array([intersection(cells[i], cells[j]).area for i, j in pairs.T])
    assert np.sum(shared) < 0.05 * sum(c.area for c in cells)
    areas = pd.read_parquet(folder / "cells.parquet")
    assert (areas.cell_area > areas.nucleus_area.fillna(0) * 0.95).mean() > 0.97


def test_pathologist_disagrees_with_the_truth_as_often_as_asked(folder, truth):
    table = pd.read_csv(folder / "he_annotation.csv")
    assert table.columns.tolist() == ["cell_id", "group"]
    both = table.merge(truth, on="cell_id")
    assert len(both) == len(table)
    assert set(both.group) <= set(profiles.TYPES)
    assert (both.group != both.cell_type).sum() == round(SPEC.disagreement * len(table))
    assert 0.9 < len(table) / (truth.drawn & (truth.cell_type != "other")).sum() <= 1


def test_pathologist_errs_where_counts_are_of_neighbours_and_takes_their_type():
    types = np.array(profiles.TYPES)
    rng = np.random.default_rng(0)
    truth = pd.DataFrame({"cell_type": rng.choice(types, 2000), "drawn": True})
    received = np.zeros((2000, len(types) + 1))
    received[:400, 2] = rng.uniform(0.1, 0.5, 400)
    received[400:600, -1] = 0.5  # of cells of no type, which is no group
    received[range(600, 800), [profiles.TYPES.index(t) for t in truth.cell_type[600:800]]] = 0.5  # of its own type
    said = slide.add_table(Slide("s", disagreement=0.05, coverage=1.0), truth, received).table_group
    wrong = np.flatnonzero(said != truth.cell_type)
    assert len(wrong) == 100
    assert (wrong < 400).mean() > 0.9
    assert (said[wrong[wrong < 400]] == types[2]).all()
    assert received[wrong, 2].mean() > 1.1 * received[:400, 2].mean()
    evenly = slide.add_table(Slide("s", disagreement=0.05, coverage=1.0), truth, np.zeros_like(received)).table_group
    assert set(evenly[evenly != truth.cell_type]) == set(types)


def test_he_image_is_a_tiled_jpeg_pyramid_of_its_pixel_size(folder):
    with tifffile.TiffFile(folder / "small_he_image.ome.tif") as tiff:
        page = tiff.pages[0]
        assert page.is_tiled
        assert page.compression.name == "JPEG"
        assert f'PhysicalSizeX="{SPEC.mpp}"' in tiff.ome_metadata
        shapes = [level.shape for level in tiff.series[0].levels]
    assert len(shapes) > 1
    assert shapes[1][0] == shapes[0][0] // 2


def test_truth_lists_the_digest_of_every_file(folder):
    from shest.core.files import sha256

    listed = json.loads((folder / "truth/truth.json").read_text())["sha256"]
    on_disk = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"truth/truth.json"}
    assert set(listed) == on_disk
    assert all(sha256(folder / name) == digest for name, digest in listed.items())


def test_a_failure_leaves_the_old_bundle_and_nothing_new(tmp_path, monkeypatch):
    (tmp_path / "small").mkdir()
    (tmp_path / "small/old").write_text("here")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(bundle, "write_he", fail)
    with pytest.raises(OSError, match="disk full"):
        slide.simulate_slide(Slide("small", cells=150, genes=30, defects=1), MARKERS, tmp_path / "small")
    assert [p.name for p in tmp_path.iterdir()] == ["small"]
    assert (tmp_path / "small/old").read_text() == "here"
