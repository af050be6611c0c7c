"""The figure of STImage: maps of two genes and of what is uncertain of them, ensemble, scores by sample and system."""

from pathlib import Path

import numpy as np
import pandas as pd

from shest.core import console
from shest.core.files import read_json
from shest.draw import comparison, layout, stimage, style
from shest.draw.layout import Panel
from shest.io import store
from shest.io.counts import read_counts
from shest.io.expression import normalise
from shest.io.registration import Registration
from shest.labels.training_set import rows_of
from shest.score import compare
from shest.score.evaluation import Evaluation
from shest.systems import base, sources

ROWS = 2048  # units at once
COMPARED = 2000  # units that members are compared on, at most
PARTS = {"expected": "expected", "aleatoric": "aleatoric variance", "epistemic": "epistemic variance"}


def look(input, sample, units):
    """What the models of the folds say of two genes for every unit, and their members of some units and all genes."""
    records = [read_json(path) for path in input.own_records]
    reads = base.spec_of(records[0]["kind"]).reading(records[0]["settings"])
    ids = units.iloc[:, 0].to_numpy(str)
    source = sources.open_source(reads, input.own_source, [(sample, unit) for unit in ids])
    counts, panel, all_ids = read_counts(input.own_store[0])
    known = [gene for gene in records[0]["genes"] if gene in set(panel.symbols)]
    columns = rows_of(known, records[0]["genes"], "models")
    counts = counts[rows_of(ids, all_ids, input.own_store[0])][:, rows_of(known, panel.symbols, input.own_store[0])]
    total = np.asarray(counts.sum(axis=1), float).ravel()
    counts = normalise(counts, total, records[0]["expression_unit"])
    genes = stimage.two_genes(known, np.asarray(counts.mean(axis=0)).ravel())
    wanted = columns[[known.index(gene) for gene in genes]]
    maps = {name: np.full((len(units), 2), np.nan, np.float32) for name in PARTS}
    compared = np.unique(np.linspace(0, len(units) - 1, min(len(units), COMPARED)).astype(int))
    members = []
    for record, model in zip(input.own_records, input.own_models, strict=True):
        trained = base.load(model, record)
        own = units["fold"].to_numpy(str) == trained.info["fold"]
        for rows in (r for r in np.array_split(np.flatnonzero(own), -(-own.sum() // ROWS) or 1) if len(r)):
            found = trained.system.predict(source.take(rows))
            for name, values in maps.items():
                values[rows] = getattr(found, name)[:, wanted]
        rows = compared[own[compared]]
        if len(rows):
            members.append((rows, [m[:, columns] for m in trained.system.member_means(source.take(rows))]))
    order = np.concatenate([rows for rows, _ in members])
    joined = [np.concatenate(parts) for parts in zip(*(found for _, found in members), strict=True)]
    return genes, maps, stimage.member_table(counts[order].toarray(), joined)


def r_of_genes(paths, evaluations):
    """R of each gene by sample and system, of systems that predict expression."""
    found = {}
    for path, e in zip(paths, evaluations, strict=True):
        if e.pearson:
            found[e.sample, e.system] = pd.read_csv(path)["pearson"].to_numpy()
    return found


def main(input, output, params):
    sample = params.samples[0]
    units, mpp = pd.read_parquet(input.own_scored[0]), np.array(Registration.read(input.own_registration[0]).mpp)
    evaluations = [Evaluation.read(path) for path in input.own_scores]
    table = comparison.shown(compare.rows(evaluations).to_dict("records"))
    genes, maps, members = look(input, sample, units)
    xy = units[["x", "y"]].to_numpy() * mpp
    image = Path(input.own_store[0]).with_name("sdata.zarr")  # pseudo-spots have a store of their own, without it
    height, width = store.image_scales(image)[0].shape[1:]
    extent = (width * mpp[0], height * mpp[1])

    def of_gene(letter, k, name):
        def draw(axes):
            title = f"{genes[k]}, {PARTS[name]}"
            return {letter: stimage.value_map(axes[0, 0], xy, maps[name][:, k], extent, title, "")}

        lacking = np.isnan(maps[name][:, k]).all()
        return Panel(letter, draw, "one member alone has no epistemic variance" if lacking else "")

    def of_score(letter, name):
        why = "" if table[name].notna().any() else "no system has such a score"
        return Panel(letter, lambda axes: {letter: comparison.points(axes[0, 0], table, name)}, why)

    map_mm = min(layout.WIDTH_MM / 3 * extent[1] / extent[0], 48)
    alone = "" if len(members) > 1 else "one member alone is no ensemble"
    rows = [
        (map_mm, [of_gene(letter, 0, name) for letter, name in zip("ABC", PARTS, strict=True)]),
        (map_mm, [of_gene(letter, 1, name) for letter, name in zip("DEF", PARTS, strict=True)]),
        (
            45,
            [
                Panel("G", lambda axes: {"G": stimage.members(axes[0, 0], members)}, alone),
                Panel(
                    "H",
                    lambda axes: {"H": stimage.boxes(axes[0, 0], r_of_genes(input.own_genes, evaluations))},
                    width=1.8,
                ),
            ],
        ),
        (40, [of_score("I", "iou_high"), of_score("J", "auc_high")]),
    ]
    note = [
        "G: units of the first sample, each by the fold that held it out.",
        "H: boxes are quartiles, whiskers 5th and 95th percentile.",
        "I, J: a colour a sample, in the order of H; bars are 95 % intervals over blocks, grey what chance gives.",
    ]
    title = f"{sample}, {params.shown['system']}: two genes, members, and all systems side by side"
    figure, data = layout.compose(title, rows, notes=note)
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
