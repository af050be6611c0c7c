"""Explains predicted expression of some units of a sample by the nuclei of their windows, a picture a unit and gene."""

import re

import numpy as np
import pandas as pd

from shest.core import console, files
from shest.core.errors import InputError, did_you_mean
from shest.draw import explain as drawing
from shest.draw.style import save_picture
from shest.encode import runner
from shest.io.counts import read_counts_of
from shest.io.genes import Genes
from shest.io.outlines import read_outlines
from shest.io.registration import Registration
from shest.labels.split import fold_of_cells
from shest.labels.training_set import read_split
from shest.run import explain
from shest.systems import base
from shest.tiles.quadruple import window_origin
from shest.tiles.shards import Windows

DPI = 200


def chosen(cells, settings):
    """Rows of the units that are explained: those named, or some at random."""
    known, units = pd.Index(cells["cell_id"]), settings["units"]
    if isinstance(units, int):
        rng = np.random.default_rng(settings["seed"])
        return np.sort(rng.choice(len(cells), min(units, len(cells)), replace=False))
    for unit in units:
        if unit not in known:
            problem = f"no cell {unit} among those predicted of {settings['sample']}"
            raise InputError("explain.units", problem, did_you_mean(unit, known))
    return known.get_indexer(units)


def places(genes, settings):
    """Columns of the genes among the model's."""
    for gene in settings["genes"]:
        if gene not in genes:
            raise InputError("explain.genes", f"no gene {gene} in the model", did_you_mean(gene, genes))
    return [genes.index(gene) for gene in settings["genes"]]


def near(outlines, corner, shape):
    """Rings that reach into the window, and their cells."""
    ids, points, start = outlines
    low = np.minimum.reduceat(points, start[:-1]) if len(ids) else np.empty((0, 2))
    high = np.maximum.reduceat(points, start[:-1]) if len(ids) else np.empty((0, 2))
    inside = np.flatnonzero(((high >= corner) & (low < np.add(corner, shape[::-1]))).all(axis=1))
    return [points[start[k] : start[k + 1]] for k in inside], ids[inside]


def training_means(stores, model, genes):
    """Mean count (genes,) over all cells of the training samples that measured it."""
    total, measured = np.zeros(len(genes)), np.zeros(len(genes))
    known = Genes(model.genes, model.info["gene_ids"])
    for store in stores:
        counts, names, _ = read_counts_of(store, genes, known)
        own = [genes.index(name) for name in names]
        total[own] += np.asarray(counts.sum(axis=0)).ravel()
        measured[own] += counts.shape[0]
    return total / measured


def main(input, output, params, wildcards, threads):
    settings, sample = params.settings, wildcards.sample
    trained = [base.load(*paths) for paths in zip(input.models, input.records, strict=True)]
    folds = [params.folds] if isinstance(params.folds, str) else list(params.folds)
    models, columns = dict(zip(folds, trained, strict=True)), places(trained[0].genes, settings)
    cells = pd.read_parquet(input.cells)
    cells = cells[cells["kept"]].reset_index(drop=True)
    fold = np.full(len(cells), folds[0])
    if len(folds) > 1:  # each cell by the model that never saw it
        tables = [read_split(path, "cells") for path in input.splits]
        fold = fold_of_cells(cells, {f: t[t["sample"] == sample] for f, t in zip(folds, tables, strict=True)})
    rows = chosen(cells, settings)
    if settings["of"] == "high":
        means = training_means(input.stores, trained[0], settings["genes"])
        label, predictor, further = "probability to be high", explain.probability_high, [means]
    else:
        label = trained[0].info["expression_unit"].partition(",")[0]
        predictor, further = explain.expectation, []
    windows = Windows([input.tiles], [(sample, cells["cell_id"][row]) for row in rows])
    encoder, outlines = runner.load(files.read_json(input.encoder), threads), read_outlines(input.outlines)
    mpp, found = Registration.read(input.registration).mpp, []
    with files.atomic_write(output.pictures) as folder, console.track(len(rows), "units", "units") as advance:
        folder.mkdir()
        for place, row in enumerate(rows):
            (window,), (mask,) = windows.take(np.array([place]))
            cell, shape = cells["cell_id"][row], window.shape[:2]
            corner = [int(v[0]) for v in window_origin(cells["x"][[row]], cells["y"][[row]], *shape)]
            rings, owners = near(outlines, corner, shape)
            predict = predictor(models[fold[row]], encoder, mask, columns, *further)
            parts = explain.segments(rings, corner, shape)
            weights = explain.explain(window, parts, predict, settings["seed"], settings["windows"])
            for gene, column in zip(settings["genes"], weights, strict=True):
                nuclei = ["" if part == 0 else owners[part - 1] for part in weights.index]
                values = {"unit": cell, "gene": gene, "nucleus": nuclei, "weight": weights[column].to_numpy()}
                found.append(pd.DataFrame(values))
                figure = drawing.figure(window, rings, corner, weights[column], mpp, cell, f"{gene}, {label}")
                name = re.sub(r"[^\w.-]", "_", f"{cell}.{gene}.png")
                save_picture(figure, folder / name, DPI)
            advance(1)
        pd.concat(found).to_csv(folder / "weights.csv", index=False, float_format="%.6g")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
