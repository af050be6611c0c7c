"""Figure H: maps of named genes, measured and predicted, and two clusters of predicted expression against regions."""

import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import figure_data, layout, panels, style
from shest.draw.layout import Panel
from shest.io.expression import COMMON
from shest.io.regions import read_regions
from shest.score import regions

MAPS = "ABCD"
EDGE_UM = 150
COLOURS = {True: style.COLOURBLIND[1], False: "0.85"}


def places(sample):
    """Places of a sample's units, µm from the corner of what they span, and how large that is."""
    xy = sample.cells[["x_um", "y_um"]].to_numpy()
    low = xy.min(axis=0) - EDGE_UM
    return xy - low, tuple(xy.max(axis=0) + EDGE_UM - low)


def draw_maps(axes, sample, genes):
    """Each gene, measured beside predicted, on one scale of colours."""
    xy, extent = places(sample)
    data = {}
    for pair, gene in zip(axes.reshape(-1, 2), genes, strict=True):
        both = np.hstack(sample.logs([gene])).T
        r = np.corrcoef(both)[0, 1] if (np.ptp(both, axis=1) > 0).all() else 0.0
        titles = f"{sample.name}, {gene} measured (n = {len(xy):,})", f"predicted, r = {r:.2f}"
        for axis, values, title in zip(pair, both, titles, strict=True):
            panels.value_map(axis, xy, values, (both.min(), both.max()), extent, title, COMMON)
        data[gene] = pd.DataFrame({"x_um": xy[:, 0], "y_um": xy[:, 1], "measured": both[0], "predicted": both[1]})
    return data


def cluster(sample, path, cancer):
    """Regions and clusters of the units that have a region, and how they agree."""
    labels = read_regions(path).reindex(sample.cells["cell_id"])
    known = labels.notna().to_numpy()
    if not known.any():
        return None
    is_cancer = labels[known].isin(cancer).to_numpy()
    found = regions.two_clusters(sample.expected(sample.genes)[known])
    return known, is_cancer, regions.stands_for_cancer(found, is_cancer), regions.agreement(found, is_cancer)


def draw_clusters(axes, sample, known, is_cancer, called):
    xy, extent = places(sample)
    for axis, which, title in zip(axes, (is_cancer, called), ("cancer, by the pathologist", "by cluster"), strict=True):
        panels.type_map(axis, xy[known], which, COLOURS[True], extent, f"{sample.name}: {title}", "spots")
    table = pd.DataFrame({"x_um": xy[known, 0], "y_um": xy[known, 1], "cancer": is_cancer, "cluster": called})
    return {"EF": table}


def main(input, output, params):
    samples = figure_data.read(input, params.samples)
    genes = [gene for gene in params.genes if all(gene in s.genes and s.measures(gene) for s in samples)]
    system, rows, notes = params.shown["system"], [], []
    for k, letter in enumerate(MAPS):
        sample = samples[k] if k < len(samples) else None

        def drawn(axes, sample=sample, letter=letter):
            found = draw_maps(axes, sample, genes)
            return {f"{letter}.{gene}": table for gene, table in found.items()}

        why = "no further sample" if sample is None else "" if genes else f"{', '.join(params.genes)} not measured"
        rows.append((34, [Panel(letter, drawn, why, (1, 2 * max(len(genes), 1)))]))
    labelled = [(s, found) for s in samples if s.name in params.regions for found in [_clusters(s, params)] if found]
    why = "" if labelled else "no region of a scored sample is known (figures.regions)"
    if labelled:
        sample, (known, is_cancer, called, said) = labelled[0]
        notes.append(
            f"Two clusters of what is predicted for {sample.name}: {said['agree']:,} of {said['n']:,} units agree "
            f"({said['share']:.3f}; all in one: {said['majority']:.3f}), adjusted Rand index {said['rand']:.3f}."
        )
    rows.append((44, [Panel("EF", lambda a: draw_clusters(a[0], sample, known, is_cancer, called), why, (1, 2))]))
    figure, data = layout.compose(f"{system}: expression of named genes, {COMMON}", rows, notes=notes)
    style.save(figure, output.png, data, output.data)


def _clusters(sample, params):
    return cluster(sample, params.regions[sample.name], params.cancer)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
