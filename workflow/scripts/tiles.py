"""Writes windows and nucleus masks of the kept cells, a shard an image block; tiles.json says that all are there."""

from pathlib import Path

import pandas as pd

from shest.core import console, files
from shest.io import store
from shest.io.outlines import read_outlines
from shest.io.registration import Registration
from shest.tiles import quadruple, shards


def main(input, output, params, threads):
    mpp = Registration.read(input.registration).mpp
    table = pd.read_parquet(input.cells, columns=["cell_id", "x", "y", "kept"])
    table = table[table["kept"]]
    ids, points, start = read_outlines(input.outlines, table["cell_id"])
    window = quadruple.window_shape(params.window_um, *mpp)
    image, centres = store.image_scales(input.store)[0], table[["x", "y"]].to_numpy()
    folder = Path(output.index).parent
    written = shards.write_shards(folder, image, ids, centres, points, start, window, params.block_px, threads)
    files.write_json(output.index, shards.index(window, params.window_um, mpp, written))


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
