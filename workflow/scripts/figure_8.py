"""Figures 8 and S4: Moran's I of each gene of an external sample, actual against reconstructed."""

import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import panels, style
from shest.score import markers
from shest.score.evaluation import Evaluation

MARKERS, NAMED = 10, 40


def limits(genes, low, high, margin):
    """Limits of x and y: quantiles of actual and reconstructed, and a margin, as a share of the span."""
    edges = [np.quantile(genes[column], (low, high)) for column in ("moran_actual", "moran_predicted")]
    return [(a - margin * max(b - a, 0.01), b + margin * max(b - a, 0.01)) for a, b in edges]


def draw(axes, genes, palette, types):
    """All genes, and the region that is dense with them."""
    zoom = limits(genes, 0.05, 0.95, 0.02)
    data = {
        "A": panels.moran(axes[0], genes, palette, limits(genes, 0, 1, 0.05), 0, "Full range"),
        "B": panels.moran(axes[1], genes, palette, zoom, NAMED, "Dense region"),
    }
    corner, sides = [low for low, _ in zoom], [high - low for low, high in zoom]
    axes[0].add_patch(style.plt.Rectangle(corner, *sides, fill=False, ec="0.3", lw=0.8))
    panels.legend(axes[1], palette, types, title="marker of", title_fontsize=6, loc="upper left", bbox_to_anchor=(1, 1))
    return data


def main(input, output, params):
    palette, scores = style.colours(params.types, params.palette), Evaluation.read(input.scores[0])
    genes = pd.read_csv(input.genes[0])[["gene", "moran_actual", "moran_predicted"]].dropna()
    groups = markers.top(pd.read_csv(input.markers[0]), list(palette), MARKERS)
    genes["marks"] = genes["gene"].map(markers.marked(groups))
    figure, axes = style.plt.subplots(1, 2, figsize=(12, 6.2))
    if genes.empty:
        data, why = {}, "no gene varies, or too few cells for a neighbour graph"
        for axis in axes:
            panels.placeholder(axis, why if scores.moran else f"{scores.system} predicts no expression")
    else:
        data = draw(axes, genes, palette, [t for t in palette if t in groups])
    style.panel_labels(axes, params.panels)
    r = scores.moran["correlation"] if scores.moran else None
    correlation = f"correlation over genes {r:.3f}" if r is not None else "too few genes to correlate"
    band = "grey band: within 20 % of the line of identity"
    figure.suptitle(f"{scores.sample}, {scores.system}: {correlation}; {band}")
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
