"""Assigns the kept, labelled cells of the training samples to train, val, test, gap; proves that no windows meet."""

import pandas as pd

from shest.core import console, files
from shest.io.registration import Registration
from shest.labels import split, training_set


def main(input, output, params, wildcards):
    tables, reach = [], {}
    parts = zip(params.samples.items(), input.cells, input.annotation, input.registration, strict=True)
    for (sample, patient), cells, annotation, registration in parts:
        mpp = Registration.read(registration).mpp
        reach[sample] = training_set.window_reach(params.gap_um, mpp)
        table = training_set.labelled_cells(sample, cells, annotation)
        tables.append(table.assign(x_um=table["x"] * mpp[0], y_um=table["y"] * mpp[1], patient=patient))
    table = pd.concat(tables, ignore_index=True)
    parts, notes = split.split(table, wildcards.protocol, wildcards.fold, reach, params.split)
    for note in notes:
        console.log.info(note)
    counts = pd.crosstab([parts["sample"], parts["cell_type"]], parts["part"])
    console.log.info("\n" + counts.to_string())
    with files.atomic_write(output.split) as tmp_path:
        parts.to_parquet(tmp_path, index=False)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
