"""Draws the quadruple tiles of random cells of each type, with a scale bar."""

import pandas as pd

from shest.core import files
from shest.core.console import session
from shest.draw import contact_sheet
from shest.tiles import quadruple

PER_TYPE, SEED = 8, 42


def main(input, output, params):
    index = quadruple.read_index(input.index)
    types = None
    if input.get("annotation"):
        annotation = pd.read_parquet(input.annotation[0], columns=["cell_id", "cell_type"]).dropna()
        types = dict(zip(annotation["cell_id"], annotation["cell_type"], strict=True))
    ids = [cell for entry in index["shards"] for cell in entry["cells"]]
    rows = contact_sheet.choose(ids, types, params.types, PER_TYPE, SEED)
    images = contact_sheet.read_tiles(input.index, [cell for cells in rows.values() for cell in cells])
    with files.atomic_write(output.picture) as tmp_path:
        contact_sheet.sheet(rows, images, index["window_um"], tmp_path)


with session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
