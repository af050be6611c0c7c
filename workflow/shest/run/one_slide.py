"""A plain slide from its pixels to predictions in one process: every stage hands over in memory.

What it writes is what the rules of each stage write, but for the store and, unless they are to be kept, the tiles: the
slide is read from its own file, and its tiles go to the encoder as they are cut.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
import numpy as np
import pandas as pd

from shest.core import console, files
from shest.core.errors import InputError
from shest.core.provenance import versions
from shest.encode import runner
from shest.io import predictions, slide
from shest.io.outlines import number_ids, read_outlines, write_outlines
from shest.io.registration import Registration
from shest.labels.split import ALL
from shest.run.packages import SEGMENTER, Package
from shest.score import composition
from shest.score.domain import Domain, doubts
from shest.systems import base
from shest.systems.predicting import predict_block
from shest.tiles import shards
from shest.tiles.blocks import stream_blocks
from shest.tiles.patch import Patches, PatchSize, write_patches
from shest.tiles.quadruple import window_shape
from shest.tissue import cells
from shest.tissue.segment import classical
from shest.tissue.segment.regions import Regions, find_regions

IN_MEMORY = 500_000_000  # bytes of a scale that is decoded once; of larger ones blocks are read as they are needed


@dataclass(frozen=True)
class Places:
    """Where what is made of a slide is written."""

    registration: Path
    outlines: Path
    segment: Path
    cells: Path
    tiles: Path | None  # where they are kept
    predictions: Path
    qupath: Path
    explorer: Path
    picture: Path


class Clock:
    """Seconds that the stages took, by name, in the order of their first start."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


@dataclass
class Tiled:
    """What was made of the kept cells' tiles: embeddings (n, d) and mean colours (n, 3), in the order of the cells."""

    embeddings: np.ndarray
    colour: np.ndarray


@dataclass
class Found:
    """Nuclei of a slide.

    Attributes
    ----------
    all_ids
        Of every cell.
    ids, polygons
        Cells that have a nucleus, sorted, and its outline in H&E px.
    regions
        What the parts of the slide are.
    facts
        Content of ``segment.json``.
    seen
        (n, d) float16, what a system that finds nuclei itself saw of each; None of another.
    """

    all_ids: np.ndarray
    ids: np.ndarray
    polygons: np.ndarray
    regions: Regions
    facts: dict[str, Any]
    seen: np.ndarray | None = None


def find_nuclei(
    row: Mapping[str, Any],
    scales: list,
    mpp: tuple[float, float],
    package: Package,
    model: base.Trained,
    settings: Mapping[str, Any],
    threads: int,
) -> Found:
    """Find the nuclei of a slide: by a file, by the system itself, by the package's segmenter, else by their stain."""
    finds = base.spec_of(model.info["kind"]).outlines
    if row.get("nuclei"):
        if finds:
            problem = f"the package's system ({package.system}) finds nuclei itself"
            raise InputError(row["nuclei"], problem, "Leave column nuclei of the sheet empty")
        read = slide.read_nuclei(row["nuclei"], scales[0].shape[1:], mpp)
        ids, polygons = cells.nucleus_of_each_cell(read.cell_id, read.outline)
        return Found(read.cell_id, ids, polygons, find_regions(scales, mpp), {"method": "file", "nuclei": len(ids)})
    seen, facts = None, {"method": "trained"}
    if finds:
        polygons, seen, regions = model.system.sweep(scales, mpp, settings["block_px"], threads)
        facts |= {"system": package.system}
    elif package.has(SEGMENTER):
        segmenter = base.load(package.path(SEGMENTER))
        polygons, regions = segmenter.system.segment(scales, mpp, settings["block_px"], threads)
        facts |= {"system": segmenter.info["system"]}
    else:
        found = classical.segment(scales, mpp, settings["block_px"], threads, settings["stain"])
        polygons, regions, facts = found.polygons, found.regions, {"method": "classical"} | found.facts()
    ids = number_ids(len(polygons))
    facts |= {"nuclei": len(ids), "area_mm2": regions.areas()}
    return Found(ids, ids, polygons, regions, facts, seen)


def encode_tiles(
    image: Any,
    table: pd.DataFrame,
    outlines: tuple[np.ndarray, np.ndarray],
    window: tuple[int, int],
    block_px: int,
    encoder: Any,
    threads: int,
) -> Tiled:
    """Cut the tiles of the cells of ``table`` block by block and encode them at once; nothing is written.

    ``encoder`` None: of a system that reads no embeddings; colours alone are looked at.
    """
    blocks, tiles = shards.tile_blocks(table[["x", "y"]].to_numpy(), *outlines, window, block_px)
    embeddings = np.empty((len(table), encoder.dim if encoder else 0), np.float16)
    colour = np.empty((len(table), 3), np.float32)
    with console.track(len(table), "tiles and embeddings") as advance:
        for block, (windows, masks) in stream_blocks(blocks, image, tiles, threads):
            colour[block.cells] = windows.mean(axis=(1, 2))
            if encoder:
                embeddings[block.cells] = runner.encode_cells(encoder, windows, masks, 0, lambda n: None)
            advance(len(block.cells))
    return Tiled(embeddings, colour)


@contextmanager
def seen_of(
    model: base.Trained,
    sample: str,
    image: Any,
    table: pd.DataFrame,
    embeddings: np.ndarray,
    mpp: tuple[float, float],
    block_px: int,
    folder: Path,
    threads: int,
) -> Iterator[Callable[[slice], Any]]:
    """Give what a system sees of some kept cells: their embeddings; of one that reads patches, their patches.

    These are cut into a folder of their own below ``folder``, which is gone afterwards.
    """
    if base.spec_of(model.info["kind"]).reading(model.info["settings"]) != "patches":
        yield lambda rows: embeddings[rows]
        return
    size, ids = PatchSize.of(model.info["settings"]), table["cell_id"].to_numpy(str)
    with TemporaryDirectory(dir=folder) as place:
        index = Path(place, sample, "patches", size.name, "patches.json")
        centres = table[["x", "y"]].to_numpy(float)
        files.write_json(index, write_patches(index.parent, image, ids, centres, size, mpp, block_px, threads))
        patches, everyone = Patches([index], [(sample, name) for name in ids]), np.arange(len(ids))
        model.system.survey(patches.take(everyone))
        yield lambda rows: patches.take(everyone[rows])


def predict(
    model: base.Trained,
    sample: str,
    table: pd.DataFrame,
    seen: Callable[[slice], Any],
    wanted: Any,
    provenance: dict,
    path: Path,
) -> None:
    """Write the predictions of the kept cells, as rule ``predict`` writes them; ``seen``: of :func:`seen_of`."""
    classes = sorted(model.classes)
    columns = predictions.chosen(wanted, model.genes)
    genes = [model.genes[k] for k in columns]
    keys = base.unit_keys(sample, table["cell_id"])

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(table), predictions.ROWS):
            rows = slice(start, start + predictions.ROWS)
            yield predict_block(model, seen(rows), keys[rows], classes, columns)

    uns = provenance | {
        "sample": sample,
        "protocol": model.info["protocol"],
        "system": model.info["system"],
        "encoder": model.info["encoder"] or "",
        "unit": model.info["expression_unit"],
        "gene_ids": [model.info["gene_ids"][k] for k in columns],
        "versions": versions(),
    }
    with files.atomic_write(path) as tmp_path:
        predictions.write(tmp_path, blocks(), table.set_index("cell_id"), classes, genes, uns)


def apply(
    sample: str,
    row: Mapping[str, Any],
    package: Package,
    model: base.Trained,
    domain: Domain,
    load_encoder: Callable[[], Any] | None,
    settings: Mapping[str, Any],
    places: Places,
    threads: int,
    finish: Callable[[pd.DataFrame, Any, Regions], None],
) -> dict[str, Any]:
    """Predict every nucleus of a plain slide.

    Parameters
    ----------
    row
        Of the sheet: ``path``, ``mpp``, ``nuclei``.
    load_encoder
        Makes the encoder; None for a system that reads no embeddings.
    settings
        ``segment``, ``block_px``, ``genes``, ``fingerprint``, ``model_sha256``.
    finish
        Called with cells, predictions and regions: writes pictures and files for other programs.

    Returns
    -------
    dict
        Counts by reason, seconds by stage, composition, and where the cells lie among the training cells.

    Raises
    ------
    InputError
        The slide cannot be used.
    """
    clock, facts = Clock(), package.facts
    with dask.config.set(scheduler="synchronous"):  # the blocks' own threads read, and no more than they
        with clock("open"):
            scales, mpp = slide.read_scales(row["path"]), slide.read_mpp(row["path"], row.get("mpp"))
            scales = [np.asarray(scale) if scale.nbytes <= IN_MEMORY else scale for scale in scales]
            registration = Registration.of_alignment(np.diag([*mpp, 1.0]), 1.0)
            registration.write(places.registration)
        with clock("segment"):
            found = find_nuclei(row, scales, mpp, package, model, settings["segment"], threads)
            write_outlines(places.outlines, found.ids, found.polygons)
            files.write_json(places.segment, found.facts)
        with clock("cells"):
            grey = cells.grey_by_block(scales[0], settings["block_px"], threads)
            table = cells.cell_table(
                found.all_ids,
                found.ids,
                found.polygons,
                scales[0].shape[1:],
                mpp,
                facts["cells"],
                facts["window_um"],
                grey,
            )
            with files.atomic_write(places.cells) as tmp_path:
                table.to_parquet(tmp_path, index=False)
        kept = table[table["kept"]].reset_index(drop=True)
        with clock("load"):
            encoder = load_encoder() if load_encoder else None
        with clock("tiles and embeddings"):
            _, points, start = read_outlines(places.outlines, kept["cell_id"])
            window = window_shape(facts["window_um"], *mpp)
            outlines = points, start
            if places.tiles is not None:
                centres, side = kept[["x", "y"]].to_numpy(), settings["block_px"]
                written = shards.write_shards(
                    places.tiles, scales[0], kept["cell_id"].to_numpy(), centres, *outlines, window, side, threads
                )
                index = shards.index(window, facts["window_um"], mpp, written)
                files.write_json(places.tiles / "tiles.json", index)
            tiled = encode_tiles(scales[0], kept, outlines, window, settings["block_px"], encoder, threads)
    if found.seen is not None:  # its rows are in the order of the numbers that are the cells' names
        tiled.embeddings = found.seen[table["kept"].to_numpy()]
    um = registration.to_um(kept[["x", "y"]].to_numpy())
    kept["x_um"], kept["y_um"], kept["part"], kept["fold"] = um[:, 0], um[:, 1], "predict", ALL
    with clock("predict"):
        provenance = {key: settings[key] for key in ("fingerprint", "model_sha256")}
        known, side, folder = tiled.embeddings, settings["block_px"], places.cells.parent
        with seen_of(model, sample, scales[0], kept, known, mpp, side, folder, threads) as seen:
            predict(model, sample, kept, seen, settings["genes"], provenance, places.predictions)
    with clock("write"):
        finish(kept, places, found.regions)
    return {
        "mpp": list(mpp),
        "shape": [int(n) for n in scales[0].shape[1:]],
        "tissue_mm2": found.regions.areas()["tissue"],
        "segment": found.facts["method"],
        "cells": cells.counts(table),
        "seconds": clock.seconds,
    } | describe(kept, tiled, domain, places.predictions, found.regions.areas()["tissue"])


def describe(kept: pd.DataFrame, tiled: Tiled, domain: Domain, path: Path, area_mm2: float) -> dict[str, Any]:
    """Say what the kept cells are, and how far they lie from the training cells."""
    import anndata as ad

    if not len(kept):
        return {"composition": [], "domain": {}, "doubts": ["no cell of it could be predicted"]}
    found = ad.read_h5ad(path, backed="r")
    classes = list(found.uns["classes"])
    parts = composition.composition(np.asarray(found.obsm["probabilities"]), classes, area_mm2) if classes else []
    size = np.sqrt(kept["width_um"].to_numpy() * kept["height_um"].to_numpy())
    place = domain.compare(tiled.embeddings, tiled.colour, size)
    return {"composition": parts, "domain": place, "doubts": doubts(place)}
