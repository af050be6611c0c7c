"""Checks a pathologist's table against the bundle's cells and the config's types; writes how many cells have each."""

from pathlib import Path

from shest.core import check_record, console
from shest.core.errors import Findings
from shest.io.xenium import COPY, read_cells
from shest.labels.checks import check_table


def main(input, output, params):
    findings = Findings()
    cells = findings.attempt(input.cells, COPY, read_cells, Path(input.cells).parent)
    cell_ids = None if cells is None else cells["cell_id"].to_numpy()
    counts = check_table(input.table[0], cell_ids, params.owners, findings)
    check_record.write(output.record, {} if counts is None else {"cells": counts.to_dict()}, findings)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
