"""Tells what became of patients from the expression that was predicted of their slides: by gene, and by several."""

import numpy as np
import pandas as pd

from shest.core import console, files
from shest.draw import cohort as drawing
from shest.draw import layout, style
from shest.io.cohort import read_cohort
from shest.score import cohort


def record_of(outcome, outside, inside, settings):
    """What the models are worth, out of fold and in sample."""
    measure = outcome.measure
    record = {
        "measure": measure,
        "folds": settings["folds"],
        "repeats": settings["repeats"],
        "out_of_fold": {
            measure: float(outside.model.mean()),
            "deviation": float(outside.model.std()),
            "genes_of_a_model": sorted({int(k) for k in outside.counts}),
        },
        "in_sample": {measure: float(inside.model), "genes_of_a_model": len(inside.best)},
    }
    if isinstance(outcome, cohort.Survival):
        for name, told in (("out_of_fold", outside), ("in_sample", inside)):
            p = cohort.log_rank(outcome, cohort.halves(told.standing))
            record[name]["log_rank_p"] = None if np.isnan(p) else p
    return record


def main(input, output, params):
    table = read_cohort(input.table, params.samples)
    expression = pd.read_csv(input.expression, index_col="slide")
    genes, outcome = cohort.by_patient(expression, table, params.settings["model"])
    genes = genes.loc[:, genes.std(axis=0, ddof=0) > 0]
    lost = sorted(set(table["sample"]) - set(expression.index))
    record = {"patients": len(outcome), "slides": int(table["sample"].isin(expression.index).sum()), "lost": lost}
    why = cohort.too_few(outcome, params.settings["folds"]) or ("" if genes.shape[1] else "no gene varies")
    if why:
        result, record = pd.DataFrame(columns=["gene"]), record | {"reason": why}
        figure, data = layout.none("abc", why)
    else:
        x, settings = genes.to_numpy(), params.settings
        with console.track(settings["folds"] * settings["repeats"], "folds", "folds") as advance:
            outside = cohort.out_of_fold(x, outcome, settings["folds"], settings["repeats"], settings["seed"], advance)
        inside = cohort.in_sample(x, outcome)
        chance = cohort.best_by_chance(x, outcome, settings["seed"])
        record |= record_of(outcome, outside, inside, settings)
        record["best_gene_by_chance"] = float(np.quantile(chance, 0.95))
        result = cohort.gene_table(genes.columns, outside, inside, chance, outcome.measure)
        figure, data = drawing.figure(outcome, outside, inside, result, record)
    with files.atomic_write(output.table) as tmp_path:
        result.to_csv(tmp_path, index=False, float_format="%.6g")
    files.write_json(output.record, record)
    style.save(figure, output.png, data, output.data)
    console.log.info(why or f"{len(outcome):,} patients, {genes.shape[1]:,} genes")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
