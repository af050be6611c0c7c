"""Judges every cell by its nucleus and window; writes cells.parquet."""

import numpy as np

from shest.core import console, files
from shest.io import store
from shest.io.outlines import read_polygons
from shest.io.registration import Registration
from shest.tissue import cells


def main(input, output, params, threads):
    registration = Registration.read(input.registration)
    scales = store.image_scales(input.store)
    ids, polygons = read_polygons(input.outlines)
    table = cells.cell_table(
        np.union1d(store.read_cell_ids(input.store), ids),  # nuclei that were found on a slide are its cells
        ids,
        polygons,
        scales[0].shape[1:],
        registration.mpp,
        params.limits,
        params.window_um,
        cells.grey_by_block(scales[0], params.block_px, threads),
    )
    for reason, number in cells.counts(table).items():
        console.log.info(f"{reason}: {number:,}")
    with files.atomic_write(output.cells) as tmp_path:
        table.to_parquet(tmp_path, index=False)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
