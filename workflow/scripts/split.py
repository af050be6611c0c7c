"""Assigns the kept, labelled cells of the training samples to train, val, test, gap; proves that no windows meet."""

import pandas as pd

from shest.core import console, files
from shest.io.registration import Registration
from shest.labels import split, training_set


def gather(tables, mpp, params):
    """Put the units of several samples below each other, with places in µm and patients."""
    placed = [
        table.assign(x_um=table["x"] * mpp[sample][0], y_um=table["y"] * mpp[sample][1], patient=params.samples[sample])
        for sample, table in tables.items()
    ]
    empty = pd.DataFrame(columns=["sample", "id", "x_um", "y_um", "cell_type", "patient"])
    return pd.concat(placed, ignore_index=True) if placed else empty


def main(input, output, params, wildcards):
    mpp = {s: Registration.read(path).mpp for s, path in zip(params.samples, input.registration, strict=True)}
    reach = {u: {s: training_set.window_reach(gap, mpp[s]) for s in mpp} for u, gap in params.gap_um.items()}
    files_of_cells = zip(params.units["cells"], input.cells, input.annotation, strict=True)
    cells = {sample: training_set.labelled_cells(sample, *paths) for sample, *paths in files_of_cells}
    files_of_spots = zip(params.units["spots"], input.spots, strict=True)
    spots = {sample: training_set.kept_spots(sample, path) for sample, path in files_of_spots}
    parts, notes = split.split(
        gather(cells, mpp, params),
        wildcards.protocol,
        wildcards.fold,
        reach["cells"],
        params.split,
        gather(spots, mpp, params),
        reach["spots"],
    )
    for note in notes:
        console.log.info(note)
    counts = pd.crosstab([parts["sample"], parts["unit"], parts["cell_type"].fillna("")], parts["part"])
    console.log.info("\n" + counts.to_string())
    with files.atomic_write(output.split) as tmp_path:
        parts.to_parquet(tmp_path, index=False)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
