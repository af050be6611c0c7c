"""Random corruption of a bundle: it is refused in a sentence, or nothing was lost; never a traceback."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import bundles

from shest.core.errors import Findings, InputError
from shest.io import ingest, sample_checks, store
from shest.io.header import SampleHeader

FILES = (
    "experiment.xenium",
    "cells.parquet",
    "cells.zarr.zip",
    "cell_feature_matrix.h5",
    "nucleus_boundaries.parquet",
    "a_he_image.ome.tif",
    "a_he_imagealignment.csv",
)
TABLES = {
    "cells.parquet": ("cell_id", "x_centroid", "y_centroid", "cell_area"),
    "nucleus_boundaries.parquet": ("cell_id", "vertex_x", "vertex_y", "label_id"),
}
NAMED = st.sampled_from(FILES)
CUT = st.tuples(st.just("cut"), NAMED, st.floats(0, 0.999))
BYTE = st.tuples(st.floats(0, 0.9999), st.integers(1, 255))  # place in the file, bits to turn
FLIP = st.tuples(st.just("flip"), NAMED, st.lists(BYTE, min_size=1, max_size=8))
DROP = st.sampled_from([("drop", name, column) for name, columns in TABLES.items() for column in columns])
SWAP = st.tuples(st.just("swap"), NAMED, NAMED).filter(lambda t: t[1] != t[2])
FOREIGN = st.tuples(st.just("foreign"), st.sampled_from([f for f in FILES[1:5]]), st.none())
QUIET = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return bundles.simulate(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return bundles.simulate(tmp_path_factory.mktemp("other"), seed=7)


def spoil(bundle: Path, other: Path, kind: str, name: str, how) -> None:
    """Corrupt one file of a bundle."""
    path = bundle / name
    content = path.read_bytes()
    if kind == "cut":
        bundles.overwrite(path, content[: int(len(content) * how)])
    elif kind == "flip":
        changed = bytearray(content)
        for place, value in how:
            changed[int(place * len(content))] ^= value
        bundles.overwrite(path, bytes(changed))
    elif kind == "drop":
        bundles.set_table(path, lambda t: t.drop(columns=how))
    elif kind == "swap":
        second = (bundle / how).read_bytes()
        bundles.overwrite(path, second)
        bundles.overwrite(bundle / how, content)
    else:
        bundles.overwrite(path, (other / name).read_bytes())


def check(bundle: Path) -> tuple[SampleHeader, Findings]:
    findings = Findings()
    return sample_checks.check_bundle(bundle, bundles.he_image(bundle), bundles.alignment(bundle), findings), findings


def same(one: SampleHeader, two: SampleHeader) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in vars(one))


@settings(max_examples=120, **QUIET)
@given(harm=st.one_of(CUT, DROP, SWAP, FOREIGN))
def test_what_is_cut_dropped_or_swapped_is_refused_or_was_not_needed(good, other, harm):
    with tempfile.TemporaryDirectory() as folder:
        bundle = bundles.copy(good, Path(folder))
        spoil(bundle, other, *harm)
        header, findings = check(bundle)
        for problem in findings.problems:
            assert str(folder) in problem.path
            assert "\n" not in str(problem)
        assert findings.problems or (harm[0] == "cut" and same(header, check(good)[0]))


@settings(max_examples=80, **QUIET)
@given(harm=FLIP)
def test_flipped_bytes_never_end_in_a_traceback(good, other, harm):
    with tempfile.TemporaryDirectory() as folder:
        bundle = bundles.copy(good, Path(folder))
        spoil(bundle, other, *harm)
        for problem in check(bundle)[1].problems:
            assert str(folder) in problem.path
            assert "\n" not in str(problem)


@settings(max_examples=25, **QUIET)
@given(harm=st.one_of(CUT, FLIP, DROP, SWAP, FOREIGN))
def test_ingest_refuses_in_a_sentence_or_writes_a_whole_store(good, other, harm):
    with tempfile.TemporaryDirectory() as folder:
        bundle, path = bundles.copy(good, Path(folder)), Path(folder) / "out" / "sdata.zarr"
        spoil(bundle, other, *harm)
        try:
            check(bundle)[1].stop()
            sdata, facts = ingest.read_bundle(bundle, bundles.he_image(bundle), bundles.alignment(bundle))
            ingest.write_store(sdata, path)
        except InputError:
            assert not path.parent.is_dir() or not list(path.parent.iterdir())
            return
        assert harm[0] in ("cut", "flip")
        cells = pd.read_parquet(good / "cells.parquet")["cell_id"]
        assert sorted(store.read_cell_ids(path)) == sorted(cells)
        assert len(store.read_nuclei(path)[0]) == facts["nuclei"]
        assert store.image_scales(path)[0].shape == (3, *facts["he_shape"])


def test_a_tile_that_cannot_be_decoded_leaves_no_store(good, tmp_path):
    """The head does not show it: only the middle tile is tried there."""
    bundle = bundles.copy(good, tmp_path)
    image = bundles.he_image(bundle)
    with tifffile.TiffFile(image) as tiff:
        page = tiff.series[0].levels[0].keyframe
        offset, length = page.dataoffsets[-1], page.databytecounts[-1]
    content = bytearray(image.read_bytes())
    content[offset : offset + length] = bytes(length)
    bundles.overwrite(image, bytes(content))
    assert check(bundle)[1].problems == []
    sdata, _ = ingest.read_bundle(bundle, image, bundles.alignment(bundle))
    for attempt in range(8):  # with threads that are still writing when one of them fails
        (tmp_path / f"out{attempt}").mkdir()
        with pytest.raises(InputError, match=r"cannot be written .*Jpeg8Error"):
            ingest.write_store(sdata, tmp_path / f"out{attempt}" / "sdata.zarr", threads=4)
        assert list((tmp_path / f"out{attempt}").iterdir()) == []


def test_a_full_disk_is_said(good, tmp_path, monkeypatch):
    class Full:
        def write(self, path):
            Path(path).mkdir()
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="no space left on the disk"):
        ingest.write_store(Full(), tmp_path / "sdata.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_was_there_survives_a_failure(good, tmp_path):
    sdata, _ = ingest.read_bundle(good, bundles.he_image(good), bundles.alignment(good))
    path = tmp_path / "sdata.zarr"
    path.mkdir()
    (path / "zarr.json").write_text("{}")
    broken = shutil.copytree(good, tmp_path / "b" / "a")
    bundles.truncate(bundles.he_image(broken), 0.5)
    with pytest.raises(InputError):
        ingest.read_bundle(broken, bundles.he_image(broken), bundles.alignment(broken))
    assert (path / "zarr.json").read_text() == "{}"
    ingest.write_store(sdata, path)
    assert len(store.read_cell_ids(path)) == 120
