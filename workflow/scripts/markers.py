"""Scores every gene of the scored cells as a marker of each type."""

import pandas as pd

from shest.core import console, files
from shest.io.counts import read_counts
from shest.io.genes import Genes
from shest.labels.training_set import rows_of
from shest.score import markers


def main(input, output):
    scored, table = pd.read_parquet(input.scored), pd.read_csv(input.genes, keep_default_na=False)
    genes = list(table["gene"])
    counts, measured, cell_ids = read_counts(input.store, Genes.of(genes, table["id"]))
    rows, columns = rows_of(scored["cell_id"], cell_ids, input.store), rows_of(genes, measured.symbols, input.store)
    table = markers.scores(counts[rows][:, columns], scored["label"].to_numpy(str), genes)
    with files.atomic_write(output.markers) as tmp_path:
        table.to_csv(tmp_path, index=False, float_format="%.6g")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output)
