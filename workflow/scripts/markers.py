"""Scores every gene of the scored cells as a marker of each type."""

import pandas as pd

from shest.core import console, files
from shest.io.counts import read_counts
from shest.labels.training_set import rows_of
from shest.score import markers


def main(input, output):
    scored, genes = pd.read_parquet(input.scored), list(pd.read_csv(input.genes)["gene"])
    counts, measured, cell_ids = read_counts(input.store)
    rows, columns = rows_of(scored["cell_id"], cell_ids, input.store), rows_of(genes, measured, input.store)
    table = markers.scores(counts[rows][:, columns], scored["label"].to_numpy(str), genes)
    with files.atomic_write(output.markers) as tmp_path:
        table.to_csv(tmp_path, index=False, float_format="%.6g")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output)
