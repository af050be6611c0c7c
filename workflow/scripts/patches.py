"""Writes plain patches around the kept units, a shard an image block; patches.json says that all are there."""

from pathlib import Path

import pandas as pd

from shest.core import console, files
from shest.io import store
from shest.io.registration import Registration
from shest.tiles.patch import PatchSize, write_patches


def main(input, output, params, wildcards, threads):
    units = pd.read_parquet(input.units)
    units = units[units["kept"]]
    ids, centres = units[params.id].to_numpy(str), units[["x", "y"]].to_numpy(float)
    mpp, image = Registration.read(input.registration).mpp, store.image_scales(input.store)[0]
    size = PatchSize.parse(wildcards.window)
    index = write_patches(Path(output.index).parent, image, ids, centres, size, mpp, params.block_px, threads)
    files.write_json(output.index, index)
    if index["padded"]:
        console.log.info(f"{len(index['padded']):,} of {len(ids):,} patches: {index['padded_reason']}")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
