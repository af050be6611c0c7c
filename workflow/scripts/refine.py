"""Refines the training cells of a sample (Algorithm 1), in each fold; writes who stays and why."""

import pandas as pd

from shest.core import console, files
from shest.encode import cache
from shest.io.counts import read_counts
from shest.labels import refine
from shest.labels.training_set import read_split, rows_of

PARTS = {"strict": ["train"], "paper": ["train", "val", "test"]}


def refine_fold(split, counts, cell_ids, input, settings, wildcards):
    """Refine the cells of one fold; return table and record."""
    split = split[(split["sample"] == wildcards.sample) & split["part"].isin(PARTS[wildcards.protocol])]
    rows = rows_of(split["id"], cell_ids, input.store)
    source = cache.Embeddings([input.embeddings], [(wildcards.sample, c) for c in split["id"]])
    table, spaces = refine.refine(counts[rows], source.take, split["cell_type"].to_numpy(str), settings)
    table.insert(0, "cell_id", split["id"].to_numpy())
    causes = refine.counts_by_cause(table)
    console.log.info("\n" + causes.to_string())
    for space, result in spaces.items():
        for name in result.whole:
            console.log.info(f"{space}: no cluster of {name} was found, the class is kept whole")
        for name in result.thinned:
            console.log.info(f"{space}: cells of {name} were put together by eighths of eps to save memory")
    return table, {
        "cells": len(table),
        "kept": int(table["kept"].sum()),
        "causes": causes.to_dict(orient="index"),
        "spaces": {s: {"eps": r.eps, "kept_whole": r.whole, "thinned": r.thinned} for s, r in spaces.items()},
    }


def main(input, output, params, wildcards):
    counts, _, cell_ids = read_counts(input.store)
    settings = refine.Settings(**params.refine)
    tables, records = [], {}
    with console.track(len(params.folds), f"refine {wildcards.sample}", "folds") as advance:
        for fold, path in zip(params.folds, input.splits, strict=True):
            found = refine_fold(read_split(path), counts, cell_ids, input, settings, wildcards)
            tables.append(found[0].assign(fold=fold))
            records[fold] = found[1]
            advance()
    files.write_json(output.record, {"folds": records, "settings": vars(settings)})
    with files.atomic_write(output.table) as tmp_path:
        pd.concat(tables, ignore_index=True).to_parquet(tmp_path, index=False)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
