"""Draws the quadruple tiles of random cells of each type, with a scale bar."""

import pandas as pd

from shest.core import console
from shest.draw import contact_sheet
from shest.tiles import shards

PER_TYPE, SEED = 8, 42


def main(input, output, params):
    index = shards.read_index(input.index)
    types = None
    if input.annotation:
        annotation = pd.read_parquet(input.annotation[0], columns=["cell_id", "cell_type"]).dropna()
        types = dict(zip(annotation["cell_id"], annotation["cell_type"], strict=True))
    ids = [cell for shard in index["shards"] for cell in shard["cells"]]
    rows = contact_sheet.choose(ids, types, params.types, PER_TYPE, SEED)
    images = contact_sheet.read_tiles(input.index, [cell for cells in rows.values() for cell in cells])
    contact_sheet.sheet(rows, images, index["window_um"], output.picture)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
