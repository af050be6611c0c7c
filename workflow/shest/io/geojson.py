"""GeoJSON as the programs of pathologists write it: QuPath (and StarDist in it), CellViT.

Coordinates are px of the full-size image with QuPath's origin, the upper left corner of the first pixel; everywhere
else in this project the centres of pixels are at integers, so :data:`CORNER` lies between the two.
"""

import gzip
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely

from shest.core.errors import InputError, one_line

CORNER = 0.5  # px from the corner of a pixel, QuPath's origin, to its centre, this project's
UNCLASSIFIED = "Unclassified"
OBJECTS = ("cell", "detection", "PathCellObject", "PathDetectionObject")  # the second pair: QuPath before 0.3
POINTS = ("Point", "MultiPoint")
NUCLEI_REMEDY = (
    "Detect cells in QuPath (Analyze > Cell detection, or the StarDist extension) and export them (File > Export "
    "objects as GeoJSON), or run CellViT with --geojson; name the file in column nuclei"
)


class Feature(NamedTuple):
    """One feature of a file.

    ``id`` as it stands there, or None · ``kind``: QuPath's objectType, empty where nothing is said · ``name`` of its
    class · ``geometry`` and ``nucleus`` (of a cell of QuPath): shapely geometries in the file's px, empty where they
    cannot be drawn, None where there are none or they are neither areas nor points.
    """

    id: str | None
    kind: str
    name: str
    geometry: Any
    nucleus: Any


def read(path: str | Path, remedy: str) -> list[Feature]:
    """Read a FeatureCollection, a list of features or one feature; ``.gz`` is unpacked.

    Geometries become shapely's while the text is parsed: of 300,000 outlines only one at a time is ever in lists.

    Raises
    ------
    InputError
        The file is not there, or is no GeoJSON of features; it ends with ``remedy``.
    """
    try:
        opened = gzip.open if str(path).endswith(".gz") else open
        with opened(path, "rt", encoding="utf-8-sig") as file:
            data = json.load(file, object_hook=_parsed)
        features = data.get("features") if isinstance(data, dict) else [data] if isinstance(data, Feature) else data
        if not isinstance(features, list) or not all(isinstance(feature, Feature) for feature in features):
            raise ValueError("no list of features")
    except FileNotFoundError:
        raise InputError(path, "not there", remedy) from None
    except Exception as error:
        raise InputError(path, f"no GeoJSON of features ({one_line(error)})", remedy) from None
    return features


def _parsed(item: dict) -> Any:
    """Turn geometries and features into what they are; leave every other object as it is."""
    if "coordinates" in item and "type" in item:
        return _geometry(item["type"], item["coordinates"])
    if item.get("type") != "Feature":
        return item
    properties = item.get("properties") or {}
    nucleus = item.get("nucleusGeometry", properties.get("nucleusGeometry"))
    object_type = properties.get("objectType") or properties.get("object_type") or ""
    identity = item.get("id")
    return Feature(
        None if identity is None else str(identity),
        sys.intern(str(object_type or (identity if identity in OBJECTS else ""))),
        sys.intern(_class_name(properties.get("classification"))),
        item.get("geometry"),
        nucleus,
    )


def _class_name(given: Any) -> str:
    """Name of a classification, which is an object with a name, or with names of derived classes, or a text."""
    if isinstance(given, dict):
        given = given.get("name") or ": ".join(map(str, given.get("names") or []))
    return str(given) if given else UNCLASSIFIED


def _geometry(kind: str, coordinates: Any) -> Any:
    try:
        if kind == "Polygon":
            return _polygon(coordinates)
        if kind == "MultiPolygon":
            return shapely.multipolygons([_polygon(rings) for rings in coordinates])
        if kind in POINTS:
            points = np.atleast_2d(np.asarray(coordinates, dtype=float))
            return shapely.multipoints(points[:, :2])
    except (ValueError, TypeError, IndexError, shapely.errors.GEOSException):
        return shapely.Polygon()
    return None


def _polygon(rings: list) -> shapely.Polygon:
    """Only the outer ring: what an outline leaves out is no hole in a nucleus."""
    return shapely.Polygon(np.asarray(rings[0], dtype=float)[:, :2])


def objects(features: Sequence[Feature]) -> tuple[np.ndarray, np.ndarray]:
    """Take the single objects out of features.

    Of a cell the nucleus is taken. Where there are cells or detections, annotations are regions that they were
    looked for in and are left out. A ``MultiPolygon`` or ``MultiPoint`` of a cell or a detection is one object; that
    of anything else gathers many, as CellViT writes all cells of a class.

    Returns
    -------
    geometry : (n,) shapely geometries in the file's px
    owner : (n,) int, the feature that each comes from
    """
    detected = np.array([feature.kind in OBJECTS for feature in features], dtype=bool)
    taken = np.flatnonzero(detected if detected.any() else ~detected)
    shapes = np.empty(len(taken), dtype=object)
    shapes[:] = [f.nucleus if f.nucleus is not None else f.geometry for f in (features[i] for i in taken)]
    present = ~shapely.is_missing(shapes)
    shapes, taken = shapes[present], taken[present]
    if detected.any():
        return shapes, taken
    empty = shapely.is_empty(shapes)  # without parts, but still to be told of
    parts, owner = shapely.get_parts(shapes[~empty], return_index=True)
    return np.concatenate([parts, shapes[empty]]), np.concatenate([taken[~empty][owner], taken[empty]])
