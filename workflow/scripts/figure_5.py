"""Figures 5 and S1: types of an external sample: embedding, confusion, counts, F1 beside others, distances."""

import os

import numpy as np
import pandas as pd

from shest.core import console, files
from shest.draw import panels, style
from shest.encode import cache
from shest.labels import refine
from shest.score import metrics

LETTERS = "ABCDEFGH"
UMAP_CELLS = 20_000  # projected at most
SEED = 42


def project(path, sample, cells):
    """UMAP of the embeddings of scored cells, at most 20,000 of them -> rows, (n, 2)."""
    rows = np.sort(np.random.default_rng(SEED).permutation(len(cells))[:UMAP_CELLS])
    embeddings = cache.Embeddings([path], [(sample, c) for c in cells["cell_id"].iloc[rows]])
    return rows, refine.project(refine.embedding_components(embeddings.take, len(rows)), refine.Settings())


def counts_panel(axis, scores, types):
    """Cells of each type: annotated, and called by us and by others."""
    matrix = pd.DataFrame(scores["confusion"]["counts"], scores["confusion"]["types"], scores["confusion"]["types"])
    columns = {"annotated": matrix.sum(axis=1), "SHEST": matrix.sum(axis=0)}
    columns |= {name: pd.Series(found["counts"]) for name, found in scores["comparators"].items()}
    table = pd.DataFrame(columns).reindex(types).fillna(0).astype(int)
    table.plot.bar(ax=axis, width=0.8, color=style.COLOURBLIND[: len(columns)], rot=45)
    axis.set_xticks(range(len(types)), types, rotation=45, ha="right")
    axis.legend([f"{name} (n = {table[name].sum():,})" for name in table], fontsize=6, frameon=False)
    axis.set(title="Cells by type", ylabel="cells", xlabel="")
    return table.rename_axis("cell_type").reset_index()


def f1_rows(scores):
    """F1 of the heads and the logistic baseline, and of each comparator beside the heads on the cells it found."""
    rows = []
    for name in ("weighted", "macro"):
        low, high = scores["intervals"].get(name) or (np.nan, np.nan)
        rows.append((f"{name}\nall scored\nn = {scores['n_cells']:,}", "SHEST", scores["f1"][name], low, high))
        logistic = scores["baselines"]["logistic"]["f1"][name]
        rows.append((f"{name}\nall scored\nn = {scores['n_cells']:,}", "logistic", logistic, np.nan, np.nan))
        for other, found in scores["comparators"].items():
            if found["n_matched"]:
                label = f"{name}\nfound by {other}\nn = {found['n_matched']:,}"
                rows.append((label, "SHEST", found["ours"]["f1"][name], np.nan, np.nan))
                rows.append((label, other, found["f1"][name], np.nan, np.nan))
    return pd.DataFrame(rows, columns=["score", "by", "value", "low", "high"])


def comparator_panels(axes, letters, scores):
    """Confusion of other systems against the annotation; what is not given is said."""
    others, data = list(scores["comparators"].items()), {}
    for axis, letter, usual in zip(axes, letters, ("HD-Yolo", "HoVer-Net"), strict=True):
        name, found = others.pop(0) if others else (usual, None)
        if not found or not found["n_matched"]:
            why = (
                f"{name} matched no scored cell"
                if found
                else f"no comparator given\n({usual} in the paper):\nevaluate.comparators"
            )
            panels.absent(axis, why)
            continue
        matrix = np.array(found["confusion"]["counts"])
        data[letter] = panels.confusion(axis, matrix, found["confusion"]["types"], False, name)
    return data


def main(input, output, params):
    if not params.samples:
        style.without(LETTERS, "no such external sample in the sheet", output.png, output.data)
        return
    sample, palette = params.samples[0], style.colours(params.types, params.palette)
    scores, cells = files.read_json(input.scores[0]), pd.read_parquet(input.scored[0])
    types = [t for t in palette if t in scores["confusion"]["types"]]
    figure = style.plt.figure(figsize=(13, 17))
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.7, 1])
    axes, wide = upper.subplots(3, 2), lower.subplots(2, 1)
    rows, xy = project(input.embeddings[0], sample, cells)
    data = {
        "A": panels.cloud(axes[0, 0], xy, cells["actual"].to_numpy(str)[rows], palette, "Embedding, annotated types")
    }
    panels.legend(axes[0, 0], palette, types, loc="upper left", bbox_to_anchor=(1, 1))
    matrix = np.array(scores["confusion"]["counts"])
    data["B"] = panels.confusion(axes[0, 1], matrix, scores["confusion"]["types"], False, "SHEST")
    data |= comparator_panels(axes[1], "CD", scores)
    data["E"] = counts_panel(axes[2, 0], scores, types)
    data["F"] = panels.bars(axes[2, 1], f1_rows(scores), "F1, 95 % interval over spatial blocks")
    registration = files.read_json(input.registrations[0])
    place = cells[["x", "y"]].to_numpy() * (registration["mpp_x"], registration["mpp_y"])
    for axis, letter, name, kind in ((wide[0], "G", "Annotated", "actual"), (wide[1], "H", "Predicted", "called")):
        found = metrics.nearest_distances(place, cells[kind].to_numpy(str), types)
        data[letter] = panels.distances(axis, found, types, palette, name)
        panels.legend(axis, palette, types, title="to", title_fontsize=6, loc="upper left", bbox_to_anchor=(1, 1))
    for axis, name in zip([*axes.flat, *wide], LETTERS, strict=True):
        style.letter(axis, name)
    figure.suptitle(f"{sample}: {scores['scored_on']} ({scores['protocol']} protocol)")
    style.save(figure, output.png, data, output.data)


os.environ["NUMBA_NUM_THREADS"] = "1"  # UMAP repeats exactly only on one thread
with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
