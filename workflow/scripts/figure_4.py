"""Figure 4: confusion, F1 of every system, Pearson R per gene, markers; test parts of the training samples."""

import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import figure_data, layout, panels, style
from shest.draw.layout import Panel
from shest.score import markers
from shest.score.evaluation import Evaluation

MARKERS = 10  # a type


def draw_types(axes, scores):
    """Confusion of all samples, as cells and as shares."""
    counts = figure_data.confusion(scores)
    return {
        "A": panels.confusion(axes[0], counts, False, "Cells"),
        "B": panels.confusion(axes[1], counts, True, "Share of each label's cells"),
    }


def draw_genes(axis, table, samples):
    """Pearson R by gene, a violin a sample."""
    groups = {name: table.loc[table["sample"] == name, "pearson"].to_numpy() for name in samples}
    panels.violins(axis, groups, ["0.75"] * len(groups), "Pearson R", 3)
    axis.axhline(0, color="0.6", lw=0.6, zorder=0)
    axis.set(title="Actual against reconstructed, by gene")
    return {"D": table}


def pooled_markers(paths, genes, types):
    """The best markers of each type by their mean score over samples, among genes that all samples measured."""
    tables = [pd.read_csv(path) for path in paths]
    common = set(genes).intersection(*(t["gene"] for t in tables))
    mean = pd.concat(tables).groupby("gene", sort=False).mean().reset_index()
    return markers.top(mean[mean["gene"].isin(common)], types, MARKERS)


def draw_markers(axes, samples, chosen, types, system):
    """Markers by type, as measured and as reconstructed."""
    genes = [gene for group in chosen.values() for gene in group]
    label = np.concatenate([s.cells["label"].to_numpy(str) for s in samples])
    data, counts = {}, np.concatenate([s.counts(genes) for s in samples])
    drawn = [s.drawn(genes) for s in samples]
    predicted = None if any(d is None for d in drawn) else np.concatenate(drawn) > 0
    size = f"{system} predicts no distribution: size says nothing" if predicted is None else "cells with a drawn count"
    for axis, letter, title, values, seen, word in (
        (axes[0], "E", "Actual", counts, counts > 0, "cells with a count"),
        (axes[1], "F", "Reconstructed", np.concatenate([s.expected(genes) for s in samples]), predicted, size),
    ):
        table = markers.by_type(values, seen, label, genes, types)
        data[letter] = panels.dots(axis, table, chosen, types, f"{title} (n = {len(label):,} cells)", word)
    return data


def main(input, output, params):
    palette, system = style.colours(params.types, params.palette), params.shown["system"]
    scores, samples = [Evaluation.read(path) for path in input.scores], figure_data.read(input, params.samples)
    typed = [e.types for e in scores if e.types]
    f1 = figure_data.f1_rows([Evaluation.read(path) for path in input.evaluations])
    tables = [pd.read_csv(p).assign(sample=name) for p, name in zip(input.genes, params.samples, strict=True)]
    by_gene = pd.concat(tables)[["sample", "gene", "pearson"]]
    types = [t for t in palette if any((s.cells["label"] == t).any() for s in samples)]
    chosen = pooled_markers(input.markers, samples[0].genes, types)
    no_expression = f"{system} predicts no expression"
    no_markers = "no markers: fewer than two types have two scored cells" if samples[0].genes else no_expression
    rows = [
        (
            66,
            [
                Panel(
                    "AB",
                    lambda axes: draw_types(axes[0], typed),
                    "" if typed else f"{system} predicts no types",
                    (1, 2),
                )
            ],
        ),
        (
            46,
            [
                Panel(
                    "C",
                    lambda axes: {"C": panels.bars(axes[0, 0], f1, "F1, 95 % interval over spatial blocks")},
                    "no system predicts types" if f1.empty else "",
                    width=2,
                ),
                Panel(
                    "D",
                    lambda axes: draw_genes(axes[0, 0], by_gene, params.samples),
                    no_expression if by_gene.empty else "",
                ),
            ],
        ),
        (
            100,
            [
                Panel(
                    "EF",
                    lambda axes: draw_markers(axes[:, 0], samples, chosen, types, system),
                    "" if any(chosen.values()) else no_markers,
                    (2, 1),
                )
            ],
        ),
    ]
    title = f"Internal test of {', '.join(params.samples)}: {system}, {scores[0].scored_on}"
    figure, data = layout.compose(title, rows)
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
