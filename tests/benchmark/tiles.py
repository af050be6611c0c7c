"""Tiles: the project's path against the direct transcription, alternating in one run on the same windows.

    cd tests && python -m benchmark.tiles

Windows come from a real slide (the bundle colon_train of SHEST_KIT, where it is there) and from a simulated one.
Both paths do the whole work of a cell: crop, resize, rasterise, colour deconvolution, quadruple tile. The
transcription runs on one thread. The last line is JSON; its ratios are those of the slide that is worse.
"""

import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
import tifffile
import torch
from support import oracle
from support.memory import Peak

from shest.core import files
from shest.io import store
from shest.io.registration import Registration
from shest.simulate.profiles import read_markers
from shest.simulate.slide import simulate_slide
from shest.simulate.spec import Slide
from shest.tiles import blocks, quadruple, raster, shards
from shest.tissue import cells

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

KIT = Path(os.environ.get("SHEST_KIT", ROOT / ".." / "shared" / "data" / "kit"))
LIMITS = {"min_um": 2, "max_um": 16, "max_mean_grey": 230}
BLOCK_PX = 2048
WINDOWS, ROUNDS, REPEATS = 1024, 12, 4  # as many windows as a block holds: threads are started once a call
SEED = 42


@dataclass
class Source:
    """A slide in memory with the cells that are kept on it, outlines in H&E px."""

    name: str
    image: np.ndarray
    mpp: tuple[float, float]
    ids: np.ndarray
    polygons: np.ndarray
    centres: np.ndarray

    @property
    def window(self) -> tuple[int, int]:
        return quadruple.window_shape(16, *self.mpp)


def read_bundle(folder: Path) -> Source:
    """Read H&E, alignment and nuclei of a Xenium bundle; keep the cells that the rule ``cells`` keeps."""
    image = tifffile.imread(folder / f"{folder.name}_he_image.ome.tif")
    image = np.ascontiguousarray(np.moveaxis(image, -1, 0) if image.shape[-1] == 3 else image)
    specs = json.loads((folder / "experiment.xenium").read_text())
    matrix = np.loadtxt(folder / f"{folder.name}_he_imagealignment.csv", delimiter=",")
    found = Registration.of_alignment(matrix, specs["pixel_size"])
    corners = pd.read_parquet(folder / "nucleus_boundaries.parquet")
    label = corners["label_id"] if "label_id" in corners else corners["cell_id"]
    ring = np.unique(label, return_inverse=True)[1]
    order = np.argsort(ring, kind="stable")
    xy = corners[["vertex_x", "vertex_y"]].to_numpy(float)[order]
    outlines = shapely.polygons(shapely.linearrings(xy, indices=ring[order]))
    first = np.unique(ring[order], return_index=True)[1]
    names = corners["cell_id"].to_numpy(str)[order][first]
    ids, polygons = cells.nucleus_of_each_cell(names, store.transform_outlines(outlines, found.um_to_he))
    mpp = found.mpp
    grey = cells.grey_by_block(image, BLOCK_PX, 1)
    table = cells.cell_table(ids, ids, polygons, image.shape[1:], mpp, LIMITS, 16, grey)
    kept = table["kept"].to_numpy()
    return Source(folder.name, image, mpp, ids[kept], polygons[kept], table.loc[kept, ["x", "y"]].to_numpy())


def sources(folder: Path) -> list[Source]:
    """The real slide, where the kit is there, and a simulated one."""
    found = []
    if (KIT / "colon_train").is_dir():
        found.append(read_bundle(KIT / "colon_train"))
    else:
        print(f"no kit at {KIT} (set SHEST_KIT): the simulated slide alone")
    simulate_slide(
        Slide("simulated", cells=1500, genes=60), read_markers(ROOT / "resources" / "markers.tsv"), folder / "simulated"
    )
    return [*found, read_bundle(folder / "simulated")]


def by_transcription(source: Source, chosen: np.ndarray) -> np.ndarray:
    """Cell after cell, straight from the definition."""
    height, width = source.window
    sides, made = (width, height), []
    for cell in chosen:
        x, y = (int(np.floor(c - side / 2 + 1)) for c, side in zip(source.centres[cell], sides, strict=True))
        window = np.moveaxis(source.image[:, y : y + height, x : x + width], 0, -1)
        outline = shapely.get_coordinates(source.polygons[cell].exterior)
        made.append(oracle.tile(window, outline, (x, y)))
    return np.stack(made)


def by_project(source: Source, chosen: np.ndarray, threads: int, out: np.ndarray) -> np.ndarray:
    """The kernels that the rules and the encoders' feed use."""
    centres, window = source.centres[chosen], source.window
    origins = np.stack(quadruple.window_origin(*centres.T, *window), axis=1)
    points, owner = shapely.get_coordinates(shapely.get_exterior_ring(source.polygons[chosen]), return_index=True)
    start = np.searchsorted(owner, np.arange(len(chosen) + 1))
    whole = blocks.Block(0, 0, np.arange(len(chosen)), 0, source.image.shape[1], 0, source.image.shape[2])

    def part(begin: int, end: int) -> None:
        some = slice(begin, end)
        block = blocks.Block(0, 0, whole.cells[some], whole.top, whole.bottom, whole.left, whole.right)
        windows = blocks.cut(block, source.image, origins, window)
        outlines, begins = points[start[begin] : start[end]], start[begin : end + 1] - start[begin]
        masks = raster.rasterise(outlines, begins, origins[some], window)
        quadruple.assemble(windows, masks, 1, out[some])

    quadruple.share(part, len(chosen), threads)
    return out


def seconds(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def compare(source: Source) -> dict:
    """Alternate the two on the same windows; medians over the rounds."""
    rng = np.random.default_rng(SEED)
    out = np.zeros((WINDOWS, 224, 224, 3), np.uint8)
    by_project(source, np.arange(8), 2, out[:8])  # compiled before it is timed
    rates, difference = {"oracle": [], 1: [], 2: []}, 0
    for _ in range(ROUNDS):
        chosen = rng.choice(len(source.ids), WINDOWS, replace=len(source.ids) < WINDOWS)
        expected = []
        rates["oracle"].append(WINDOWS / seconds(lambda: expected.append(by_transcription(source, chosen))))  # noqa: B023
        for threads in (1, 2):
            out[:] = 0
            took = sum(seconds(lambda: by_project(source, chosen, threads, out)) for _ in range(REPEATS))  # noqa: B023
            rates[threads].append(WINDOWS * REPEATS / took)
            difference = max(difference, int(np.abs(out.astype(np.int16) - expected[0]).max()))
    result = {name: float(np.median(rate)) for name, rate in rates.items()}
    for threads in (1, 2):
        result[f"ratio_{threads}"] = float(np.median(np.array(rates[threads]) / np.array(rates["oracle"])))
    return result | {"difference": difference}


def stored(source: Source, folder: Path) -> dict:
    """Write all cells' tiles as the rule does: bytes a cell and peak of anonymous memory."""
    points, owner = shapely.get_coordinates(shapely.get_exterior_ring(source.polygons), return_index=True)
    start = np.searchsorted(owner, np.arange(len(source.ids) + 1))
    with Peak() as peak:
        written = shards.write_shards(
            folder, source.image, source.ids, source.centres, points, start, source.window, BLOCK_PX, 2
        )
        files.write_json(folder / "tiles.json", shards.index(source.window, 16, source.mpp, written))
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"bytes": size / len(source.ids), "peak_mb": peak.megabytes}


def show(source: Source, found: dict) -> None:
    """Print a slide's part of the table."""
    print(f"\n{source.name}: {len(source.ids):,} cells, windows of {source.window} px")
    print(f"  transcription      {found['oracle']:8,.0f} cells/s")
    for threads in (1, 2):
        print(
            f"  project, {threads} thread{'s'[: threads - 1]:1} {found[threads]:8,.0f} cells/s, "
            f"ratio {found[f'ratio_{threads}']:.1f}"
        )
    print(
        f"  largest difference {found['difference']}, {found['bytes']:,.0f} bytes a cell, "
        f"peak {found['peak_mb']:,.0f} MB"
    )


def main() -> None:
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for source in sources(Path(folder)):
            found = compare(source) | stored(source, Path(folder) / f"tiles of {source.name}")
            results.append(found)
            show(source, found)
    print(
        json.dumps(
            {
                "ratio_1": round(min(r["ratio_1"] for r in results), 2),
                "ratio_2": round(min(r["ratio_2"] for r in results), 2),
                "max_difference": max(r["difference"] for r in results),
                "bytes_per_cell": round(max(r["bytes"] for r in results)),
                "peak_mb": round(max(r["peak_mb"] for r in results)),
            }
        )
    )


if __name__ == "__main__":
    main()
