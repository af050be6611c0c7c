"""Figure 4: confusion, F1 beside the baselines, Pearson R per gene, markers; test parts of the training samples."""

import numpy as np
import pandas as pd

from shest.core import console, files
from shest.draw import figure_data, panels, style
from shest.score import markers

LETTERS = "ABCDEF"
MARKERS = 10  # a type


def f1_rows(scores):
    """One row a sample, protocol and score: the heads with their interval, and the logistic baseline."""
    rows, numbers = [], {}
    for s in scores:
        numbers.setdefault(s["sample"], []).append(f"{s['n_cells']:,} {s['protocol']}")
    for s in scores:
        for name in ("weighted", "macro"):
            low, high = s["intervals"].get(name) or (np.nan, np.nan)
            label = "\n".join([s["sample"], name, *(f"n = {number}" for number in numbers[s["sample"]])])
            rows.append((label, f"heads, {s['protocol']}", s["f1"][name], low, high))
            value = s["baselines"]["logistic"]["f1"][name]
            rows.append((label, f"logistic, {s['protocol']}", value, np.nan, np.nan))
    return pd.DataFrame(rows, columns=["score", "by", "value", "low", "high"])


def pooled_markers(paths, genes, types):
    """The best markers of each type by their mean score over samples, among genes that all samples measured."""
    tables = [pd.read_csv(path) for path in paths]
    common = set(genes).intersection(*(t["gene"] for t in tables))
    mean = pd.concat(tables).groupby("gene", sort=False).mean().reset_index()
    return markers.top(mean[mean["gene"].isin(common)], types, MARKERS)


def main(input, output, params):
    if not params.samples:
        style.without(LETTERS, "no training sample", output.png, output.data)
        return
    palette = style.colours(params.types, params.palette)
    scores = [files.read_json(path) for path in input.scores]
    matrix, types = panels.summed_confusion(scores)
    figure = style.plt.figure(figsize=(12, 13.5))
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.55, 1])
    axes, dot_axes = upper.subplots(2, 2), lower.subplots(2, 1)
    data = {
        "A": panels.confusion(axes[0, 0], matrix, types, False, "Cells"),
        "B": panels.confusion(axes[0, 1], matrix, types, True, "Share of actual cells"),
        "C": panels.bars(
            axes[1, 0],
            f1_rows([files.read_json(path) for path in input.every]),
            "F1, 95 % interval over spatial blocks",
        ),
    }
    tables = [pd.read_csv(p).assign(sample=name) for p, name in zip(input.genes, params.samples, strict=True)]
    groups = {t["sample"].iloc[0]: t["pearson"].to_numpy() for t in tables}
    panels.violins(axes[1, 1], groups, ["0.75"] * len(groups), "Pearson R", 3)
    axes[1, 1].axhline(0, color="0.6", lw=0.6, zorder=0)
    axes[1, 1].set(title="Actual against reconstructed, by gene")
    data["D"] = pd.concat(tables)[["sample", "gene", "pearson"]]

    samples = figure_data.read(input, params.samples, params.stores)
    chosen = pooled_markers(input.markers, samples[0].genes, [t for t in palette if t in types])
    genes = [gene for group in chosen.values() for gene in group]
    kind = np.concatenate([s.cells["actual"].to_numpy(str) for s in samples])
    for axis, letter, title, values in (
        (dot_axes[0], "E", "Actual", [s.counts(genes) for s in samples]),
        (dot_axes[1], "F", "Reconstructed", [s.expected(genes) for s in samples]),
    ):
        if genes:
            table = markers.by_type(np.concatenate(values), kind, genes, types)
            data[letter] = panels.dots(axis, table, chosen, types, f"{title} (n = {len(kind):,} cells)")
        else:
            panels.absent(axis, "no markers: fewer than two types have two scored cells")
    for axis, name in zip([*axes.flat, *dot_axes], LETTERS, strict=True):
        style.letter(axis, name)
    figure.suptitle(f"Internal test of {', '.join(params.samples)}: {scores[0]['scored_on']}")
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
