"""Writes the browser viewer of a sample: H&E, cells, predictions and genes, as files that open by double click."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from shest.core import console
from shest.draw import style
from shest.encode.cache import Embeddings
from shest.io import store
from shest.io.registration import Registration
from shest.view import cells, pyramid, viewer


def neighbours_of(index, sample, table):
    """Positions of the kept cells with the nearest embeddings, (n, k); None without embeddings."""
    kept = np.flatnonzero(table["kept"].to_numpy(bool))
    if not index or len(kept) < 2:
        return None
    embeddings = Embeddings(index, [(sample, name) for name in table["cell_id"].iloc[kept].astype(str)])
    near = cells.nearest(embeddings.take, len(kept))
    found = np.full((len(table), near.shape[1]), -1)
    found[kept] = kept[near]
    return found


def main(input, output, params, wildcards):
    table = pd.read_parquet(input.cells)
    scales, registration = store.image_scales(input.store), Registration.read(input.registration)
    palettes = {
        name: {t: to_hex(c) for t, c in style.colours(params.types, name).items()} for name in ("paper", "colourblind")
    }
    sample = viewer.Sample(
        name=wildcards.sample,
        cells=table,
        annotation=pd.read_parquet(input.annotation[0]) if input.annotation else None,
        predictions={
            name: ad.read_h5ad(path, backed="r") for name, path in zip(params.systems, input.predictions, strict=True)
        },
        registration=registration,
        scales=scales,
        outlines=input.outlines,
        store=input.store if input.annotation else None,
        types=list(params.types),
        palettes={params.palette: palettes.pop(params.palette)} | palettes,
        protocol=params.protocol,
        window_um=params.window_um,
    )
    near = neighbours_of(input.embeddings, wildcards.sample, table)
    image, left = pyramid.source_of(scales, pyramid.halvings(float(np.mean(registration.mpp)), params.max_mpp))
    height, width = (-(-side // (pyramid.TILE * 2**left)) for side in image.shape[1:])
    with console.track(height * width, f"H&E of {wildcards.sample}", "tiles") as advance:
        made = viewer.build(Path(output.page).parent, sample, params.max_mpp, params.genes, near, advance)
    viewer.write_summary(output.summary, made)
    console.log.info(f"{made['written']:,} files written, {made['removed']:,} of an earlier build removed")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
