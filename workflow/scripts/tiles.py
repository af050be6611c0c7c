"""Writes windows and nucleus masks of the kept cells, a shard an image block; tiles.json says that all are there."""

from pathlib import Path

import pandas as pd

from shest.core import files
from shest.core.console import session
from shest.io import store
from shest.tiles import quadruple, shards
from shest.tissue import cells


def main(input, output, params, threads):
    registration = files.read_json(input.registration)
    mpp = registration["mpp_x"], registration["mpp_y"]
    table = pd.read_parquet(input.cells, columns=["cell_id", "x", "y", "kept"])
    table = table[table["kept"]]
    ids, points, start = cells.read_outlines(input.outlines)
    if list(ids) != list(table["cell_id"]):
        raise ValueError(f"{input.outlines} and {input.cells} hold different cells")
    window = quadruple.window_shape(params.window_um, *mpp)
    written = shards.write_shards(
        Path(output.index).parent,
        store.image_scales(input.store)[0],
        ids,
        table[["x", "y"]].to_numpy(),
        points,
        start,
        window,
        params.block_px,
        threads,
    )
    files.write_json(output.index, shards.index(window, params.window_um, mpp, written))


with session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
