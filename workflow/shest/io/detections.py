"""Cells that another system found in the H&E, and the classes it gave them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import shapely

from shest.core.errors import Findings, InputError, did_you_mean, one_line
from shest.io import geojson, programs

COLUMNS = ["x", "y", "class"]
REMEDY = "Export the system's cells again, and set the comparator's format to what the file is"


def read(path: str | Path, form: str, scale: float = 1.0) -> pd.DataFrame:
    """Read another system's cells.

    Parameters
    ----------
    path
        File of the system.
    form
        ``hovernet`` (HoVer-Net's JSON), ``geojson`` (QuPath, CellViT) or ``csv`` (columns x, y, class).
    scale
        H&E px per px of the file: 0.5 where the system worked at 40x and the H&E was scanned at 20x.

    Returns
    -------
    x, y (H&E px, pixel centres at integers) and class (text), sorted, so that the order in the file says nothing.

    Raises
    ------
    InputError
        The file is not there, is not in that format, holds no cells, or cells without a place.
    """
    table = {"hovernet": _read_hovernet, "geojson": _read_geojson, "csv": _read_csv}[form](path)
    xy = table[["x", "y"]].to_numpy(float)
    if not len(table):
        raise InputError(path, "no cells in it", REMEDY)
    if not np.isfinite(xy).all():
        raise InputError(path, f"{int((~np.isfinite(xy).all(axis=1)).sum()):,} cells without a place", REMEDY)
    table[["x", "y"]] = (xy + geojson.CORNER) * scale - geojson.CORNER  # the corner of the image stays where it is
    return table.sort_values(COLUMNS, ignore_index=True)[COLUMNS]


def _read_hovernet(path: str | Path) -> pd.DataFrame:
    """Read ``{"mag": …, "nuc": {id: {"centroid": [x, y], "type": int, …}}}``; old files hold the inner object alone."""

    def without_outline(item: dict) -> dict | tuple:
        return (*item["centroid"], item.get("type")) if "centroid" in item else item

    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file, object_hook=without_outline)
        table = pd.DataFrame(
            [(float(x), float(y), label) for x, y, label in data.get("nuc", data).values()], columns=COLUMNS
        )
    except FileNotFoundError:
        raise InputError(path, "not there", REMEDY) from None
    except Exception as error:
        raise InputError(path, f"no JSON of HoVer-Net ({one_line(error)})", REMEDY) from None
    if table["class"].isna().any():
        raise InputError(
            path,
            f"{int(table['class'].isna().sum()):,} nuclei without a type",
            "Run HoVer-Net with nr_types and a model that tells types",
        )
    table["class"] = table["class"].map(lambda label: str(int(label)) if isinstance(label, float) else str(label))
    return table


def _read_geojson(path: str | Path) -> pd.DataFrame:
    features = geojson.read(path, REMEDY)
    shapes, owner = geojson.objects(features)
    drawn = ~shapely.is_empty(shapes)
    points = shapely.get_coordinates(shapely.centroid(shapes[drawn])) - geojson.CORNER
    names = np.array([features[i].name for i in owner[drawn]], dtype=object)
    return pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "class": names})


def _read_csv(path: str | Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype={"class": str}, keep_default_na=False, na_values={"x": [""], "y": [""]})
    except FileNotFoundError:
        raise InputError(path, "not there", REMEDY) from None
    except Exception as error:
        raise InputError(path, f"no CSV ({one_line(error)})", REMEDY) from None
    lacking = [column for column in COLUMNS if column not in table]
    if lacking:
        raise InputError(
            path,
            f"no column {', '.join(lacking)}",
            f"{did_you_mean(lacking[0], table.columns)} The columns are x, y (H&E px) and class",
        )
    for column in ("x", "y"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        if (numbers.isna() & table[column].notna()).any():
            wrong = table[column][numbers.isna() & table[column].notna()].iloc[0]
            raise InputError(path, f"{column} is no number: {wrong!r}", "x and y are H&E px")
        table[column] = numbers
    return table[COLUMNS].copy()


def map_types(path: str | Path, classes: pd.Series, table: Mapping, key: str) -> np.ndarray:
    """Return the type (n,) that each class stands for, None where the table ignores it.

    Parameters
    ----------
    path
        File that the classes come from.
    classes
        (n,) text.
    table
        Type, or None, by class; keys that are numbers stand for their text.
    key
        Where the table stands in the config.

    Raises
    ------
    InputError
        The file has a class that the table lacks.
    """
    types = {str(name): cell_type for name, cell_type in table.items()}
    numbers = classes.value_counts()
    lacking = [name for name in numbers.index if name not in types]
    if lacking:
        listed = ", ".join(f"{name} ({count:,})" for name, count in numbers.items())
        raise InputError(
            path,
            f"has the class {', '.join(map(repr, lacking))}, which {key} does not map; its classes are {listed}",
            "Map it to a type of cell_types, or to null to ignore it",
        )
    return np.array([types[name] for name in classes], dtype=object)


def check(comparators: Mapping[str, Mapping], findings: Findings) -> dict[str, dict]:
    """Check that other systems' labels of a sample can be read, and that the config maps every class in them.

    Parameters
    ----------
    comparators
        By name: ``path``, ``format``, ``scale`` and ``types`` of a comparator.

    Returns
    -------
    dict
        By name: how many ``cells`` of each class there are; of predictions (h5ad), how many cells and genes.
    """
    counts = {}
    for name, entry in comparators.items():
        path, key = entry["path"], f"evaluate.comparators.{name}.types"
        if entry["format"] == "h5ad":
            found = findings.attempt(path, programs.REMEDY, programs.read, path, entry["scale"])
            if found is not None:
                said = found.text("cell_type")
                if said is not None and entry["types"]:
                    findings.attempt(path, REMEDY, map_types, path, pd.Series(said), entry["types"], key)
                counts[name] = {"cells": found.data.n_obs, "genes": len(found.genes)}
            continue
        table = findings.attempt(path, REMEDY, read, path, entry["format"], entry["scale"])
        if table is not None:
            findings.attempt(path, REMEDY, map_types, path, table["class"], entry["types"], key)
            counts[name] = {"cells": table["class"].value_counts().sort_index().to_dict()}
    return counts
