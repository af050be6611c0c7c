"""Plain slides: the size of their pixels, outlines as other programs write them, and what is refused."""

import gzip
import json
import struct
import zlib

import geopandas
import numpy as np
import pytest
import shapely
import spatialdata
import tifffile
from PIL import Image
from scipy import ndimage
from support import slides

from shest.core.errors import Findings, InputError
from shest.core.files import write_json
from shest.io import ingest, sample_checks, slide, store
from shest.io.registration import Registration
from shest.tiles import quadruple
from shest.tissue import cells, register

PLACES = [(60, 60), (160, 60), (260.25, 120.5), (60, 220)]


@pytest.fixture
def real(kit):
    path = kit.parent / "CMU-1-Small-Region.svs"
    if not path.is_file():
        pytest.skip("needs CMU-1-Small-Region.svs beside the folder of SHEST_KIT, and it is not there")
    return path


def qupath(tmp_path, features, name="nuclei.geojson"):
    return slides.write(tmp_path / name, slides.collection(features))


def nuclei(path, shape=(300, 400), mpp=(0.25, 0.25)):
    return slide.read_nuclei(path, shape, mpp)


def test_the_real_slide_says_its_scale_and_its_window_is_sixteen_micrometres(real):
    import tiffslide

    mpp, pixels = slide.read_mpp(real, None), slide.read_image(real)
    with tiffslide.TiffSlide(real) as opened:
        assert mpp == (opened.properties["tiffslide.mpp-x"],) * 2 == (0.499, 0.499)
        expected = np.asarray(opened.read_region((900, 1200), 0, (64, 48)))[..., :3]
    assert pixels.shape == (3, 2967, 2220)
    assert np.array_equal(np.moveaxis(pixels[:, 1200:1248, 900:964].compute(), 0, -1), expected)
    assert quadruple.window_shape(16, *mpp) == (32, 32)
    assert slide.read_mpp(real, "0.25") == (0.25, 0.25)


def test_the_real_slide_with_found_nuclei_is_stored_as_a_bundle_is(real, tmp_path):
    mpp = slide.read_mpp(real, None)
    corner = np.moveaxis(slide.read_image(real)[:, 1000:1800, 600:1400].compute(), 0, -1)
    found = [ring + np.array([600, 1000]) for ring in slides.find_nuclei(corner, mpp[0])]
    assert len(found) > 150
    path = qupath(tmp_path, [slides.feature(ring, number=i) for i, ring in enumerate(found, 1)])
    sdata, facts = ingest.read_slide(real, path, None)
    ingest.write_store(sdata, tmp_path / "s.zarr")
    write_json(tmp_path / "ingest.json", facts)
    assert (facts["platform"], facts["cells"], facts["genes"]) == ("slide", len(found), 0)
    frame = Registration.of_alignment(facts["he_to_morphology"], facts["pixel_size_um"])
    assert frame.he_to_um.tolist() == [[0.499, 0, 0], [0, 0.499, 0], [0, 0, 1]]
    assert (frame.mpp_x, frame.mpp_y, frame.rotation, frame.mirror) == (0.499, 0.499, 0, False)
    scales = store.image_scales(tmp_path / "s.zarr")
    assert [level.shape for level in scales] == [(3, 2967, 2220), (3, 741, 555), (3, 185, 138)]
    assert scales[0].chunks == (3, 512, 512)
    ids, outlines = store.read_nuclei(tmp_path / "s.zarr")
    assert sorted(store.read_cell_ids(tmp_path / "s.zarr")) == sorted(ids)
    back = store.transform_outlines(outlines, frame.um_to_he)
    assert np.allclose(shapely.get_coordinates(back[0]), found[0], atol=1e-9)
    overview, factor = store.overview(tmp_path / "s.zarr")
    assert register.share_on_tissue(shapely.get_coordinates(shapely.centroid(back)), overview, factor) > 0.9
    names, polygons = cells.nucleus_of_each_cell(ids, back)
    limits = {"min_um": 2, "max_um": 16, "max_mean_grey": 230}
    grey = cells.grey_by_block(scales[0], 1024, 1)
    table = cells.cell_table(ids, names, polygons, scales[0].shape[1:], (0.499, 0.499), limits, 16, grey)
    assert cells.counts(table)["kept"] > 0.7 * len(found)
    opened = spatialdata.read_zarr(tmp_path / "s.zarr")
    assert opened.tables["table"].shape == (len(found), 0)
    window = spatialdata.transformations.get_transformation(opened.images["he_image"], "global")
    assert np.allclose(window.to_affine_matrix(("x", "y"), ("x", "y")), frame.he_to_um)


@pytest.mark.parametrize(
    ("options", "mpp"),
    [
        ({"mpp": 0.25}, (0.25, 0.25)),
        ({"mpp": None, "resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER"}, (0.25, 0.5)),
        ({"mpp": None, "resolution": (101_600, 101_600), "resolutionunit": "INCH"}, (0.25, 0.25)),
        (
            {
                "mpp": None,
                "ome": True,
                "metadata": {
                    "axes": "YXS",
                    "PhysicalSizeX": 0.2738,
                    "PhysicalSizeXUnit": "µm",
                    "PhysicalSizeY": 274,
                    "PhysicalSizeYUnit": "nm",
                },
            },
            (0.2738, 0.274),
        ),
        (
            {"mpp": None, "description": "Aperio Image Library v1\r\n1x1|AppMag = 20|MPP = 0.4990|Left = 1"},
            (0.499, 0.499),
        ),
        (
            {
                "mpp": None,
                "software": "Philips DP v1.0",
                "metadata": None,
                "description": '<DataObject ObjectType="DPUfsImport"><Attribute Name="DICOM_PIXEL_SPACING" '
                'Group="0x0028">&quot;0.00025'
                "&quot; &quot;0.000251&quot;</Attribute></DataObject>",
            },
            (0.251, 0.25),
        ),
    ],
    ids=["cm", "cm, not square", "inch", "OME", "Aperio", "Philips"],
)
def test_the_size_of_a_pixel_is_read_wherever_it_is_said(tmp_path, options, mpp):
    assert slide.read_mpp(slides.tiff(tmp_path / "s.tif", **options), None) == pytest.approx(mpp, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        ({"mpp": None}, None, "does not say how large its pixels are. Give the size"),
        ({"mpp": None, "resolution": (72, 72), "resolutionunit": "INCH"}, None, "does not say how large"),
        ({"mpp": 3.0}, None, "says that its pixels are 3 by 3 µm"),
        ({"mpp": 0.25}, "40", "mpp 40 in the sheet is no size"),
    ],
)
def test_a_slide_without_a_scale_is_refused_with_a_remedy(tmp_path, options, given, said):
    with pytest.raises(InputError) as raised:
        slide.read_mpp(slides.tiff(tmp_path / "s.tif", **options), given)
    assert said in str(raised.value)
    assert "column mpp" in str(raised.value)


def test_the_largest_image_of_a_file_is_the_slide(tmp_path):
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for side, value in ((64, 1), (256, 2), (96, 3)):
            file.write(
                np.full((side, side, 3), value, np.uint8),
                photometric="rgb",
                metadata=None,
                resolution=(1e4 / (side / 1024), 1e4 / (side / 1024)),
                resolutionunit="CENTIMETER",
            )
    pixels = slide.read_image(tmp_path / "s.tif")
    assert pixels.shape == (3, 256, 256)
    assert (pixels.compute() == 2).all()
    assert slide.read_mpp(tmp_path / "s.tif", None) == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize("suffix", ["png", "PNG", "jpg", "jpeg"])
def test_pictures_are_read_and_the_sheet_says_their_pixels(tmp_path, suffix):
    coarse = np.random.default_rng(0).integers(0, 256, (8, 10, 3))
    path, array = tmp_path / f"s.{suffix}", np.clip(ndimage.zoom(coarse, (90, 90, 1)), 0, 255).astype(np.uint8)
    Image.fromarray(array).save(path, **({"quality": 95} if "jp" in suffix else {}))
    pixels = slide.read_image(path)
    assert (pixels.shape, pixels.dtype, pixels.chunksize) == ((3, 720, 900), np.uint8, (3, 512, 512))
    away = np.abs(np.moveaxis(pixels.compute(), 0, -1).astype(int) - array)
    assert away.mean() < 3 if "jp" in suffix else away.max() == 0
    with pytest.raises(InputError, match="does not say how large its pixels are"):
        slide.read_mpp(path, None)
    assert slide.read_mpp(path, "0.5") == (0.5, 0.5)


def test_a_picture_is_stored_as_any_slide_is(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (300, 700, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "s.png")
    sdata, facts = ingest.read_slide(tmp_path / "s.png", None, "0.25")
    assert (facts["he_shape"], facts["mpp_from"]) == ([300, 700], "sheet")
    ingest.write_store(sdata, tmp_path / "s.zarr")
    assert np.array_equal(np.moveaxis(store.image_scales(tmp_path / "s.zarr")[0][:], 0, -1), array)


@pytest.mark.parametrize(
    ("mode", "keep", "said"),
    [("L", 1, "mode L: no 8-bit RGB"), ("RGB", 0.5, "cannot be decoded"), ("RGB", 0, "no picture")],
)
def test_pictures_that_are_none_are_refused(tmp_path, mode, keep, said):
    path = tmp_path / "s.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)).convert(mode).save(path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(InputError, match=said):
        slide.read_image(path)


def test_a_picture_that_is_too_large_is_said_before_it_is_decoded(tmp_path):
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "s.png")
    content = bytearray((tmp_path / "s.png").read_bytes())
    content[16:24] = struct.pack(">II", 40_000, 40_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "s.png").write_bytes(content)
    with pytest.raises(InputError, match="which is decoded whole"):
        slide.read_image(tmp_path / "s.png")


def test_openslide_gives_the_pixels_of_the_full_size(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", array, tile=(128, 128), photometric="rgb", compression=None)
    pixels = slide.read_by_openslide(tmp_path / "s.tif")
    assert pixels.chunksize == (3, 512, 512)
    assert np.array_equal(np.moveaxis(pixels.compute(), 0, -1), array)
    assert np.array_equal(pixels[1, 600:650, 5:7].compute(), array[600:650, 5:7, 1])


def test_an_mrxs_without_its_folder_is_said(tmp_path):
    with pytest.raises(InputError, match="the slide is not there"):
        slide.read_image(tmp_path / "s.mrxs")
    (tmp_path / "s.mrxs").write_bytes(b"\xff\xd8\xff" + bytes(100))
    with pytest.raises(InputError, match="an MRXS has a folder of its name beside it"):
        slide.read_image(tmp_path / "s.mrxs")
    with pytest.raises(InputError, match="no slide that OpenSlide reads"):
        slide.read_mpp(tmp_path / "s.mrxs", None)


@pytest.mark.parametrize(
    "array", [np.zeros((64, 64, 3), np.uint16), np.zeros((64, 64), np.uint8), np.zeros((5, 64, 64, 3), np.uint8)]
)
def test_what_is_no_rgb_image_of_eight_bits_is_refused(tmp_path, array):
    tifffile.imwrite(tmp_path / "s.tif", array, photometric="rgb" if array.shape[-1] == 3 else "minisblack")
    with pytest.raises(InputError, match="8-bit RGB"):
        slide.read_image(tmp_path / "s.tif")


def test_ids_of_the_file_name_the_cells_and_coordinates_move_to_pixel_centres(tmp_path):
    found = nuclei(qupath(tmp_path, [slides.feature(r, number=i) for i, r in enumerate(slides.rings(*PLACES), 7)]))
    assert found.named
    assert found.cell_id[0] == "00000000-0000-0000-0000-000000000007"
    assert np.allclose(shapely.get_coordinates(shapely.centroid(found.outline)), PLACES)
    assert (found.repaired, found.inside, found.drawn.all()) == (0, 1.0, True)


@pytest.mark.parametrize("form", ["cell", "properties", "gzip", "list", "one"])
def test_the_forms_that_qupath_writes(tmp_path, form):
    inner, outer = slides.rings(*PLACES), slides.rings(*PLACES, radius=25)
    made = [slides.feature(ring) for ring in inner]
    if form in ("cell", "properties"):  # of a cell the nucleus is taken, in the feature as QuPath has it, or within
        for whole, ring in zip(made, outer, strict=True):
            target = whole if form == "cell" else whole["properties"]
            target["nucleusGeometry"] = whole["geometry"]
            whole["geometry"] = slides.feature(ring)["geometry"]
            whole["properties"]["objectType"] = "cell"
    data = {"list": made, "one": made[0]}.get(form, slides.collection(made))
    path = slides.write(tmp_path / "n.geojson", data)
    if form == "gzip":
        packed = tmp_path / "n.geojson.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    found = nuclei(path)
    expected = inner[:1] if form == "one" else inner
    assert found.cell_id.tolist() == ["1", "2", "3", "4"][: len(expected)]
    for outline, ring in zip(found.outline, expected, strict=True):
        assert np.allclose(shapely.get_coordinates(outline), ring)


def test_regions_beside_detections_are_no_nuclei(tmp_path):
    region = slides.feature(slides.circle(150, 150, 140), "annotation", number=99)
    detected = [slides.feature(ring, number=i) for i, ring in enumerate(slides.rings(*PLACES), 1)]
    assert len(nuclei(qupath(tmp_path, [region, *detected])).cell_id) == 4
    drawn = [slides.feature(ring, "annotation", number=i) for i, ring in enumerate(slides.rings(*PLACES), 1)]
    assert len(nuclei(qupath(tmp_path, drawn)).cell_id) == 4


def test_cellvit_gathers_cells_by_class_and_each_becomes_one(tmp_path):
    parts = [(slides.circle(x, y, 14) + 0.5)[None].tolist() for x, y in PLACES]
    made = [
        {
            "type": "Feature",
            "id": f"{name}-uuid",
            "geometry": {"type": "MultiPolygon", "coordinates": group},
            "properties": {"objectType": "annotation", "classification": {"name": name, "color": [255, 0, 0]}},
        }
        for name, group in (("Neoplastic", parts[:3]), ("Connective", parts[3:]))
    ]
    found = nuclei(slides.write(tmp_path / "c.geojson", made))
    assert found.cell_id.tolist() == ["1", "2", "3", "4"]
    assert not found.named
    assert np.allclose(shapely.get_coordinates(shapely.centroid(found.outline)), PLACES)


def test_a_detection_in_two_pieces_is_one_cell(tmp_path):
    big, small = slides.circle(100, 100, 14), slides.circle(140, 100, 5)
    both = slides.feature(big)
    both["geometry"] = {"type": "MultiPolygon", "coordinates": [[(r + 0.5).tolist()] for r in (small, big)]}
    found = nuclei(qupath(tmp_path, [both, slides.feature(slides.circle(200, 200, 14))]))
    assert len(found.cell_id) == 2
    ids, polygons = cells.nucleus_of_each_cell(found.cell_id, found.outline)
    assert shapely.centroid(polygons[list(ids).index("1")]).coords[0] == pytest.approx((100, 100))


def test_crossing_outlines_are_repaired_and_those_without_area_keep_their_cell(tmp_path):
    eight = np.array([[80, 80], [110, 110], [110, 80], [80, 110], [80, 80]], float)
    line = [[10.0, 10.0], [40.0, 40.0], [10.0, 10.0], [10.0, 10.0]]
    made = [slides.feature(ring, number=i) for i, ring in enumerate([eight, line, *slides.rings(*PLACES)], 1)]
    made[1]["geometry"]["coordinates"] = [line]
    broken = slides.feature(slides.circle(5, 5, 3), number=50)
    broken["geometry"]["coordinates"] = [[[1, 2]]]
    path = qupath(tmp_path, [*made, broken])
    found = nuclei(path)
    assert len(found.cell_id) == 7
    assert found.drawn.tolist() == [True, False, True, True, True, True, False]
    assert found.repaired == 1
    assert shapely.is_valid(found.outline[found.drawn]).all()
    assert shapely.area(found.outline[0]) == pytest.approx(450)
    sdata, facts = ingest.read_slide(slides.tiff(tmp_path / "s.tif"), path, None)
    assert (facts["cells"], facts["nuclei"], facts["repaired_outlines"]) == (7, 5, 1)
    ingest.write_store(sdata, tmp_path / "s.zarr")
    assert len(store.read_cell_ids(tmp_path / "s.zarr")) == 7
    assert len(store.read_nuclei(tmp_path / "s.zarr")[0]) == 5


@pytest.mark.parametrize("ids", [[1, 1, 2, 3], [1, None, 2, 3]])
def test_ids_that_name_no_single_cell_become_numbers_and_are_warned_of(tmp_path, ids):
    path = qupath(tmp_path, [slides.feature(r, number=i) for i, r in zip(ids, slides.rings(*PLACES), strict=True)])
    assert nuclei(path).cell_id.tolist() == ["1", "2", "3", "4"]
    findings = Findings()
    row = {"path": str(slides.tiff(tmp_path / "s.tif")), "nuclei": str(path), "platform": "slide", "role": "predict"}
    header = sample_checks.check_sample(row, findings)
    assert findings.problems == []
    assert ["share them" in str(warning) for warning in findings.warnings] == [True]
    assert (header.nuclei, header.mpp, header.he_shape) == (4, pytest.approx((0.25, 0.25)), (300, 400))


def scaled(factor):
    return slides.collection([slides.feature(ring * factor) for ring in slides.rings(*PLACES)])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{", "no GeoJSON of features"),
        ("[3]", "no GeoJSON of features"),
        ({"cells": []}, "no GeoJSON of features"),
        ([], "no polygons among its 0 features"),
        ([{"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 5]}, "properties": {}}], "no polygons"),
        ([{"type": "Feature", "geometry": None, "properties": None}], "no polygons among its 1 features"),
        (scaled(0.25), "; as µm, 7 would be the size of a nucleus"),
        (scaled(10), "these are regions, no nuclei"),
        (slides.collection([slides.feature(r + 1000) for r in slides.rings(*PLACES)]), "only 0% of the outlines"),
    ],
    ids=["text", "numbers", "other", "empty", "points", "null", "micrometres", "regions", "elsewhere"],
)
def test_outlines_that_cannot_be_used_are_refused(tmp_path, data, said):
    path = slides.write(tmp_path / "n.geojson", data)
    with pytest.raises(InputError) as raised:
        nuclei(path)
    assert said in str(raised.value)
    assert "QuPath" in str(raised.value)


def test_geojson_of_another_reader_is_the_same(tmp_path):
    path = qupath(tmp_path, [slides.feature(r, number=i) for i, r in enumerate(slides.rings(*PLACES), 1)])
    frame = geopandas.read_file(path)
    assert np.allclose(shapely.get_coordinates(frame.geometry) - 0.5, shapely.get_coordinates(nuclei(path).outline))
    assert json.loads(path.read_text())["features"][0]["id"] == nuclei(path).cell_id[0]
