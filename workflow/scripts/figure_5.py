"""Figures 5 and S1: types of an external sample: embedding, confusion, counts, F1 beside others, distances."""

import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import figure_data, layout, panels, style
from shest.draw.layout import Panel
from shest.encode import cache
from shest.io.registration import Registration
from shest.labels import refine
from shest.score import metrics
from shest.score.evaluation import Evaluation

UMAP_CELLS = 20_000  # projected at most
SEED = 42


def project(path, sample, cells):
    """UMAP of the embeddings of scored cells, at most 20,000 of them -> rows, (n, 2)."""
    rows = np.sort(np.random.default_rng(SEED).permutation(len(cells))[:UMAP_CELLS])
    embeddings = cache.Embeddings([path], [(sample, c) for c in cells["cell_id"].iloc[rows]])
    return rows, refine.project(refine.embedding_components(embeddings.take, len(rows)), refine.Settings())


def draw_counts(axis, table, types, others):
    """Cells of each type, as annotated and as the system and other programs see them, of the same cells."""
    counts = table.apply(pd.Series.value_counts).reindex(types).fillna(0).astype(int)
    counts.plot.bar(ax=axis, width=0.8, color=style.COLOURBLIND[: counts.shape[1]])
    axis.set_xticks(range(len(types)), types, rotation=45, ha="right")
    axis.legend(frameon=False)
    what = "the same {:,} cells, which every program labelled" if others else "{:,} cells"
    axis.set(title=f"Types of {what.format(len(table))}", ylabel="cells", xlabel="")
    return {"E": counts.rename_axis("cell_type").reset_index()}


def comparator_panels(letters, scores):
    """Confusion of other programs against the labels; what is not given is said."""
    others, found = iter(scores.comparators.items()), []
    for letter, usual in zip(letters, ("HD-Yolo", "HoVer-Net"), strict=True):
        name, matched = next(others, (usual, None))
        why = f"no comparator given ({usual} in the paper): evaluate.comparators" if matched is None else ""
        if matched is not None and matched.scores is None:
            why = f"{name} matched no scored cell"

        def draw(axes, letter=letter, name=name, matched=matched):
            return {letter: panels.confusion(axes[0, 0], figure_data.confusion([matched.scores]), False, name)}

        found.append(Panel(letter, draw, why))
    return found


def draw_distances(axis, place, cell_type, types, palette, title):
    """Distances between the cells of each type."""
    nearest = metrics.nearest_distances(place, cell_type.to_numpy(str), types)
    return panels.distances(axis, nearest, types, palette, title)


def main(input, output, params):
    sample, palette = params.samples[0], style.colours(params.types, params.palette)
    scores, cells = Evaluation.read(input.scores[0]), pd.read_parquet(input.scored[0])
    no_types = "" if scores.types else f"{scores.system} predicts no types"
    types = [t for t in palette if t in (scores.types.types if scores.types else set(cells["label"]))]
    rows, xy = project(input.embeddings[0], sample, cells)
    label = cells["label"].to_numpy(str)[rows]
    same = figure_data.same_cells(scores, cells)
    f1 = figure_data.f1_rows([Evaluation.read(path) for path in input.evaluations])
    f1 = pd.concat([f1, figure_data.f1_on_same_cells(scores, same)], ignore_index=True)
    place = cells[["x", "y"]].to_numpy() * Registration.read(input.registrations[0]).mpp

    def confusion(axes):
        return {"B": panels.confusion(axes[0, 0], figure_data.confusion([scores.types]), False, scores.system)}

    def counts(axes):
        return draw_counts(axes[0, 0], same, types, set(same) & set(scores.comparators))

    def between(letter, column, title):
        return lambda axes: {letter: draw_distances(axes[0, 0], place, cells[column], types, palette, title)}

    layout_rows = [
        (
            58,
            [
                Panel("A", lambda axes: {"A": panels.scatter(axes[0, 0], xy, label, palette, "Annotated types")}),
                Panel("B", confusion, no_types),
            ],
        ),
        (58, comparator_panels("CD", scores)),
        (
            46,
            [
                Panel("E", counts),
                Panel(
                    "F",
                    lambda axes: {"F": panels.bars(axes[0, 0], f1, "F1, 95 % interval over spatial blocks")},
                    "no system predicts types" if f1.empty else "",
                    width=1.6,
                ),
            ],
        ),
        (34, [Panel("G", between("G", "label", "Annotated"))]),
        (34, [Panel("H", between("H", "predicted", "Predicted"), no_types)]),
    ]
    title = f"{sample}: {scores.scored_on} ({scores.system}, {scores.protocol} protocol)"
    note = ["G, H: colours are the types that distances lead to."]
    figure, data = layout.compose(title, layout_rows, {name: palette[name] for name in types}, note)
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
