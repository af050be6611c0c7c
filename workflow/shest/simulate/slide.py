"""One simulated bundle from settings to files, with the truth beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from shest.core.errors import InputError
from shest.core.files import atomic_write, sha256, write_json
from shest.simulate import bundle as files
from shest.simulate import counts, defects, geometry, nuclei, profiles, reference, render, tissue, visium
from shest.simulate.spec import MAX_MEAN_GREY, PIXEL_SIZE, SLIDE_FACTOR, WINDOW_UM, Slide, as_dict, stream

SENTINEL = "truth/truth.json"
PROBES = 20
MARGIN_UM = 40.0
"""µm between the H&E's corner and the origin of the Xenium frame: cells beyond the H&E still have positive places."""
LEAST_WEIGHT = 1e-4
"""Weight, in the draw of the pathologist's errors, of a cell without counts of another type."""
SURE_GREY = 5.0
"""Natural cells whose window is this near to the threshold of bare glass stay out of the bundle: undecidable."""


@dataclass(frozen=True)
class Drawn:
    """A painted slide: picture, the cells that the bundle will hold, their outlines and second nuclei (H&E µm)."""

    picture: np.ndarray
    cells: pd.DataFrame
    outlines: np.ndarray
    second: pd.DataFrame
    second_outlines: np.ndarray


def simulate_slide(
    spec: Slide, markers: pd.DataFrame, folder: str | Path, advance: Callable[[int], None] = lambda n: None
) -> dict:
    """Write the bundle, or Visium folder, of a simulated slide with its truth, whole or not at all; return its summary.

    ``advance`` is called with the number of pixels painted.
    """
    with atomic_write(folder) as tmp_path:
        tmp_path.mkdir(parents=True)
        drawn = paint(spec, advance)
        matrix = geometry.affine(drawn.picture.shape[:2], spec.mpp, spec.rotation, spec.mirror, MARGIN_UM)
        genes = profiles.panel_profiles(markers, spec.panel, spec.genes, spec.difficulty)
        zinb = counts.parameters(drawn.cells, genes, spec.difficulty, spec.link, stream(spec, "parameters"))
        observed, expected, received = measure(spec, drawn.cells, zinb)
        if spec.platform == "visium":
            files.write_he(tmp_path / f"{spec.name}_he_image.ome.tif", drawn.picture, spec.mpp)
            kinds, centres = drawn.cells.cell_type.to_numpy(str), geometry.centroid(drawn.outlines)
            ensembl = reference.ensembl_ids(genes.symbols, markers.symbol.to_numpy(str))
            measured = centres, kinds, observed, expected, genes.symbols, ensembl
            return visium.write_folder(tmp_path, spec, drawn.picture, *measured)
        content, truth = assemble(spec, drawn, matrix, genes, observed, markers)
        received = received[truth.row]
        truth["spillover"] = received.sum(axis=1)
        files.write_bundle(tmp_path, content)
        files.write_he(tmp_path / f"{spec.name}_he_image.ome.tif", drawn.picture, spec.mpp)
        lines = [",".join(f"{v:.10g}" for v in row) for row in matrix]
        (tmp_path / f"{spec.name}_he_imagealignment.csv").write_text("\n".join(lines) + "\n")
        truth = add_table(spec, truth, received)
        if spec.annotation:
            table = truth.loc[truth.table_group != "", ["cell_id", "table_group"]]
            table.rename(columns={"table_group": "group"}).to_csv(tmp_path / "he_annotation.csv", index=False)
        return write_truth(tmp_path, spec, truth, zinb, expected, genes, matrix, drawn.picture.shape[:2])


def measure(spec: Slide, cells: pd.DataFrame, zinb: counts.Zinb) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the cells' counts, and assign some of them to neighbours.

    Returns the counts as measured and their expectation (cells × genes), and which share of each cell's counts is of
    neighbours of each type, the last being those of no type (cells × types).
    """
    own, mean = zinb.draw(stream(spec, "counts")), zinb.mean()
    silent = cells.defect.to_numpy() == "no_counts"
    own[silent], mean[silent] = 0, 0
    rng = stream(spec, "spillover")
    spillover = counts.draw_spillover(cells[["x", "y"]].to_numpy(), ~silent, spec.spillover, rng)
    observed, given = spillover.move(own, rng)
    kinds = cells.cell_type.to_numpy()[:, None] == np.array([*profiles.TYPES, profiles.OTHER])
    total = observed.sum(axis=1, dtype=np.int64, keepdims=True).clip(1)
    return observed, spillover.mean(mean), given @ kinds.astype(np.int64) / total


def populated(spec: Slide) -> tuple[tissue.Tissue, pd.DataFrame, pd.DataFrame]:
    """Plan a slide and fill it with cells and defects; with more tissue where it does not hold enough of them.

    Raises
    ------
    InputError
        Where six plans, each larger than the one before, have no room for cells or defects.
    """
    size = SLIDE_FACTOR
    problem = InputError(f"simulate.slides.{spec.name}", f"no room for {spec.cells} cells", "Take another seed")
    for attempt in range(6):
        plan = tissue.plan(round(spec.cells * size) + 40, stream(spec, f"tissue {attempt}"))
        size *= 1.15
        cells = nuclei.populate(plan, spec.difficulty, spec.link, stream(spec, "cells"))
        if len(cells) < 1.04 * spec.cells:
            continue
        try:
            return plan, *defects.plant(cells, plan, spec.defects, spec.difficulty, spec.link, stream(spec, "defects"))
        except InputError as error:
            problem = error
    raise problem


def paint(spec: Slide, advance: Callable[[int], None]) -> Drawn:
    """Paint a populated slide; choose the cells that the bundle will hold."""
    plan, cells, second = populated(spec)
    reliefs, second_reliefs = nuclei.relief(cells), nuclei.relief(second)
    outlines, second_outlines = nuclei.outline(cells, reliefs), nuclei.outline(second, second_reliefs)
    drawn = cells.drawn.to_numpy()
    everything = pd.concat([cells[drawn], second], ignore_index=True)
    reliefs = np.concatenate([reliefs[drawn], second_reliefs])
    things = render.bodies(plan, everything, reliefs, stream(spec, "bodies"))
    scanner = render.draw_scanner(spec.stain, spec.difficulty, stream(spec, "scanner"))
    picture = render.render(plan, things, scanner, spec.mpp, stream(spec, "render"), advance)

    grey = window_grey(picture, geometry.centroid(outlines) / spec.mpp, spec.mpp)
    keep = choose(cells, grey, spec)
    second = second.assign(owner=np.searchsorted(keep, second.owner))
    cells = cells.iloc[keep].reset_index(drop=True).assign(mean_grey=grey[keep])
    return Drawn(picture, cells, outlines[keep], second, second_outlines)


def window_grey(picture: np.ndarray, centres: np.ndarray, mpp: float) -> np.ndarray:
    """Return the mean grey of the 16 µm window around each centre (n, 2) in px; NaN where it is not all inside."""
    half = WINDOW_UM / mpp / 2
    total = np.zeros((picture.shape[0] + 1, picture.shape[1] + 1))
    total[1:, 1:] = picture.mean(axis=2, dtype=np.float32).cumsum(axis=0, dtype=float).cumsum(axis=1)
    x0, y0 = np.round(centres - half).astype(int).T
    side = round(2 * half)
    inside = (x0 >= 0) & (y0 >= 0) & (x0 + side < picture.shape[1]) & (y0 + side < picture.shape[0])
    out = np.full(len(centres), np.nan)
    x, y = x0[inside], y0[inside]
    out[inside] = (total[y + side, x + side] - total[y, x + side] - total[y + side, x] + total[y, x]) / side**2
    return out


def choose(cells: pd.DataFrame, grey: np.ndarray, spec: Slide) -> np.ndarray:
    """Return the sorted rows of the cells that the bundle holds: all planted ones, the others drawn at random.

    Raises
    ------
    InputError
        Where the tissue holds too few cells.
    """
    planted = cells.defect.to_numpy() != ""
    natural = np.flatnonzero(~planted & (grey < MAX_MEAN_GREY - SURE_GREY))
    wanted = spec.cells - int(planted.sum())
    if len(natural) < wanted:
        raise InputError(
            f"simulate.slides.{spec.name}",
            f"the tissue holds {len(natural)} cells, not {wanted}",
            "Take another seed or fewer cells",
        )
    natural = stream(spec, "choice").choice(natural, wanted, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(planted), natural]))


def assemble(
    spec: Slide, drawn: Drawn, matrix: np.ndarray, genes: profiles.Profiles, observed: np.ndarray, markers: pd.DataFrame
) -> tuple[files.Bundle, pd.DataFrame]:
    """Bring the drawn cells into the Xenium frame, in the order of the cell ids.

    Returns the bundle's content and the truth's table, with rows in that order. ``row`` in the table is the row in
    ``drawn.cells`` and ``observed``.
    """
    n = len(drawn.cells)
    rng = stream(spec, "ids")
    prefix, ids = geometry.cell_ids(n, rng)
    order = rng.permutation(n)
    cells = drawn.cells.iloc[order].reset_index(drop=True)
    rank = np.empty(n, int)
    rank[order] = np.arange(n)

    def to_xenium(points: np.ndarray) -> np.ndarray:
        return geometry.apply(matrix, points / spec.mpp) * PIXEL_SIZE

    first = to_xenium(drawn.outlines[order]).astype(np.float32).astype(float)
    second = to_xenium(drawn.second_outlines).astype(np.float32).astype(float)
    has = cells.has_nucleus.to_numpy()
    owner = np.concatenate([np.flatnonzero(has), rank[drawn.second.owner]])
    polygons = np.concatenate([first[has], second])
    sort = np.argsort(owner, kind="stable")
    owner, polygons = owner[sort], polygons[sort]

    centres = geometry.centroid(first)
    size = geometry.area(first)
    outlines = geometry.cell_outlines(centres, np.sqrt(size / np.pi))
    total = np.bincount(owner, weights=geometry.area(polygons), minlength=n)
    probes = stream(spec, "probes").poisson(0.01, (n, PROBES))
    counted = observed[order]
    probes[cells.defect == "no_counts"] = 0
    table = pd.DataFrame({"cell_id": ids})
    table[["x_centroid", "y_centroid"]] = geometry.centroid(outlines)
    table["cell_area"], table["nucleus_area"] = geometry.area(outlines), np.where(has, total, np.nan)
    table["nucleus_count"] = np.bincount(owner, minlength=n)
    table["nucleus_x"], table["nucleus_y"] = np.where(has[:, None], centres, np.nan).T
    table["transcript_counts"], table["control_probe_counts"] = counted.sum(axis=1).astype(np.int64), probes.sum(axis=1)
    reach = geometry.apply(matrix, corners(drawn.picture.shape[:2])).max(axis=0) + MARGIN_UM / PIXEL_SIZE
    content = files.Bundle(
        spec.name,
        table,
        prefix,
        polygons,
        owner,
        outlines,
        sparse.csr_matrix(np.hstack([counted, probes])),
        genes.symbols,
        reference.ensembl_ids(genes.symbols, markers.symbol.to_numpy(str)),
        (int(np.ceil(reach[1])), int(np.ceil(reach[0]))),
    )
    return content, truth_table(cells, order, ids, first, table, matrix)


def corners(shape: tuple[int, int]) -> np.ndarray:
    """Return the corners (4, 2) of a picture as x, y."""
    height, width = shape
    return np.array([[0, 0], [width, 0], [0, height], [width, height]], float)


def truth_table(
    cells: pd.DataFrame, order: np.ndarray, ids: np.ndarray, first: np.ndarray, table: pd.DataFrame, matrix: np.ndarray
) -> pd.DataFrame:
    """Return what is known of each cell: names, types, defect, place and size of its (larger) nucleus."""
    back = geometry.apply(np.linalg.inv(matrix), first / PIXEL_SIZE)
    scale = np.hypot(*matrix[:2, :2]) * PIXEL_SIZE
    width, height = (np.ptp(back, axis=1) * scale).T
    place = geometry.centroid(back)
    has = cells.has_nucleus.to_numpy()

    def known(values: np.ndarray) -> np.ndarray:
        return np.where(has, values, np.nan)

    columns = {
        "cell_id": ids,
        "cell_type": cells.cell_type,
        "subtype": cells.subtype,
        "variant": cells.variant,
        "defect": cells.defect,
        "reason": cells.defect.map(defects.REASON),
        "drawn": cells.drawn,
        "x": known(place[:, 0]),
        "y": known(place[:, 1]),
        "x_um": known(table.nucleus_x),
        "y_um": known(table.nucleus_y),
        "width_um": known(width),
        "height_um": known(height),
        "nucleus_area": known(geometry.area(first)),
        "haematoxylin": known(cells.haem),
        "z_size": cells.z_size,
        "z_stain": cells.z_stain,
        "mean_grey": cells.mean_grey,
        "row": order,
    }
    return pd.DataFrame(columns)


def add_table(spec: Slide, truth: pd.DataFrame, received: np.ndarray) -> pd.DataFrame:
    """Add ``table_group``, the pathologist's view ("" where none): mostly the truth, sometimes another type.

    He reviews labels that were made by expression. So he errs where that misleads him: more often the more of a cell's
    counts are of neighbours of another type (``received``: shares by type, rows as in ``truth``), and for the type that
    gave most. Where nothing goes astray, cells and types are drawn evenly.
    """
    rng = stream(spec, "pathologist")
    typed = truth.cell_type.isin(profiles.TYPES).to_numpy()
    seen = typed & truth.drawn.to_numpy() & (rng.random(len(truth)) < spec.coverage)
    group = truth.cell_type.to_numpy(object).copy()
    rows = np.flatnonzero(seen)
    foreign = np.where(truth.cell_type.to_numpy()[:, None] == np.array(profiles.TYPES), 0, received[:, :-1])[rows]
    weight = foreign.max(axis=1, initial=0) ** 2 + LEAST_WEIGHT
    wrong = rng.choice(len(rows), round(spec.disagreement * len(rows)), replace=False, p=weight / weight.sum())
    for row in wrong:
        others = [t for t in profiles.TYPES if t != truth.cell_type[rows[row]]]
        misled = foreign[row].any()
        group[rows[row]] = profiles.TYPES[foreign[row].argmax()] if misled else rng.choice(others)
    return truth.assign(table_group=np.where(seen, group, "") if spec.annotation else "")


def write_truth(
    folder: Path,
    spec: Slide,
    truth: pd.DataFrame,
    zinb: counts.Zinb,
    expected: np.ndarray,
    genes: profiles.Profiles,
    matrix: np.ndarray,
    shape: tuple[int, int],
) -> dict:
    """Write ``truth/``: truth.parquet (cells), truth.h5ad (expression), truth.json (the rest, last).

    ``truth.h5ad`` holds what each cell itself expresses (X = mu, layers theta and pi: the expectation of its own counts
    is (1 - pi) · mu), and the layer ``measured``, the expectation of its counts as they are in the bundle, with what
    goes astray to neighbours and comes from them.
    """
    (folder / "truth").mkdir()
    rows = truth.pop("row").to_numpy()
    files.write_parquet(folder / "truth/truth.parquet", truth)
    layers = {"theta": zinb.theta[rows], "pi": zinb.pi[rows], "measured": expected[rows]}
    obs = truth[["cell_type", "subtype", "defect"]].set_index(truth.cell_id.to_numpy())
    var = pd.DataFrame({"follows_size": genes.size, "follows_stain": genes.stain}, index=genes.symbols)
    ad.AnnData(zinb.mu[rows], obs=obs, var=var, layers=layers).write_h5ad(
        folder / "truth/truth.h5ad", compression="gzip"
    )
    summary = {
        "settings": as_dict(spec),
        "he_to_um": (np.diag([PIXEL_SIZE, PIXEL_SIZE, 1]) @ matrix).tolist(),
        "he_to_morphology": matrix.tolist(),
        "he_shape": list(shape),
        "mpp": (np.hypot(*matrix[:2, :2]) * PIXEL_SIZE).tolist(),
        "types": {str(k): int(v) for k, v in truth.cell_type.value_counts().sort_index().items()},
        "defects": {k: int((truth.defect == k).sum()) for k in defects.REASON if k},
        "sha256": {str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()},
    }
    write_json(folder / SENTINEL, summary)
    return summary
