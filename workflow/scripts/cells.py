"""Judges every cell by its nucleus and window; writes cells.parquet, and the kept nuclei's outlines in H&E px."""

import pandas as pd

from shest.core import console, files
from shest.io import store
from shest.io.outlines import write_outlines
from shest.io.registration import Registration
from shest.tissue import cells


def main(input, output, params, threads):
    registration = Registration.read(input.registration)
    scales = store.image_scales(input.store)
    cell_ids, outlines = store.read_nuclei(input.store)
    ids, polygons = cells.nucleus_of_each_cell(cell_ids, store.transform_outlines(outlines, registration.um_to_he))
    del cell_ids, outlines  # a large sample's outlines are hundreds of MB
    table = cells.cell_table(
        store.read_cell_ids(input.store),
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
    kept = pd.Series(ids).isin(table.loc[table["kept"], "cell_id"]).to_numpy()  # hashed: np.isin on text is quadratic
    write_outlines(output.outlines, ids[kept], polygons[kept])
    with files.atomic_write(output.cells) as tmp_path:
        table.to_parquet(tmp_path, index=False)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
