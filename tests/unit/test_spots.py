"""Spots: legacy ST and Visium are read or refused by name; pseudo-spots sum their cells; what leaves has a reason."""

import gzip
import shutil

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image
from support import bundles

from shest.core.errors import Findings, InputError
from shest.encode import morphometrics, runner
from shest.io import ingest, sample_checks, spots
from shest.io.counts import read_counts
from shest.labels import split, training_set
from shest.run.spots import patch_size
from shest.systems import base
from shest.tissue import spots as tissue_spots
from shest.tissue.segment.regions import FOLD, GLASS, PEN, TISSUE, Regions

MPP = 2.0  # of the legacy section below: 200 µm are 100 px


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    """A legacy section of 5 by 6 spots, one of them without counts, and counts of a spot without a place."""
    folder = tmp_path_factory.mktemp("st")
    rng = np.random.default_rng(0)
    column, row = (grid.ravel() for grid in np.meshgrid(np.arange(3, 9), np.arange(10, 15)))
    places = pd.DataFrame({"x": column, "y": row, "new_x": column + 0.01, "new_y": row - 0.02})
    places["pixel_x"], places["pixel_y"] = 100.0 * (column - 2), 100.0 * (row - 9) + rng.normal(0, 2, len(row))
    places["selected"] = (column > 3).astype(int)
    places.to_csv(folder / "selection.tsv", sep="\t", index=False)
    counts = pd.DataFrame(rng.poisson(2, (30, 4)), [f"{c}x{r}" for c, r in zip(column, row, strict=True)], list("ABCD"))
    counts = pd.concat([counts.iloc[1:], pd.DataFrame([[1, 1, 1, 1]], ["40x40"], list("ABCD"))])
    counts.sample(frac=1, random_state=1).to_csv(folder / "counts.tsv.gz", sep="\t")
    Image.fromarray(rng.integers(0, 255, (640, 760, 3), np.uint8)).save(folder / "he.png")
    return folder, counts


def st_row(folder, **change):
    files = {"path": "counts.tsv.gz", "alignment": "selection.tsv", "he_image": "he.png"}
    return {"platform": "st", "mpp": None} | {k: str(folder / v) for k, v in files.items()} | change


@pytest.fixture(scope="module")
def visium(tmp_path_factory):
    settings = {"platform": "visium", "cells": 400, "genes": 60, "mpp": 0.5}
    return bundles.simulate_visium(tmp_path_factory.mktemp("visium"), **settings)


@pytest.fixture
def folder(visium, tmp_path):
    return bundles.copy(visium, tmp_path)


def visium_row(folder, **change):
    image = str(folder / f"{folder.name}_he_image.ome.tif")
    return {"platform": "visium", "path": str(folder), "he_image": image, "alignment": None, "mpp": None} | change


def problems(row):
    findings = Findings()
    sample_checks.check_sample(row, findings)
    return [str(problem) for problem in findings.problems]


def test_a_legacy_section_is_joined_by_array_coordinates(section):
    folder, counts = section
    found = spots.read_spots(st_row(folder))
    assert len(found.spot_id) == 30
    assert found.unplaced == 1
    assert found.spot_id[~found.measured].tolist() == ["3x10"]
    assert found.mpp == pytest.approx(MPP, rel=0.02)
    known = counts.reindex(found.spot_id[found.measured]).to_numpy()
    assert np.array_equal(found.counts.toarray()[found.measured], known)
    assert not found.counts[~found.measured].nnz
    assert (found.array[:, 1] == [int(name.split("x")[0]) for name in found.spot_id]).all()
    assert (found.on_tissue == (found.array[:, 1] > 3)).all()


def test_a_section_is_stored_with_one_row_a_spot(section, tmp_path):
    folder, counts = section
    row = st_row(folder)
    sdata, facts = ingest.read_spot_sample(row, row["he_image"], None)
    ingest.write_sample(sdata, facts, tmp_path / "sdata.zarr", tmp_path / "ingest.json", 1)
    stored, genes, ids = read_counts(tmp_path / "sdata.zarr")
    assert genes.symbols == list("ABCD")
    assert np.array_equal(stored[ids != "3x10"].toarray(), counts.reindex(ids[ids != "3x10"]).to_numpy())
    assert facts["spots_without_counts"] == 1
    assert facts["mpp_from"] == "array"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("counts.tsv.gz", None, "the table of counts is not there"),
        ("counts.tsv.gz", gzip.compress(b"\tA\n3x10\t0.5\n3x11\t1\n", mtime=0), "its values are no counts"),
        ("counts.tsv.gz", gzip.compress(b"\tA\n3x10\tone\n", mtime=0), "no table of counts that can be read"),
        ("counts.tsv.gz", b"\x1f\x8b\x08broken", "no table of counts that can be read"),
        ("counts.tsv.gz", gzip.compress(b"\tA\n99x99\t1\n", mtime=0), "has counts (99x99)"),
        ("selection.tsv", None, "the spot selection is not there"),
        ("selection.tsv", b"x\ty\tnew_x\n1\t2\t3\n", "no column pixel_x, pixel_y"),
        ("selection.tsv", b"x\ty\tpixel_x\tpixel_y\n3\t11\tleft\t4\n", "coordinates that are no numbers"),
        ("selection.tsv", b"x\ty\tpixel_x\tpixel_y\n3\t11\t9\t9\n3\t11\t4\t4\n", "spot 3x11 stands there twice"),
        ("he.png", None, "the slide is not there"),
    ],
)
def test_bad_legacy_files_are_named(section, tmp_path, name, content, message):
    shutil.copytree(section[0], tmp_path / "st")
    if content is None:
        (tmp_path / "st" / name).unlink()
    else:
        (tmp_path / "st" / name).write_bytes(content)
    found = problems(st_row(tmp_path / "st"))
    assert len(found) == 1
    assert message in found[0]


def test_pixels_that_do_not_follow_the_array_are_refused(section, tmp_path):
    shutil.copytree(section[0], tmp_path / "st")
    table = pd.read_csv(tmp_path / "st/selection.tsv", sep="\t")
    table["pixel_x"] = table["pixel_x"].sample(frac=1, random_state=3).to_numpy()
    table.to_csv(tmp_path / "st/selection.tsv", sep="\t", index=False)
    assert "do not follow its array coordinates" in problems(st_row(tmp_path / "st"))[0]


def test_an_image_that_is_cropped_and_a_pixel_size_that_contradicts_the_pitch_are_refused(section, tmp_path):
    folder, _ = section
    with Image.open(folder / "he.png") as image:
        image.crop((0, 0, 500, 640)).save(tmp_path / "cropped.png")
    [found] = problems(st_row(folder, he_image=str(tmp_path / "cropped.png")))
    assert "10 of 29 spots lie outside of its 500 by 640 px: cropped" in found
    assert "by the array's pitch a pixel is 2 µm" in problems(st_row(folder, mpp="0.5"))[0]


def test_a_visium_folder_is_read_with_and_without_a_header(visium, folder):
    known = spots.read_spots(visium_row(visium))
    assert known.mpp == pytest.approx(0.5, rel=0.01)
    assert not problems(visium_row(visium))
    with_header = folder / "spatial/tissue_positions.csv"
    lines = with_header.read_text().splitlines(keepends=True)
    with_header.unlink()
    (folder / "spatial/tissue_positions_list.csv").write_text("".join(lines[1:]))
    found = spots.read_spots(visium_row(folder))
    assert found.spot_id.tolist() == known.spot_id.tolist()
    assert np.array_equal(found.xy, known.xy)
    assert (found.counts != known.counts).nnz == 0


def test_a_matrix_in_a_folder_is_read_as_the_h5_is(visium, folder):
    import scipy.io
    from scipy import sparse

    known = spots.read_spots(visium_row(visium))
    ids, counts, genes = spots.read_matrix(visium)
    (folder / spots.SPOT_MATRIX).unlink()
    matrix = folder / spots.MATRIX_FOLDER
    matrix.mkdir()
    scipy.io.mmwrite(matrix / "matrix.mtx", sparse.coo_matrix(counts.T.astype(int)))
    rows = zip(genes.ids, genes.symbols, strict=True)
    tables = {
        "features.tsv": "".join(f"{gene}\t{symbol}\tGene Expression\n" for gene, symbol in rows),
        "barcodes.tsv": "".join(f"{barcode}\n" for barcode in ids),
        "matrix.mtx": (matrix / "matrix.mtx").read_text(),
    }
    for name, text in tables.items():
        (matrix / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    found = spots.read_spots(visium_row(folder))
    assert found.genes == known.genes
    assert np.array_equal(found.counts.toarray(), known.counts.toarray())


def no_scales(folder):
    (folder / "spatial/scalefactors_json.json").unlink()


def no_matrix(folder):
    (folder / spots.SPOT_MATRIX).unlink()


def cut_matrix(folder):
    content = (folder / spots.SPOT_MATRIX).read_bytes()
    bundles.overwrite(folder / spots.SPOT_MATRIX, content[: len(content) // 2])


def no_positions(folder):
    (folder / "spatial/tissue_positions.csv").unlink()


def high_definition(folder):
    no_positions(folder)
    (folder / "spatial/tissue_positions.parquet").touch()


def other_barcodes(folder):
    path = folder / "spatial/tissue_positions.csv"
    bundles.overwrite(path, path.read_text().replace("-1,", "-2,").encode())


def cropped(folder):
    import tifffile

    path = folder / f"{folder.name}_he_image.ome.tif"
    pixels = tifffile.imread(path)
    path.unlink()
    tifffile.imwrite(path, pixels[:, :-40], photometric="rgb", tile=(256, 256))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_scales, "the scale factors are not there"),
        (no_matrix, "no matrix: neither filtered_feature_bc_matrix.h5 nor a folder"),
        (cut_matrix, "no matrix that can be read"),
        (no_positions, "no positions of the spots"),
        (high_definition, "Visium HD, which is not read"),
        (other_barcodes, "has counts (AAAA"),
        (cropped, "not the image of the scale factors"),
    ],
)
def test_bad_visium_folders_are_named(folder, spoil, message):
    spoil(folder)
    found = problems(visium_row(folder))
    assert message in found[0]
    assert len(found) == 1


def regions_of(kinds, factor=10.0):
    kinds = np.asarray(kinds, np.uint8)
    return Regions(kinds, (factor, factor), (factor, factor), np.zeros((*kinds.shape, 3), np.uint8))


def test_the_share_of_tissue_is_that_of_the_square():
    kinds = np.full((20, 30), GLASS)
    kinds[:, :15] = TISSUE
    kinds[:10, :5], kinds[10:, :5] = FOLD, PEN
    regions = regions_of(kinds)
    xy = np.array([[99.5, 149.5], [149.5, 99.5], [249.5, 99.5], [24.5, 49.5], [24.5, 149.5], [-0.5, 49.5]])
    share = tissue_spots.tissue_share(regions, xy, (40.0, 40.0))
    assert share == pytest.approx([1, 0.5, 0, 1, 0, 0.5])


def test_each_spot_leaves_for_the_first_reason():
    kinds = np.full((20, 20), TISSUE)
    kinds[:, 10:] = GLASS
    places = pd.DataFrame(
        {
            "spot_id": list("abcdef"),
            "x": [50.0, 50, 50, 180, 300, 90],
            "y": [50.0, 50, 50, 50, 50, 50],
            "total": [9, 0, 0, 9, 0, 9],
            "on_tissue": [True, True, False, True, False, True],
            "diameter_um": 55.0,
            "array_row": 0,
            "array_col": range(6),
        }
    )
    table = tissue_spots.spot_table(places, regions_of(kinds), (200, 200), (1.0, 1.0), 40.0, 0.7)
    assert table["reason"].tolist() == ["kept", "no_counts", "off_tissue", "little_tissue", "outside", "kept"]
    assert table["kept"].tolist() == [True, False, False, False, False, True]
    assert sum(tissue_spots.reasons(table).values()) == len(places)


def test_pseudo_spots_sum_the_cells_inside_and_none_twice():
    rng = np.random.default_rng(1)
    xy = rng.uniform(-300, 700, (3000, 2))
    counts = rng.poisson(1, (3000, 5)).astype(np.float32)
    kind = pd.Series(rng.choice(["A", "B"], 3000), dtype="string").where(rng.random(3000) < 0.8)
    spots_, spot_of = tissue_spots.lay_grid(xy, 55.0, 100.0)
    member = tissue_spots.membership(spot_of, len(spots_))
    away = np.linalg.norm(spots_[["x_um", "y_um"]].to_numpy()[:, None] - xy[None], axis=2) <= 27.5
    assert np.array_equal(member.toarray() > 0, away)
    assert away.sum(axis=0).max() == 1
    assert np.allclose(member @ counts, away @ counts)
    assert spots_["spot_id"].is_unique
    share = tissue_spots.composition(spot_of, len(spots_), kind)["type:A"]
    expected = [(kind[rows] == "A").fillna(False).sum() / max(kind[rows].notna().sum(), 1) for rows in away]
    known = np.array([kind[rows].notna().any() for rows in away])
    assert np.allclose(share[known], np.array(expected)[known])
    assert np.isnan(share[~known]).all()


def test_the_grid_does_not_move_with_the_cells():
    xy = np.array([[10.0, 10.0], [250.0, 90.0]])
    more = np.vstack([xy, [[-380.0, 500.0]]])
    first, second = (tissue_spots.lay_grid(points, 55, 100)[0].set_index("spot_id") for points in (xy, more))
    assert second.loc[first.index].equals(first)


def units(n, side, seed, sample="a", **more):
    xy = np.random.default_rng(seed).random((n, 2)) * side
    ids = [f"{seed}-{i}" for i in range(n)]
    table = pd.DataFrame({"sample": sample, "id": ids, "x_um": xy[:, 0], "y_um": xy[:, 1]})
    return table.assign(**{"cell_type": "A", "patient": sample} | more)


SPLIT = {"by": "block", "folds": 3, "block_um": 250, "fractions": {"test": 0.2, "val": 0.1}, "seed": 42}
REACH = {"a": (16.5, 16.5), "b": (16.5, 16.5)}
SPOT_REACH = {"a": (60.0, 60.0), "b": (60.0, 60.0), "c": (60.0, 60.0)}


def both(fold, cells, spots_, protocol="strict", **change):
    table, _ = split.split(cells, protocol, fold, REACH, SPLIT | change, spots_, SPOT_REACH)
    return tuple(table[table["unit"] == unit].reset_index(drop=True) for unit in ("cells", "spots"))


def test_spots_are_held_out_with_the_blocks_of_the_cells_and_change_no_cell():
    cells, spots_ = units(4000, 1500, 0), units(200, 1500, 1, cell_type=None)
    tests = np.zeros(len(spots_), int)
    for fold in ("0", "1", "2", "all"):
        of_cells, of_spots = both(fold, cells, spots_)
        alone, _ = split.split(cells, "strict", fold, REACH, SPLIT)
        assert of_cells.equals(alone)
        test = of_spots["part"] == "test"
        tests += test
        assert set(of_spots.loc[test, "block"]) <= set(of_cells.loc[of_cells["part"] == "test", "block"])
        assert not set(of_spots.loc[~test, "block"]) & set(of_cells.loc[of_cells["part"] == "test", "block"])
        xy, part = spots_[["x_um", "y_um"]].to_numpy(), of_spots["part"].to_numpy()
        for one, other in (("train", "test"), ("train", "val"), ("val", "test")):
            near = (np.abs(xy[part == one][:, None] - xy[part == other][None]) < 60).all(axis=2)
            assert not near.any(), (one, other)
        assert {"train", "val", "gap"} <= set(part)
    assert (tests == 1).all()


def test_blocks_of_a_small_sample_stay_large_enough_for_its_spots():
    cells, spots_ = units(1500, 220, 0), units(60, 220, 1, cell_type=None)
    _, notes = split.split(cells, "strict", "0", REACH, SPLIT, spots_, SPOT_REACH)
    _, alone = split.split(cells, "strict", "0", REACH, SPLIT)
    assert "blocks of 125 µm" in notes[0]
    assert "blocks of 125 µm" not in alone[0]


def test_samples_of_spots_alone_are_split_as_those_of_cells_are():
    cells, spots_ = units(2000, 900, 0), units(300, 1500, 5, "c", cell_type=None)
    _, of_spots = both("0", cells[:0], spots_)
    assert {"train", "val", "test", "gap"} <= set(of_spots["part"])
    _, beside = both("0", cells, spots_)
    assert of_spots.equals(beside)
    held_out = [both(fold, cells, spots_, by="sample", folds=2)[1]["part"].eq("test") for fold in ("0", "1")]
    assert sorted(column.mean() for column in held_out) == [0, 1]


def test_a_patients_sections_are_held_out_together_whatever_was_measured():
    cells = pd.concat([units(500, 600, 0, patient="p"), units(500, 600, 1, "b", patient="q")])
    spots_ = units(50, 900, 2, "c", cell_type=None, patient="q")
    for fold in ("0", "1"):
        of_cells, of_spots = both(fold, cells, spots_, by="patient", folds=2)
        of_b = set(of_cells.loc[of_cells["sample"] == "b", "part"])
        assert (of_b == {"test"}) == (set(of_spots["part"]) == {"test"})


def test_too_few_training_spots_are_said(tmp_path):
    _, of_spots = both("0", units(0, 1, 0), units(40, 1000, 1, "c", cell_type=None))
    table = training_set.spot_training_table(of_spots, "strict", 5)
    assert set(table["part"]) == {"train", "val"}
    with pytest.raises(InputError, match="spots are too few to learn from"):
        training_set.spot_training_table(of_spots, "strict", 100)


@pytest.mark.parametrize("kind", ["mean", "linear"])
def test_systems_learn_from_spots_without_types(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)).astype(np.float32)
    rate = np.exp(1 + x[:, :1] * np.array([[0.8, -0.8, 0.0]]))
    from scipy import sparse

    class Source:
        dim, fingerprint, orientation_invariant = 6, "", True

        def take(self, positions, views=0):
            return x[positions]

    data = training_set.TrainingSet(
        Source(),
        sparse.csr_matrix(rng.poisson(rate).astype(np.float32)),
        np.ones((1, 3), bool),
        np.zeros(300, np.int64),
        np.zeros(300, np.int64),
        np.arange(200),
        np.arange(200, 250),
        [],
        list("ABC"),
    )
    system = base.spec_of(kind).create({"seed": 1})
    system.fit(data, lambda n: None)
    found = system.predict(x[250:])
    assert found.type_logits is None
    assert base.calibrate(system, data)["temperature"] is None
    if kind == "mean":
        assert found.expected[0] == pytest.approx(data.counts[:200].toarray().mean(axis=0), rel=1e-5)
    else:
        assert np.corrcoef(found.expected[:, 0], rate[250:, 0])[0, 1] > 0.9
    again = base.spec_of(kind).create({"seed": 1})
    again.restore(system.tensors(), {})
    assert np.array_equal(again.predict(x[250:]).expected, found.expected)


def test_patches_are_encoded_by_colour_and_texture(tmp_path):
    rng = np.random.default_rng(0)
    pale = np.full((2, 224, 224, 3), 235, np.uint8)
    pale[1, 60:160, 60:160] = (90, 50, 140)
    noise = rng.integers(0, 255, (1, 224, 224, 3), np.uint8)
    patches = np.concatenate([pale, noise])
    found = pd.DataFrame(morphometrics.patch_features(patches), columns=morphometrics.patch_names())
    assert np.isfinite(found.to_numpy()).all()
    assert found["mean_window_rich_h"][:2].tolist() == pytest.approx([0, 100 * 100 / 224**2])
    assert found["mean_nucleus_mean_b"][1] == pytest.approx(140, abs=1)
    assert found["spread_window_mean_r"][0] == 0
    turned = morphometrics.patch_features(np.rot90(patches, axes=(1, 2)).copy())
    assert np.allclose(turned[:2], found[:2], rtol=1e-3, atol=1e-3)
    record = runner.prepare({"name": "morphometrics"}, "auto", "auto")
    of_patches = runner.for_patches(record)
    assert of_patches["fingerprint"] != record["fingerprint"]
    np.save(tmp_path / "r0000c0000.npy", patches)
    shard = {"file": "r0000c0000.npy", "sha256": "f" * 64, "units": ["a", "b", "c"]}
    work = runner.patch_work({"shards": [shard]})
    assert runner.run(of_patches, work, tmp_path, tmp_path / "cache", 1) == 3
    assert runner.run(of_patches, work, tmp_path, tmp_path / "cache", 1) == 0
    [part] = [p for s in runner.index(of_patches, "s", work, tmp_path / "cache")["shards"] for p in s["parts"]]
    assert np.allclose(np.load(tmp_path / "cache" / part["file"]), found, rtol=2e-3, atol=1e-3)


def test_the_default_patch_is_the_largest_spot_of_the_run():
    config = {"patch_um": "auto", "patch_px": 224, "diameter_um": 70.0, "pitch_um": 100.0}
    assert patch_size(config, {"xenium"}).side_um == 70
    assert patch_size(config, {"xenium", "visium"}).side_um == 70
    assert patch_size(config, {"st", "visium"}).side_um == 100
    assert patch_size(config | {"patch_um": 30}, {"st"}).name == "30um_224px"


def test_circles_of_spots_are_read_for_pictures(section, tmp_path):
    from shest.io import store

    row = st_row(section[0])
    sdata, _ = ingest.read_spot_sample(row, row["he_image"], None)
    ingest.write_store(sdata, tmp_path / "sdata.zarr")
    circles = store.read_circles(tmp_path / "sdata.zarr")
    assert len(circles) == 30
    assert np.sqrt(shapely.area(circles) / np.pi) == pytest.approx(50, rel=0.02)
