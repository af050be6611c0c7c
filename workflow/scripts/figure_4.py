"""Figure 4: confusion, F1 of every system, Pearson R per gene, markers; test parts of the training samples."""

import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import figure_data, panels, style
from shest.score import markers
from shest.score.evaluation import Evaluation

MARKERS = 10  # a type


def draw_types(axes, evaluations, why):
    """Confusion of all samples, as cells and as shares."""
    scores = [e.types for e in evaluations if e.types]
    if not scores:
        for axis in axes:
            panels.placeholder(axis, why)
        return {}
    counts = figure_data.confusion(scores)
    return {
        "A": panels.confusion(axes[0], counts, False, "Cells"),
        "B": panels.confusion(axes[1], counts, True, "Share of each label's cells"),
    }


def draw_genes(axis, paths, samples, why):
    """Pearson R by gene, a violin a sample."""
    tables = [pd.read_csv(p).assign(sample=name) for p, name in zip(paths, samples, strict=True)]
    table = pd.concat(tables)[["sample", "gene", "pearson"]]
    if table.empty:
        panels.placeholder(axis, why)
        return {}
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


def draw_markers(axes, samples, chosen, types, system, why):
    """Markers by type, as measured and as reconstructed."""
    genes = [gene for group in chosen.values() for gene in group]
    label = np.concatenate([s.cells["label"].to_numpy(str) for s in samples])
    if not genes:
        for axis in axes:
            panels.placeholder(axis, why)
        return {}
    data, counts = {}, np.concatenate([s.counts(genes) for s in samples])
    drawn = [s.drawn(genes) for s in samples]
    predicted = None if any(d is None for d in drawn) else np.concatenate(drawn) > 0
    size = f"{system} predicts no distribution:\nsize says nothing" if predicted is None else "cells with a drawn count"
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
    f1 = figure_data.f1_rows([Evaluation.read(path) for path in input.evaluations])
    figure = style.plt.figure(figsize=(12, 13.5))
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.55, 1])
    axes, dot_axes = upper.subplots(2, 2), lower.subplots(2, 1)
    no_expression = f"{system} predicts no expression"
    data = draw_types(axes[0], scores, f"{system} predicts no types")
    data["C"] = panels.bars(axes[1, 0], f1, "F1, 95 % interval over spatial blocks")
    data |= draw_genes(axes[1, 1], input.genes, params.samples, no_expression)
    types = [t for t in palette if any((s.cells["label"] == t).any() for s in samples)]
    chosen = pooled_markers(input.markers, samples[0].genes, types)
    why = "no markers: fewer than two types have two scored cells" if samples[0].genes else no_expression
    data |= draw_markers(dot_axes, samples, chosen, types, system, why)
    style.panel_labels([*axes.flat, *dot_axes], params.panels)
    figure.suptitle(f"Internal test of {', '.join(params.samples)}: {system}, {scores[0].scored_on}")
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
