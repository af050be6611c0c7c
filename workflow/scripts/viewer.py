"""Writes the browser viewer of a sample: H&E, units, predictions and genes, as files that open by double click."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from shest.core import console
from shest.draw import style
from shest.encode.cache import Embeddings
from shest.io import store
from shest.io.registration import Registration
from shest.view import cells, pyramid, viewer


def neighbours_of(index, sample, table, column):
    """Positions of the kept units with the nearest embeddings, (n, k); None without embeddings."""
    kept = np.flatnonzero(table["kept"].to_numpy(bool))
    if not index or len(kept) < 2:
        return None
    embeddings = Embeddings(index, [(sample, name) for name in table[column].iloc[kept].astype(str)])
    near = cells.nearest(embeddings.take, len(kept))
    found = np.full((len(table), near.shape[1]), -1)
    found[kept] = kept[near]
    return found


def samples(input, params, wildcards):
    """The units of the sample that have a page."""
    shared = {
        "name": wildcards.sample,
        "registration": Registration.read(input.registration),
        "scales": store.image_scales(input.store),
        "types": list(params.types),
        "palettes": style.hex_palettes(params.types, params.palette),
        "protocol": params.protocol,
        "markers": params.markers,
    }
    for unit, systems in params.systems.items():
        table = pd.read_parquet(input[unit])
        paths = zip(systems, input[f"{unit}_predictions"], strict=True)
        of_cells = unit == "cells"
        yield viewer.Sample(
            **shared,
            unit=unit,
            table=table,
            annotation=pd.read_parquet(input.annotation[0]) if of_cells and input.annotation else None,
            predictions={name: ad.read_h5ad(path, backed="r") for name, path in paths},
            outlines=input.outlines[0] if of_cells else None,
            store=next(iter(input[f"{unit}_counts"]), None),
            window_um=params.window_um[unit],
            neighbours=neighbours_of(input[f"{unit}_embeddings"], wildcards.sample, table, viewer.ID_COLUMNS[unit]),
        )


def main(input, output, params, wildcards):
    shown = list(samples(input, params, wildcards))
    tiles = pyramid.finest_tiles(shown[0].scales, float(np.mean(shown[0].registration.mpp)), params.max_mpp)
    with console.track(tiles, f"H&E of {wildcards.sample}", "tiles") as advance:
        made = viewer.build(Path(output.page).parent, shown, params.max_mpp, params.genes, advance)
    viewer.write_summary(output.summary, made)
    console.log.info(f"{made['written']:,} files written, {made['removed']:,} of an earlier build removed")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
