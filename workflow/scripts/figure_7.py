"""Figures 7 and S3: expression of an external sample: best genes, markers by type, maps of types and their markers."""

import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import figure_data, layout, panels, style
from shest.draw.layout import Panel
from shest.score import markers

BEST, MARKERS, MAPS = 20, 5, 3
TALLEST_MAP_MM = 30


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


def map_row(letters, sample, line, palette):
    """Panels of a row: the cells annotated as a type, its marker as measured and as reconstructed."""
    if line is None:
        return [Panel(letters, None, "no further type with a marker")]
    (cell_type, gene), cells = line, sample.cells
    xy, extent = cells[["x_um", "y_um"]].to_numpy(), sample.extent
    chosen, colour = (cells["label"] == cell_type).to_numpy(), palette.get(cell_type, "black")

    def of_type(axes):
        return {letters[0]: panels.type_map(axes[0, 0], xy, chosen, colour, extent, cell_type)}

    def of_gene(letter, read, word):
        def draw(axes):
            values = read([gene])[:, 0]
            return {letter: panels.expression_map(axes[0, 0], xy, values, extent, f"{gene}, {word}")}

        return draw

    unmeasured = "" if sample.measures(gene) else f"{gene} is not in the sample's panel"
    unpredicted = "" if gene in sample.genes else f"{gene} is not among the predicted genes"
    return [
        Panel(letters[0], of_type),
        Panel(letters[1], of_gene(letters[1], sample.counts, "actual"), unmeasured),
        Panel(letters[2], of_gene(letters[2], sample.expected, "reconstructed"), unpredicted),
    ]


def main(input, output, params):
    palette, (sample,) = style.colours(params.types, params.palette), figure_data.read(input, params.samples)
    genes, table = pd.read_csv(input.genes[0]), pd.read_csv(input.markers[0])
    groups = markers.top(table, list(palette), MARKERS)
    width, height = sample.extent
    no_expression = f"{params.shown['system']} predicts no expression"
    no_genes = "no predicted gene is measured" if sample.genes else no_expression
    no_markers = "" if groups else "no markers: no predicted gene is measured, or fewer than two types of two cells"
    marks = markers.marked(markers.top(table, list(palette), len(table))) if len(genes) else {}

    def violins(letter, read, word):
        return lambda axes: {letter: draw_violins(axes[0, 0], sample, read, groups, palette, word)}

    lines = maps_of(params.markers, sample.cells, groups)
    map_mm = min(0.27 * layout.WIDTH_MM * height / width + 7, TALLEST_MAP_MM)
    rows = [
        (
            27,
            [
                Panel(
                    "A",
                    lambda axes: {"A": best_genes(axes[0, 0], genes, marks, palette)},
                    "" if len(genes) else no_genes,
                )
            ],
        ),
        (56, [Panel("B", violins("B", sample.counts, "Actual"), no_markers)]),
        (
            56,
            [Panel("C", violins("C", sample.expected, "Reconstructed"), no_markers if sample.genes else no_expression)],
        ),
    ]
    for k, line in enumerate([*lines, *[None] * (MAPS - len(lines))]):
        rows.append((map_mm, map_row(params.panels[3 + 3 * k : 6 + 3 * k], sample, line, palette)))
    title = f"{sample.name}: scored cells, types as annotated; reconstructed by {params.shown['system']}"
    types = {t: palette[t] for t in palette if t in groups or (sample.cells["label"] == t).any()}
    figure, data = layout.compose(title, rows, types)
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
