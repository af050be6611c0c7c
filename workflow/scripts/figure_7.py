"""Figures 7 and S3: expression of an external sample: best genes, markers by type, maps of types and their markers."""

import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import figure_data, panels, style
from shest.score import markers

BEST, MARKERS, MAPS = 20, 5, 3


def best_genes(axis, genes, marks, palette):
    """The genes with the highest Pearson R, coloured by the type that they mark."""
    best = genes.sort_values("pearson", ascending=False, kind="stable").head(BEST)
    colour = [palette.get(marks.get(gene), "0.7") for gene in best["gene"]]
    axis.bar(best["gene"], best["pearson"], color=colour, edgecolor="0.6", linewidth=0.3)
    axis.tick_params(axis="x", rotation=90)
    axis.set(ylabel="Pearson R", title=f"The {len(best)} best of {len(genes):,} measured genes")
    return best.assign(marks=best["gene"].map(marks))


def draw_violins(axis, sample, read, groups, palette, title):
    """Markers by type, as measured or as reconstructed."""
    label = sample.cells["label"].to_numpy(str)
    values = np.asarray(read([gene for members in groups.values() for gene in members]), float)
    return panels.marker_violins(axis, values, label, groups, palette, f"{title} (n = {len(label):,} cells)")


def maps_of(chosen, cells, groups):
    """Type and gene of each row of maps: the config's, else the best measured marker of the largest types."""
    if chosen:
        return list(chosen.items())[:MAPS]
    order = cells["label"].value_counts().index
    return [(t, groups[t][0]) for t in order if t in groups][:MAPS]


def draw_maps(axes, letters, sample, cell_type, gene, palette):
    """One row: the cells annotated as a type, its marker as measured and as reconstructed."""
    cells = sample.cells
    xy, extent = cells[["x_um", "y_um"]].to_numpy(), sample.extent
    chosen = (cells["label"] == cell_type).to_numpy()
    data = {letters[0]: panels.type_map(axes[0], xy, chosen, palette.get(cell_type, "black"), extent, cell_type)}
    for axis, letter, known, read, word, why in (
        (axes[1], letters[1], sample.measures(gene), sample.counts, "actual", "unmeasured: not in the sample's panel"),
        (axes[2], letters[2], gene in sample.genes, sample.expected, "reconstructed", "not among the predicted genes"),
    ):
        if known:
            data[letter] = panels.expression_map(axis, xy, read([gene])[:, 0], extent, f"{gene}, {word}")
        else:
            panels.placeholder(axis, f"{gene}, {word}:\n{why}")
    return data


def main(input, output, params):
    palette, (sample,) = style.colours(params.types, params.palette), figure_data.read(input, params.samples)
    genes, table = pd.read_csv(input.genes[0]), pd.read_csv(input.markers[0])
    groups = markers.top(table, list(palette), MARKERS)
    width, height = sample.extent
    map_height = MAPS * (3.5 * height / width + 0.5)
    figure = style.plt.figure(figsize=(13, 11 + map_height))
    top, low = figure.subfigures(2, 1, height_ratios=[11, map_height])
    axes, map_axes = top.subplots(3, 1, height_ratios=[0.6, 1, 1]), low.subplots(MAPS, 3)
    data, no_expression = {}, f"{params.shown['system']} predicts no expression"
    no_markers = None if groups else "no markers: no predicted gene is measured, or fewer than two types of two cells"
    if len(genes):
        marks = markers.marked(markers.top(table, list(palette), len(table)))
        data["A"] = best_genes(axes[0], genes, marks, palette)
    else:
        panels.placeholder(axes[0], "no predicted gene is measured" if sample.genes else no_expression)
    for axis, letter, word, read, why in (
        (axes[1], "B", "Actual", sample.counts, no_markers),
        (axes[2], "C", "Reconstructed", sample.expected, no_markers if sample.genes else no_expression),
    ):
        if why:
            panels.placeholder(axis, why)
        else:
            data[letter] = draw_violins(axis, sample, read, groups, palette, word)
    rows = maps_of(params.markers, sample.cells, groups)
    for row, line in enumerate(map_axes):
        if row < len(rows):
            data |= draw_maps(line, params.panels[3 + 3 * row :], sample, *rows[row], palette)
        else:
            for axis in line:
                panels.placeholder(axis, "no further type with a marker")
    style.panel_labels([*axes, *map_axes.flat], params.panels)
    figure.suptitle(f"{sample.name}: scored cells, types as annotated; reconstructed by {params.shown['system']}")
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
