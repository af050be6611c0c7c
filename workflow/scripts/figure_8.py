"""Figures 8 and S4: Moran's I of each gene of an external sample: of expected and of drawn counts, against measured."""

import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import layout, panels, style
from shest.draw.layout import Panel
from shest.score import markers
from shest.score.evaluation import Evaluation

MARKERS, NAMED = 10, 40
SMOOTH = (
    "Expected counts are means: smoother in space than any counts, so that their Moran's I is too high. "
    "Counts drawn from the predicted distributions are as rough as counts are."
)


def limits(genes, side, low, high, margin):
    """Limits of x and y: quantiles of actual and reconstructed, and a margin, as a share of the span."""
    edges = [np.quantile(genes[column], (low, high)) for column in ("moran_actual", f"moran_{side}")]
    return [(a - margin * max(b - a, 0.01), b + margin * max(b - a, 0.01)) for a, b in edges]


def draw(axes, letters, genes, side, palette):
    """One row: all genes, and the region that is dense with them."""
    genes = genes[["gene", "moran_actual", f"moran_{side}", "marks"]].dropna(subset=["moran_actual", f"moran_{side}"])
    zoom = limits(genes, side, 0.05, 0.95, 0.02)
    data = {
        letters[0]: panels.moran(axes[0], genes, side, palette, limits(genes, side, 0, 1, 0.05), 0, "Full range"),
        letters[1]: panels.moran(axes[1], genes, side, palette, zoom, NAMED, "Dense region"),
    }
    corner, sides = [low for low, _ in zoom], [high - low for low, high in zoom]
    axes[0].add_patch(style.plt.Rectangle(corner, *sides, fill=False, ec="0.3", lw=0.8))
    return data


def why_not(scores, side):
    """Say why Moran's I of a side is not there."""
    if not scores.moran:
        return f"{scores.system} predicts no expression of measured genes"
    if side == "drawn" and not scores.moran["drawn"]:
        return f"{scores.system} predicts no distribution: no counts can be drawn"
    return "no gene varies, or too few cells for a neighbour graph"


def notes(scores):
    """Say on which graph, what agrees, and what to mind."""
    if not scores.moran:
        return []
    r = {"expected counts": scores.moran["correlation"], "drawn counts": scores.moran["correlation_drawn"]}
    said = [f"{name} {value:.3f}" for name, value in r.items() if value is not None]
    return [
        f"Correlation with that of measured counts over genes: {', '.join(said) or 'too few genes'}.",
        f"Moran's I on the {scores.moran['graph']}. Grey band: within 20 % of the line of identity.",
        SMOOTH,
    ]


def main(input, output, params):
    palette, scores = style.colours(params.types, params.palette), Evaluation.read(input.scores[0])
    genes = pd.read_csv(input.genes[0]).reindex(columns=["gene", "moran_actual", "moran_predicted", "moran_drawn"])
    groups = markers.top(pd.read_csv(input.markers[0]), list(palette), MARKERS)
    genes["marks"] = genes["gene"].map(markers.marked(groups))
    rows = []
    for side, letters in (("predicted", "AB"), ("drawn", "CD")):
        there = genes[["moran_actual", f"moran_{side}"]].notna().all(axis=1).any()

        def drawn(axes, letters=letters, side=side):
            return draw(axes[0], letters, genes, side, palette)

        rows.append((90, [Panel(letters, drawn, "" if there else why_not(scores, side), (1, 2))]))
    types = {t: palette[t] for t in palette if t in groups}
    title = f"{scores.sample}, {scores.system}: Moran's I by gene; colours: the type that a gene marks"
    figure, data = layout.compose(title, rows, types, notes(scores))
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
