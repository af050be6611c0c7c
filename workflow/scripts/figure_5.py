"""Figures 5 and S1: types of an external sample: embedding, confusion, counts, F1 beside others, distances."""

import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import figure_data, panels, style
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
    axis.legend(fontsize=6, frameon=False)
    what = "the same {:,} cells, which every program labelled" if others else "{:,} cells"
    axis.set(title=f"Types of {what.format(len(table))}", ylabel="cells", xlabel="")
    return counts.rename_axis("cell_type").reset_index()


def draw_comparators(axes, letters, scores):
    """Confusion of other programs against the labels; what is not given is said."""
    others, data = iter(scores.comparators.items()), {}
    for axis, letter, usual in zip(axes, letters, ("HD-Yolo", "HoVer-Net"), strict=True):
        name, matched = next(others, (usual, None))
        if matched is None:
            panels.placeholder(axis, f"no comparator given\n({usual} in the paper):\nevaluate.comparators")
        elif matched.scores is None:
            panels.placeholder(axis, f"{name} matched no scored cell")
        else:
            data[letter] = panels.confusion(axis, figure_data.confusion([matched.scores]), False, name)
    return data


def draw_distances(axis, place, cell_type, types, palette, title):
    """Distances between the cells of each type, with their legend."""
    nearest = metrics.nearest_distances(place, cell_type.to_numpy(str), types)
    frame = panels.distances(axis, nearest, types, palette, title)
    panels.legend(axis, palette, types, title="to", title_fontsize=6, loc="upper left", bbox_to_anchor=(1, 1))
    return frame


def main(input, output, params):
    sample, palette = params.samples[0], style.colours(params.types, params.palette)
    scores, cells = Evaluation.read(input.scores[0]), pd.read_parquet(input.scored[0])
    no_types = f"{scores.system} predicts no types"
    types = [t for t in palette if t in (scores.types.types if scores.types else set(cells["label"]))]
    figure = style.plt.figure(figsize=(13, 17))
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.7, 1])
    axes, wide = upper.subplots(3, 2), lower.subplots(2, 1)
    rows, xy = project(input.embeddings[0], sample, cells)
    label = cells["label"].to_numpy(str)[rows]
    data = {"A": panels.scatter(axes[0, 0], xy, label, palette, "Embedding, annotated types")}
    panels.legend(axes[0, 0], palette, types, loc="upper left", bbox_to_anchor=(1, 1))
    data |= draw_comparators(axes[1], "CD", scores)
    same = figure_data.same_cells(scores, cells)
    data["E"] = draw_counts(axes[2, 0], same, types, set(same) & set(scores.comparators))
    f1 = figure_data.f1_rows([Evaluation.read(path) for path in input.evaluations])
    f1 = pd.concat([f1, figure_data.f1_on_same_cells(scores, same)], ignore_index=True)
    data["F"] = panels.bars(axes[2, 1], f1, "F1, 95 % interval over spatial blocks")
    place = cells[["x", "y"]].to_numpy() * Registration.read(input.registrations[0]).mpp
    data["G"] = draw_distances(wide[0], place, cells["label"], types, palette, "Annotated")
    if scores.types:
        data["B"] = panels.confusion(axes[0, 1], figure_data.confusion([scores.types]), False, scores.system)
        data["H"] = draw_distances(wide[1], place, cells["predicted"], types, palette, "Predicted")
    else:
        panels.placeholder(axes[0, 1], no_types)
        panels.placeholder(wide[1], no_types)
    style.panel_labels([*axes.flat, *wide], params.panels)
    figure.suptitle(f"{sample}: {scores.scored_on} ({scores.system}, {scores.protocol} protocol)")
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
