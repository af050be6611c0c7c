"""Figures 7 and S3: expression of an external sample: best genes, markers by type, maps of types and their markers."""

import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import figure_data, panels, style
from shest.score import markers

LETTERS = "ABCDEFGHIJKL"
BEST, MARKERS, MAPS = 20, 5, 3


def best_genes(axis, genes, marks, palette):
    """The genes with the highest Pearson R, coloured by the type that they mark."""
    best = genes.sort_values("pearson", ascending=False, kind="stable").head(BEST)
    axis.bar(
        best["gene"],
        best["pearson"],
        color=[palette.get(marks.get(g), "0.7") for g in best["gene"]],
        edgecolor="0.6",
        linewidth=0.3,
    )
    axis.tick_params(axis="x", rotation=90)
    axis.set(ylabel="Pearson R", title=f"The {len(best)} best of {len(genes):,} measured genes")
    return best.assign(marks=best["gene"].map(marks))


def maps_of(chosen, cells, groups):
    """Type and gene of each row of maps: the config's, else the best measured marker of the largest types."""
    if chosen:
        return list(chosen.items())[:MAPS]
    order = cells["actual"].value_counts().index
    return [(t, groups[t][0]) for t in order if t in groups][:MAPS]


def draw_maps(axes, letters, sample, kind, gene, palette):
    """One row: the cells annotated as a type, its marker as measured and as reconstructed."""
    cells = sample.cells
    xy, extent = cells[["x_um", "y_um"]].to_numpy(), sample.extent
    chosen = (cells["actual"] == kind).to_numpy()
    data = {letters[0]: panels.type_map(axes[0], xy, chosen, palette.get(kind, "black"), extent, kind)}
    for axis, letter, there, read, word in (
        (axes[1], letters[1], sample.measures(gene), sample.counts, "actual"),
        (axes[2], letters[2], gene in sample.genes, sample.expected, "reconstructed"),
    ):
        if there:
            data[letter] = panels.expression_map(axis, xy, read([gene])[:, 0], extent, f"{gene}, {word}")
        else:
            why = "unmeasured: not in the sample's panel" if word == "actual" else "no training panel measured it"
            panels.absent(axis, f"{gene}, {word}:\n{why}")
    return data


def main(input, output, params):
    if not params.samples:
        style.without(LETTERS, "no such external sample in the sheet", output.png, output.data)
        return
    palette, sample = (
        style.colours(params.types, params.palette),
        figure_data.read(input, params.samples, params.stores)[0],
    )
    genes, table = pd.read_csv(input.genes[0]), pd.read_csv(input.markers[0])
    groups = markers.top(table, list(palette), MARKERS)
    marks = markers.marked(markers.top(table, list(palette), len(table)))
    names = [gene for members in groups.values() for gene in members]
    kind = sample.cells["actual"].to_numpy(str)
    width, height = sample.extent
    map_height = MAPS * (3.5 * height / width + 0.5)
    figure = style.plt.figure(figsize=(13, 11 + map_height))
    top, low = figure.subfigures(2, 1, height_ratios=[11, map_height])
    axes, map_axes = top.subplots(3, 1, height_ratios=[0.6, 1, 1]), low.subplots(MAPS, 3)
    data = {"A": best_genes(axes[0], genes, marks, palette)}
    for axis, letter, word, read in (
        (axes[1], "B", "Actual", sample.counts),
        (axes[2], "C", "Reconstructed", sample.expected),
    ):
        if names:
            values = np.asarray(read(names), float)
            data[letter] = panels.marker_violins(
                axis, values, kind, groups, palette, f"{word} (n = {len(kind):,} cells)"
            )
        else:
            panels.absent(axis, "no markers: fewer than two types have two scored cells")
    rows = maps_of(params.markers, sample.cells, groups)
    for row in range(MAPS):
        letters = LETTERS[3 + 3 * row : 6 + 3 * row]
        if row < len(rows):
            data |= draw_maps(map_axes[row], letters, sample, *rows[row], palette)
        else:
            for axis in map_axes[row]:
                panels.absent(axis, "no further type with a marker")
    for axis, name in zip([*axes, *map_axes.flat], LETTERS, strict=True):
        style.letter(axis, name)
    figure.suptitle(f"{sample.name}: scored cells, types as annotated")
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
