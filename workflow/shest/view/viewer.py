"""The page of a sample: ``index.html`` and what it reads, in one folder that can be sent as it is.

Where a sample has both cells and spots, each has a page, and both read the same tiles. OpenSeadragon shows the H&E
(vendored, see THIRD_PARTY.md); cells and spots are drawn by the page's own layer. Viewers that are
kept elsewhere do not open by double click: Vitessce and Viv (on deck.gl) read Zarr or OME-TIFF by ``fetch``, some of it
by range, and TissUUmaps reads its points by ``fetch`` and its slides from its server; browsers refuse both on
``file://``.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from shest.core.errors import InputError
from shest.core.files import atomic_write, write_json
from shest.io.counts import read_counts_of
from shest.io.genes import Genes
from shest.io.outlines import iter_outlines
from shest.io.predictions import rounded
from shest.io.registration import Registration
from shest.io.spot_arrays import SHARE
from shest.view import cells as layout
from shest.view import pyramid
from shest.view.cells import Grid
from shest.view.site import Site, pack, pack_json, script

HERE = Path(__file__).resolve().parent
PAGE, VENDOR = HERE / "page", HERE / "vendor"
MEASURES = ("probability", "entropy", "disagreement", "aleatoric", "epistemic")  # of a prediction, that colour units
EXACT_BITS = 10  # of the mantissa, of the numbers that are shown of a single cell
GENE_TOP = 0.995  # share of the units that a gene's colours reach to
SAMPLED_ROWS = 4  # blocks of units that genes are chosen by
UNITS_A_BLOCK = 4096
ID_COLUMNS = {"cells": "cell_id", "spots": "spot_id"}
CIRCLE = np.linspace(0, 2 * np.pi, 48, endpoint=False)  # corners of a spot's outline


@dataclass
class Sample:
    """What is shown of a sample's cells, or of its spots.

    Attributes
    ----------
    name
        Of the sample.
    table
        Every unit: the columns of ``cells.parquet``, or of ``spots.parquet``.
    annotation
        The columns of ``annotation.parquet``, where there are labels.
    predictions
        Of each system that is shown, opened.
    registration
        Gives µm of a pixel.
    scales
        The H&E, full size first.
    outlines
        Path of ``outlines.parquet``; None of spots, which are circles.
    store
        Path of the SpatialData store, whose counts are shown; None where there are none.
    types
        Names of the types, in the config's order.
    palettes
        By name of the palette: colour of each type, ``#rrggbb``.
    protocol
        Of the predictions.
    window_um
        Side of the window that an encoder sees, µm.
    unit
        ``cells`` or ``spots``.
    neighbours
        (n, k) positions of the units with the nearest embeddings, -1 for none; None where there are no embeddings.
    markers
        Genes that are shown beside those that were chosen by their number, where the model knows them.
    """

    name: str
    table: pd.DataFrame
    annotation: pd.DataFrame | None
    predictions: Mapping[str, ad.AnnData]
    registration: Registration
    scales: Sequence[Any]
    outlines: str | Path | None
    store: str | Path | None
    types: Sequence[str]
    palettes: Mapping[str, Mapping[str, str]]
    protocol: str = ""
    window_um: float = 16.0
    unit: str = "cells"
    neighbours: np.ndarray | None = None
    markers: Sequence[str] = ()
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    """By system: the row of each unit in its predictions, -1 where it predicts none."""

    def __post_init__(self) -> None:
        self.rows = {name: pd.Index(found.obs_names).get_indexer(self.ids) for name, found in self.predictions.items()}

    @property
    def ids(self) -> pd.Series:
        """Name of each unit."""
        return self.table[ID_COLUMNS[self.unit]].astype(str)

    @property
    def diameter_um(self) -> float | None:
        """Of the sample's spots, which are all as wide; None of cells."""
        return float(self.table["diameter_um"].max()) if self.unit == "spots" else None


def build(
    folder: str | Path,
    samples: Sequence[Sample],
    max_mpp: float,
    genes: int | str | Sequence[str],
    advance: Callable[[int], None] = lambda number: None,
) -> dict[str, Any]:
    """Write the pages and everything that they read; what a former build left and this one does not need is removed.

    Parameters
    ----------
    samples
        The units of one sample: ``index.html`` shows the first, ``{unit}.html`` each further one, over the same H&E.
    max_mpp
        As :func:`shest.view.pyramid.build` takes it.
    genes
        ``all``, names, or how many of those that tell the units apart.
    advance
        Called with 1 for each tile of the H&E's finest level.

    Returns
    -------
    dict
        What the index says of the sample: ``sample``, ``thumbnail``, ``pages`` (of each its ``unit``, ``page``,
        ``number`` of units, how many are ``kept`` and ``labelled``) and ``systems``; and what was ``written`` and
        ``removed``, in files.
    """
    site, first = Site(folder), samples[0]
    mpp = first.registration.mpp
    image = pyramid.build(first.scales, float(np.mean(mpp)), max_mpp, lambda text: site.add_tile(script(text)), advance)
    thumbnail = site.add("thumbnail", image.thumbnail, ".jpg")
    pages = {shown.unit: f"{shown.unit}.html" if number else "index.html" for number, shown in enumerate(samples)}
    for shown in samples:
        write_page(site, pages[shown.unit], manifest_of(site, shown, image, genes) | {"pages": pages})
    for unit in set(ID_COLUMNS) - set(pages):
        (site.folder / f"{unit}.html").unlink(missing_ok=True)
    return {
        "sample": first.name,
        "thumbnail": thumbnail,
        "pages": [
            {
                "unit": shown.unit,
                "page": pages[shown.unit],
                "number": len(shown.table),
                "kept": int(shown.table["kept"].sum()),
                "labelled": 0 if shown.annotation is None else int(shown.annotation["cell_type"].notna().sum()),
            }
            for shown in samples
        ],
        "systems": list(dict.fromkeys(name for shown in samples for name in shown.predictions)),
        "written": site.written,
        "removed": site.sweep(),
    }


def clear(folder: str | Path) -> None:
    """Remove the pages of a sample that can no longer be shown, and what they read."""
    for page in ("index.html", *(f"{unit}.html" for unit in ID_COLUMNS)):
        (Path(folder) / page).unlink(missing_ok=True)
    Site(folder).sweep()


def manifest_of(site: Site, sample: Sample, image: pyramid.Pyramid, genes: int | str | Sequence[str]) -> dict[str, Any]:
    """Write what the page of some units reads, but for the H&E's tiles; return what it reads first."""
    mpp, xy = sample.registration.mpp, sample.table[["x", "y"]].to_numpy(float)
    grid = layout.grid_of(xy, sample.scales[0].shape[1:], mpp)
    return {
        "sample": sample.name,
        "unit": sample.unit,
        "diameter_um": sample.diameter_um,
        "protocol": sample.protocol,
        "systems": list(sample.predictions),
        "image": {
            "width": image.width,
            "height": image.height,
            "factor": image.factor,
            "tile": pyramid.TILE,
            "levels": image.levels,
        },
        "mpp": list(mpp),
        "window_um": sample.window_um,
        "grid": {"origin": grid.origin, "side": grid.side, "columns": grid.columns, "rows": grid.rows},
        "start": grid.start.tolist(),
        "n": len(xy),
        "types": list(sample.types),
        "palettes": {name: dict(palette) for name, palette in sample.palettes.items()},
        "outline_steps": layout.OUTLINE_STEPS,
        "units": site.add(sample.unit, script(colourings(sample, grid, xy))),
        "ids": site.add("ids", script(pack_json(sample.ids.iloc[grid.order].tolist()))),
        "blocks": blocks(site, sample, grid, xy),
        "genes": gene_files(site, sample, grid, genes),
    }


def write_page(site: Site, name: str, manifest: dict[str, Any]) -> None:
    """Write a page, which names scripts and style by their content and holds nothing of the input."""
    names = {
        "style": site.add("viewer", (PAGE / "viewer.css").read_bytes(), ".css"),
        "openseadragon": site.add("openseadragon", (VENDOR / "openseadragon.min.js").read_bytes()),
        "viewer": site.add("viewer", (PAGE / "viewer.js").read_bytes()),
        "sample": site.add("sample", script(manifest)),
    }
    site.add("openseadragon", (VENDOR / "openseadragon.LICENSE.txt").read_bytes(), ".LICENSE.txt")
    page = (PAGE / "viewer.html").read_text(encoding="utf-8")
    for place, path in names.items():
        page = page.replace(f"{{{place}}}", html.escape(path))
    with atomic_write(site.folder / name) as tmp_path:
        tmp_path.write_text(page, encoding="utf-8")


def aligned(sample: Sample, system: str, values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return what a system predicts, in an order of all units; NaN (None of objects) where it predicts nothing."""
    rows = sample.rows[system][order]
    values = np.asarray(values)
    nothing = None if values.dtype == object else np.nan
    found = np.full((len(rows), *values.shape[1:]), nothing, object if nothing is None else np.float32)
    found[rows >= 0] = values[rows[rows >= 0]]
    return found


def annotation_of(sample: Sample) -> pd.DataFrame | None:
    """Return the annotation in the order of the table of cells."""
    if sample.annotation is None:
        return None
    table = sample.annotation.set_index("cell_id").reindex(sample.ids)
    return table.reset_index(drop=True)


def reasons(sample: Sample) -> pd.Series:
    """Say of each unit why it left: by itself, else by its label; ``labelled`` or ``kept`` where it did not."""
    kept, labels = sample.table["kept"].to_numpy(bool), annotation_of(sample)
    own = sample.table["reason"].astype(object)
    return own if labels is None else own.where(~kept, labels["reason"].astype(object).fillna("kept"))


def colourings(sample: Sample, grid: Grid, xy: np.ndarray) -> dict[str, Any]:
    """Return what is known of all units at once: their places, and every colouring but genes."""
    within = grid.within(xy)
    labels = annotation_of(sample)
    categories, numbers = [], []
    if labels is not None:
        values = labels["cell_type"].iloc[grid.order]
        categories.append(layout.categorical("annotated", "annotated type", values, sample.types))
    for name, found in sample.predictions.items():
        if len(found.uns["classes"]):
            types = found.obs["cell_type"].astype(object).to_numpy()
            values = pd.Series(aligned(sample, name, types, grid.order))
            categories.append(layout.categorical(f"predicted.{name}", f"predicted type, {name}", values, sample.types))
        for measure in MEASURES:
            values = found.obs[measure].to_numpy(np.float32)
            if np.isfinite(values).any():
                values = aligned(sample, name, values, grid.order)
                top = 1.0 if measure == "probability" else None
                numbers.append(layout.numeric(f"{measure}.{name}", f"{measure}, {name}", values, top))
    categories.append(layout.categorical("reason", "reason for leaving", reasons(sample).iloc[grid.order]))
    if sample.unit == "spots":
        for name, title, top in spot_numbers(sample.table):
            values = sample.table[name].to_numpy(np.float32)[grid.order]
            numbers.append(layout.numeric(name, title, values, top))
    return {"x": pack(within[:, 0]), "y": pack(within[:, 1]), "categories": categories, "numbers": numbers}


def spot_numbers(table: pd.DataFrame) -> list[tuple[str, str, float | None]]:
    """Return the columns of spots that colour them: name, what it is called, and its largest value where it has one."""
    found = [("tissue", "share of tissue", 1.0)]
    found += [("n_cells", "number of cells", None)] if "n_cells" in table else []
    return found + [(name, f"share of {name.removeprefix(SHARE)}", 1.0) for name in table if name.startswith(SHARE)]


def measured_of(sample: Sample, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return what was measured of some units themselves, under the names that the page shows."""
    table = sample.table.iloc[rows]
    names = {"width_um": "nucleus width (µm)", "height_um": "nucleus height (µm)", "mean_grey": "mean grey"}
    if sample.unit == "spots":
        names = {"diameter_um": "diameter (µm)", "array_row": "row of the array", "array_col": "column of the array"}
        names |= {name: title for name, title, _ in spot_numbers(table)}
    columns = {title: table[name].to_numpy() for name, title in names.items()}
    return columns | {"kept": table["kept"].to_numpy(bool), "filter": table["reason"].to_numpy(object)}


def details(sample: Sample, labels: pd.DataFrame | None, rows: np.ndarray) -> pd.DataFrame:
    """Return everything known of some units, one column each, under the names that the page shows.

    ``labels``: as :func:`annotation_of` returns them; ``rows``: positions in the table of units.
    """
    columns = measured_of(sample, rows)
    if labels is not None:
        shown = {"cell_type": "annotated type", "reason": "label"}
        columns |= {shown.get(name, name): labels[name].iloc[rows].to_numpy() for name in labels}
    for system, found in sample.predictions.items():
        row = sample.rows[system][rows]
        has = row >= 0
        obs, probability = found.obs.iloc[row[has]], found.obsm["probabilities"][row[has]]
        known = {name.replace("cell_type", "type"): obs[name] for name in obs}
        known |= {f"P({name})": pd.Series(probability[:, k]) for k, name in enumerate(found.uns["classes"])}
        for name, values in known.items():
            number = pd.api.types.is_numeric_dtype(values)
            whole = np.full(len(rows), np.nan if number else None, np.float32 if number else object)
            whole[has] = values.astype(np.float32 if number else object)
            columns[f"{system}: {name}"] = whole
    return pd.DataFrame(columns)


def outlines_of(sample: Sample, xy: np.ndarray) -> layout.Outlines:
    """Return the outlines of nuclei, or the circles of spots; ``xy``: (n, 2) centres, H&E px."""
    ids = pd.Index(sample.ids)
    if sample.unit == "cells":
        return layout.Outlines.gather(iter_outlines(sample.outlines), ids, xy)
    ring = np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], axis=1)
    radius = sample.table["diameter_um"].to_numpy()[:, None] / 2 / np.asarray(sample.registration.mpp)
    rings = xy[:, None] + ring * radius[:, None]
    circles = ids, rings.reshape(-1, 2), np.arange(len(ids) + 1) * len(ring)
    return layout.Outlines.gather([circles], ids, xy)


def blocks(site: Site, sample: Sample, grid: Grid, xy: np.ndarray) -> list[str]:
    """Write outlines and details of each block; return their files, in the order of the blocks, "" of empty ones."""
    outlines, neighbours = outlines_of(sample, xy), sample.neighbours
    labels = annotation_of(sample)
    rank = np.empty(len(xy), np.int64)
    rank[grid.order] = np.arange(len(xy))
    names = []
    for number in range(len(grid.start) - 1):
        rows = grid.order[grid.start[number] : grid.start[number + 1]]
        if not len(rows):
            names.append("")
            continue
        value: dict[str, Any] = outlines.of(rows)
        table = details(sample, labels, rows)  # of this block alone: memory is that of a block
        for name in table.select_dtypes("number"):
            table[name] = rounded(table[name].to_numpy(np.float32), EXACT_BITS)
        value["details"] = layout.details_of(table)
        if neighbours is not None and neighbours.shape[1]:
            near = np.where(neighbours[rows] >= 0, rank[neighbours[rows]], 2**32 - 1)
            value |= {"neighbours": pack(near.astype(np.uint32)), "k": neighbours.shape[1]}
        names.append(site.add(f"blocks/{number}", script(value)))
    return names


def chosen_genes(sample: Sample, wanted: int | str | Sequence[str]) -> list[str]:
    """Return the genes that are shown: of the first system that predicts any, in its order."""
    found = next((p for p in sample.predictions.values() if p.n_vars), None)
    if found is None:
        return []
    genes = list(map(str, found.var_names))
    if wanted == "all" or (isinstance(wanted, int) and wanted >= len(genes)):
        return genes
    if not isinstance(wanted, int):
        unknown = [name for name in wanted if name not in set(genes)]
        if unknown:
            raise InputError(
                "viewer.genes",
                f"not among the {len(genes):,} genes that are predicted: {', '.join(unknown)}",
                "Name genes that the model predicts (and predict.genes writes), or give a number",
            )
        return list(wanted)
    told = set(sample.markers) | set(told_genes(found, genes, wanted) if wanted else [])
    return [name for name in genes if name in told]


def told_genes(found: ad.AnnData, genes: Sequence[str], wanted: int) -> list[str]:
    """Choose the genes that tell predicted types apart; where none are predicted, those that vary most."""
    if not len(found.uns["classes"]):
        return varied_genes(found, genes, wanted)
    total: dict[str, np.ndarray] = {}
    count: dict[str, int] = {}
    for row in sampled_blocks(found):
        values = np.asarray(found.X[row : row + UNITS_A_BLOCK], np.float32)
        types = found.obs["cell_type"].iloc[row : row + UNITS_A_BLOCK].astype(str).to_numpy()
        for name in np.unique(types):
            total[name] = total.get(name, 0) + values[types == name].sum(axis=0, dtype=np.float64)
            count[name] = count.get(name, 0) + int((types == name).sum())
    return layout.informative_genes({name: total[name] / count[name] for name in total}, genes, wanted)


def sampled_blocks(found: ad.AnnData) -> np.ndarray:
    """Return where some whole blocks of units begin: the file is read by block, and memory is that of so many units."""
    first = np.arange(0, found.n_obs, UNITS_A_BLOCK)
    return first[np.unique(np.linspace(0, len(first) - 1, min(len(first), SAMPLED_ROWS)).round().astype(int))]


def varied_genes(found: ad.AnnData, genes: Sequence[str], wanted: int) -> list[str]:
    """Choose the genes whose logarithm of the expectation varies most between units, in the order of ``genes``."""
    rows = [np.asarray(found.X[row : row + UNITS_A_BLOCK], np.float32) for row in sampled_blocks(found)]
    spread = np.log1p(np.maximum(np.concatenate(rows), 0)).std(axis=0)
    return [genes[i] for i in np.sort(np.argsort(-spread, kind="stable")[:wanted])]


def gene_files(site: Site, sample: Sample, grid: Grid, wanted: int | str | Sequence[str]) -> list[dict[str, str]]:
    """Write each gene's expectations by every system, and its counts where it was measured; return name and file."""
    genes = chosen_genes(sample, wanted)
    if not genes:
        return []
    counts, measured, row_of_count = None, {}, np.empty(0, np.int64)
    if sample.store is not None:
        found = next(p for p in sample.predictions.values() if p.n_vars)
        known = Genes.of(list(map(str, found.var_names)), found.uns["gene_ids"])
        counts, names, ids = read_counts_of(sample.store, genes, known)
        measured = {name: column for column, name in enumerate(names)}
        row_of_count = pd.Index(ids).get_indexer(sample.ids)[grid.order]
    written = []
    for gene in genes:
        numbers = []
        for name, found in sample.predictions.items():
            column = found.var_names.get_indexer([gene])[0]
            if column >= 0:
                values = aligned(sample, name, found.X[:, int(column) : int(column) + 1][:, 0], grid.order)
                key, title = f"expected.{name}", f"{gene} expected, {name}"
                numbers.append(layout.numeric(key, title, values, layout.top_of(values, GENE_TOP)))
        if gene in measured:
            values = np.zeros(len(row_of_count), np.float32)
            seen = counts[:, measured[gene]].toarray()[:, 0]
            values = np.where(row_of_count >= 0, seen[row_of_count], np.nan)
            top = min(max(layout.top_of(values, GENE_TOP), 1.0), float(layout.STEPS))
            numbers.append(layout.numeric("measured", f"{gene} counts", values, top))
        written.append({"gene": gene, "file": site.add("genes/gene", script({"gene": gene, "numbers": numbers}))})
    return written


def write_index(folder: str | Path, samples: Sequence[Mapping[str, Any]]) -> None:
    """Write ``index.html`` of all samples and what it reads.

    Parameters
    ----------
    samples
        What :func:`build` returned of each, with ``scores``: rows of system, protocol, unit, n, weighted, macro,
        pearson; of one that could not be predicted, ``sample`` and ``reason``.
    """
    folder = Path(folder)
    content = {name: (PAGE / name).read_bytes() for name in ("index.html", "index.js", "index.css")}
    content["samples.js"] = script(list(samples))
    for name, text in content.items():
        with atomic_write(folder / name) as tmp_path:
            tmp_path.write_bytes(text)


def write_summary(path: str | Path, summary: Mapping[str, Any]) -> None:
    """Write what the index says of a sample, without what differs between two builds of the same."""
    write_json(path, {name: value for name, value in summary.items() if name not in ("written", "removed")})
