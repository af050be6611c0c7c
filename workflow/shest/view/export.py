"""Predictions for the programs that pathologists use: GeoJSON for QuPath, groups of cells for Xenium Explorer."""

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb

from shest.core.files import atomic_write
from shest.io.geojson import CORNER

MEASUREMENTS = ("probability", "entropy", "disagreement")
GROUPS = ["cell_id", "group"]  # the header that Xenium Explorer asks for


def object_id(sample: str, cell_id: str) -> str:
    """Return the UUID that QuPath knows the cell by: its id if that is one, else one made of sample and id."""
    try:
        return str(uuid.UUID(cell_id))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"shest:{sample}/{cell_id}"))


def features(
    sample: str, cells: pd.DataFrame, points: np.ndarray, start: np.ndarray, palette: Mapping[str, str]
) -> Iterator[str]:
    """Yield each cell as a GeoJSON feature that QuPath (0.4 or later) reads as a detection, classified by its type.

    Parameters
    ----------
    sample
        Name of the sample.
    cells
        By cell_id: cell_type and the columns of :data:`MEASUREMENTS`.
    points, start
        Outlines of the nuclei in the order of ``cells``: (v, 2) H&E px, pixel centres at integers, and where each
        begins, (n + 1,).
    palette
        Colour of each type, as matplotlib knows it.
    """
    colour = {name: [round(255 * part) for part in to_rgb(value)] for name, value in palette.items()}
    columns = [cells["cell_type"].astype(object), *(cells[name].astype(float) for name in MEASUREMENTS)]
    for number, (cell_id, cell_type, *values) in enumerate(zip(cells.index, *columns, strict=True)):
        ring = np.round(points[start[number] : start[number + 1]] + CORNER, 2).tolist()
        if ring[0] != ring[-1]:
            ring.append(ring[0])
        known = {"classification": {"name": cell_type, "color": colour[cell_type]}} if cell_type in colour else {}
        measured = {k: round(v, 6) for k, v in zip(MEASUREMENTS, values, strict=True) if np.isfinite(v)}
        yield json.dumps(
            {
                "type": "Feature",
                "id": object_id(sample, cell_id),
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"objectType": "detection", "name": cell_id, **known, "measurements": measured},
            },
            ensure_ascii=False,
            separators=(",", ":"),
            allow_nan=False,
        )


def write_qupath(path: str | Path, parts: Iterator[str]) -> None:
    """Write a FeatureCollection of features, one a line as they come: memory does not grow with their number."""
    with atomic_write(path) as tmp_path, open(tmp_path, "w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection","features":[')
        for number, part in enumerate(parts):
            file.write(",\n" if number else "\n")
            file.write(part)
        file.write("\n]}\n")


def write_explorer(path: str | Path, cells: pd.DataFrame) -> None:
    """Write which group each cell is in, as Xenium Explorer reads it; cells that it does not name stay ungrouped."""
    table = pd.DataFrame({"cell_id": cells.index.to_numpy(str), "group": cells["cell_type"].to_numpy(object)})
    with atomic_write(path) as tmp_path:
        table.dropna().to_csv(tmp_path, index=False, columns=GROUPS)
