"""A plain slide: H&E without transcriptomics, and the outlines of its nuclei that another program found.

TIFF of all kinds (SVS, NDPI, OME, Philips, generic) is read by tifffile, MRXS by OpenSlide, PNG and JPEG by Pillow.
"""

import html
import re
import warnings
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import shapely
import tifffile

from shest.core.errors import InputError, one_line
from shest.io import geojson
from shest.io.geojson import NUCLEI_REMEDY
from shest.io.header import FEW_INSIDE, MPP_RANGE, share_inside
from shest.io.image import AGAIN, CHUNKS, read_he, try_tile

IN_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0, "in": 25400.0}
RESOLUTION_UM = {2: 25400.0, 3: 1e4, 4: 1e3, 5: 1.0}  # TIFF's ResolutionUnit: inch, cm, mm, µm
PICTURES, BY_OPENSLIDE = (".png", ".jpg", ".jpeg"), (".mrxs",)
NUCLEUS_UM = (2.5, 40.0)  # median size of outlines: below are no px of the full size, above no nuclei
SET_MPP = "Give the size of a pixel in µm in column mpp of the sheet (a 40x scan has about 0.25, a 20x scan 0.5)"


@dataclass
class Nuclei:
    """Outlines of a plain slide.

    Attributes
    ----------
    cell_id
        (n,) str: the features' ids where each outline has one of its own, else numbers from 1.
    outline
        (n,) valid (multi)polygons in H&E px, pixel centres at integers; None where an outline has no area.
    repaired
        How many crossed themselves and were repaired.
    named
        Whether the ids are those of the file.
    inside
        Share of the outlines whose centroid lies on the slide.
    """

    cell_id: np.ndarray
    outline: np.ndarray
    repaired: int
    named: bool
    inside: float

    @property
    def drawn(self) -> np.ndarray:
        """Which cells have an outline, (n,) bool."""
        return ~shapely.is_missing(self.outline)


def read_image(path: str | Path) -> da.Array:
    """Open the largest image of a slide lazily, (3, height, width) uint8; raise as :func:`shest.io.image.read_he`."""
    suffix = Path(path).suffix.lower()
    if suffix in PICTURES or suffix in BY_OPENSLIDE:
        pixels = read_picture(path) if suffix in PICTURES else read_by_openslide(path)
        try_tile(path, pixels)
        return pixels.rechunk(CHUNKS)
    try:
        with tifffile.TiffFile(path) as tiff:
            series = largest(tiff)
    except (OSError, ValueError, IndexError):  # said in one way there
        series = 0
    return read_he(path, series)


def read_picture(path: str | Path) -> da.Array:
    """Open a PNG or a JPEG, (3, height, width) uint8; it is decoded whole, once, where it is needed.

    Raises
    ------
    InputError
        The file is missing, no such picture, not in colour, or larger than Pillow reads (179 megapixels).
    """
    from PIL import Image

    def decode() -> np.ndarray:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return np.moveaxis(np.asarray(picture.convert("RGB")), -1, 0)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                (width, height), mode = picture.size, picture.mode
    except FileNotFoundError:
        raise InputError(path, "the slide is not there", "Correct the path") from None
    except Image.DecompressionBombError:
        raise InputError(path, "too large for a PNG or JPEG, which is decoded whole", "Save it as tiled TIFF") from None
    except OSError as error:
        raise InputError(path, f"no picture that can be read ({one_line(error)})", AGAIN) from None
    if mode not in ("RGB", "RGBA"):
        raise InputError(path, f"mode {mode}: no 8-bit RGB image", "Export the H&E as 8-bit RGB")
    return da.from_delayed(dask.delayed(decode, pure=False)(), (3, height, width), np.uint8)


class _OpenSlidePixels:
    """The full size of a slide that OpenSlide reads, as Dask reads arrays; what was not scanned is white."""

    ndim, dtype = 3, np.dtype(np.uint8)

    def __init__(self, opened: Any) -> None:
        self.opened = opened
        width, height = opened.dimensions
        self.shape = (3, height, width)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        (top, bottom, _), (left, right, _) = (k.indices(n) for k, n in zip(key[1:], self.shape[1:], strict=True))
        rgba = np.asarray(self.opened.read_region((left, top), 0, (right - left, bottom - top)))
        rgb = np.where(rgba[..., 3:] > 0, rgba[..., :3], 255)
        return np.moveaxis(rgb, -1, 0)[key[0]]


def read_by_openslide(path: str | Path) -> da.Array:
    """Open the full size of a slide by OpenSlide, (3, height, width) uint8.

    Raises
    ------
    InputError
        The file is missing, or no slide that OpenSlide reads.
    """
    return da.from_array(_OpenSlidePixels(_openslide(path)), chunks=CHUNKS, name=False, asarray=False)


def _openslide(path: str | Path) -> Any:
    import openslide

    if not Path(path).is_file():
        raise InputError(path, "the slide is not there", "Correct the path")
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        remedy = "Copy it again; an MRXS has a folder of its name beside it"
        raise InputError(path, f"no slide that OpenSlide reads ({one_line(error)})", remedy) from None


def read_scales(path: str | Path) -> list[da.Array]:
    """Open the image of a slide and the levels of its pyramid lazily, (3, height, width) uint8 each, full size first.

    Levels are those of a TIFF; of other formats there is the full size. Raises as :func:`read_image`.
    """
    full = read_image(path)
    if Path(path).suffix.lower() in (*PICTURES, *BY_OPENSLIDE):
        return [full]
    with tifffile.TiffFile(path) as tiff:
        series = largest(tiff)
        levels = len(tiff.series[series].levels)
    return [full, *(read_he(path, series, level) for level in range(1, levels))]


def largest(tiff: tifffile.TiffFile) -> int:
    """Return the number of the series with most pixels: beside the slide there are labels and overviews."""
    return int(np.argmax([np.prod(series.shape, dtype=float) for series in tiff.series]))


def read_mpp(path: str | Path, given: str | float | None) -> tuple[float, float]:
    """Return the size of a slide's pixels, µm along x and y: the sheet's, else what the file says of itself.

    Raises
    ------
    InputError
        The sheet gives none, and the file says nothing, or what no microscope scans at.
    """
    if given is not None:
        if not MPP_RANGE[0] <= float(given) <= MPP_RANGE[1]:
            raise InputError(path, f"mpp {given} in the sheet is no size of an H&E pixel in µm", SET_MPP)
        return float(given), float(given)
    mpp = _mpp_of_file(path)
    if mpp is None:
        raise InputError(path, "does not say how large its pixels are", SET_MPP)
    if not all(MPP_RANGE[0] <= size <= MPP_RANGE[1] for size in mpp):
        raise InputError(
            path, f"says that its pixels are {mpp[0]:.4g} by {mpp[1]:.4g} µm, which no H&E scan has", SET_MPP
        )
    return mpp


def _mpp_of_file(path: str | Path) -> tuple[float, float] | None:
    """Size of a pixel by what the file says, µm; PNG and JPEG know of screens and printers alone."""
    suffix = Path(path).suffix.lower()
    if suffix in PICTURES:
        return None
    if suffix in BY_OPENSLIDE:
        properties = _openslide(path).properties
        sizes = [properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
        return tuple(map(float, sizes)) if all(sizes) else None
    with tifffile.TiffFile(path) as tiff:
        series = largest(tiff)
        return _mpp_of_vendor(tiff, series) or _mpp_of_resolution(tiff, series)


def _mpp_of_vendor(tiff: tifffile.TiffFile, series: int) -> tuple[float, float] | None:
    """Size of a pixel by the text that OME, Aperio and Philips put into the file, µm."""
    if tiff.is_ome:
        images = [e for e in ElementTree.fromstring(tiff.ome_metadata).iter() if e.tag.endswith("}Pixels")]
        attributes = images[min(series, len(images) - 1)].attrib if images else {}
        sizes = [
            (attributes.get(f"PhysicalSize{axis}"), attributes.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"
        ]
        if all(size and unit in IN_UM for size, unit in sizes):
            return tuple(float(size) * IN_UM[unit] for size, unit in sizes)
    if tiff.is_svs:
        match = re.search(r"\bMPP\s*=\s*([0-9.]+)", tiff.pages[0].description)
        return (float(match.group(1)),) * 2 if match else None
    if tiff.is_philips:
        text = html.unescape(tiff.philips_metadata)
        match = re.search(r'DICOM_PIXEL_SPACING"[^>]*>\s*"?([0-9.eE-]+)"?\s+"?([0-9.eE-]+)', text)
        return (float(match.group(2)) * 1e3, float(match.group(1)) * 1e3) if match else None  # rows first, mm
    return None


def _mpp_of_resolution(tiff: tifffile.TiffFile, series: int) -> tuple[float, float] | None:
    """Size of a pixel by TIFF's resolution tags, µm; those of a screen or a printer say nothing."""
    tags = tiff.series[series].levels[0].keyframe.tags
    unit = RESOLUTION_UM.get(int(tags["ResolutionUnit"].value)) if "ResolutionUnit" in tags else None
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    per_unit = [n / d if d else 0.0 for n, d in (tags[name].value for name in ("XResolution", "YResolution"))]
    sizes = tuple(unit / n if n else 0.0 for n in per_unit)
    return sizes if all(0 < size < 5 for size in sizes) else None


def read_nuclei(path: str | Path, shape: tuple[int, int], mpp: tuple[float, float]) -> Nuclei:
    """Read the outlines of a slide's nuclei.

    Parameters
    ----------
    path
        GeoJSON (see :mod:`shest.io.geojson`), in px of the slide's full size.
    shape
        Height and width of the slide, px.
    mpp
        µm per px along x and y.

    Raises
    ------
    InputError
        The file is no GeoJSON, has no areas, lies beside the slide, or is in other units than the slide's px.
    """
    features = geojson.read(path, NUCLEI_REMEDY)
    shapes, owner = geojson.objects(features)
    areas = np.isin(shapely.get_type_id(shapes), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    shapes, owner = shapes[areas], owner[areas]
    if not len(shapes) or shapely.is_empty(shapes).all():
        raise InputError(path, f"no polygons among its {len(features):,} features", NUCLEI_REMEDY)
    crossed = ~shapely.is_valid(shapes)
    shapes[crossed] = shapely.make_valid(shapes[crossed], method="structure", keep_collapsed=False)
    shapes = shapely.transform(shapes, lambda xy: xy - geojson.CORNER)
    shapes[~(shapely.area(shapes) > 0)] = None
    drawn = shapes[~shapely.is_missing(shapes)]
    inside = _check_place(path, drawn, shape, mpp)
    cell_id, named = _names([features[i].id for i in owner], owner)
    return Nuclei(cell_id, shapes, int((crossed & ~shapely.is_missing(shapes)).sum()), named, inside)


def _names(ids: list[str | None], owner: np.ndarray) -> tuple[np.ndarray, bool]:
    """Name the cells by their features' ids if each has one of its own, else by numbers that sort as they count."""
    if None not in ids and len(set(ids)) == len(ids) == len(np.unique(owner)):
        return np.array(ids, dtype=str), True
    width = len(str(len(ids)))
    return np.array([f"{number:0{width}d}" for number in range(1, len(ids) + 1)]), False


def _check_place(path: str | Path, shapes: np.ndarray, shape: tuple[int, int], mpp: tuple[float, float]) -> float:
    """Refuse outlines that are not of this slide's px; return which share of them lies on it."""
    if not len(shapes):
        raise InputError(path, "none of its polygons has an area", NUCLEI_REMEDY)
    bounds = shapely.bounds(shapes)
    sides = bounds[:, 2:] - bounds[:, :2]
    px, um = float(np.median(sides.mean(axis=1))), float(np.median((sides * mpp).mean(axis=1)))
    units = "Export them in px of the slide's full size, as QuPath's GeoJSON is"
    problem = f"half of the outlines are less than {um:.2g} µm wide on this slide ({px:.3g} px of {mpp[0]:.4g} µm)"
    if um < NUCLEUS_UM[0]:
        if NUCLEUS_UM[0] <= px <= NUCLEUS_UM[1]:
            problem += f"; as µm, {px:.3g} would be the size of a nucleus: they are in µm, or in px of a smaller level"
        raise InputError(path, problem, units)
    if um > NUCLEUS_UM[1]:
        raise InputError(
            path,
            f"half of the outlines are more than {um:.3g} µm wide: these are regions, no nuclei",
            f"{units}; leave out what is no cell",
        )
    inside = share_inside(shapely.get_coordinates(shapely.centroid(shapes)), shape)
    if inside < FEW_INSIDE:
        reach = ", ".join(f"{value:,.0f}" for value in bounds[:, 2:].max(axis=0))
        raise InputError(
            path,
            f"only {inside:.0%} of the outlines lie on the slide of {shape[1]:,} by {shape[0]:,} "
            f"px; they reach to {reach}",
            f"Check that they are of this slide. {units}",
        )
    return inside
