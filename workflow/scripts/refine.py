"""Refines the training cells of a sample (Algorithm 1); writes who stays and why."""

import numpy as np
import pandas as pd

from shest.core import console, files
from shest.encode import cache
from shest.io.counts import read_counts
from shest.labels import refine
from shest.labels.training_set import rows_of


def main(input, output, params, wildcards, threads):
    split = pd.read_parquet(input.split)
    seen = ["train"] if wildcards.protocol == "strict" else ["train", "val", "test"]
    split = split[(split["sample"] == wildcards.sample) & split["part"].isin(seen)].reset_index(drop=True)
    counts, _, cell_ids = read_counts(input.store)
    rows = rows_of(split["cell_id"], cell_ids, input.store)
    embeddings = cache.Embeddings([input.embeddings], [(wildcards.sample, c) for c in split["cell_id"]])
    console.log.info(f"{len(split):,} cells of parts {', '.join(seen)}")
    settings = refine.Settings(**params.refine)
    table, results = refine.refine(counts[rows], embeddings.take, split["cell_type"].to_numpy(str), settings)
    table.insert(0, "cell_id", split["cell_id"])
    causes = refine.counts_by_cause(table)
    console.log.info("\n" + causes.to_string())
    for space, result in results.items():
        for name in result.whole:
            console.log.info(f"{space}: no cluster of {name} was found, the class is kept whole")
        for name in result.thinned:
            console.log.info(f"{space}: cells of {name} were put together by eighths of eps to save memory")
    record = {
        "cells": len(table),
        "kept": int(table["kept"].sum()),
        "causes": causes.to_dict(orient="index"),
        "spaces": {s: {"eps": r.eps, "kept_whole": r.whole, "thinned": r.thinned} for s, r in results.items()},
        "settings": vars(settings),
    }
    files.write_json(output.record, record)
    with files.atomic_write(output.table) as tmp_path:
        table.to_parquet(tmp_path, index=False)


np.seterr(all="ignore")
with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
