"""Writes the browser viewer of a slide that a package was applied to; of one that failed, the reason alone."""

from pathlib import Path

import anndata as ad
import dask
import numpy as np
import pandas as pd

from shest.core import console, files
from shest.draw import style
from shest.io import slide
from shest.io.registration import Registration
from shest.view import pyramid, viewer


def cells_of(input, params, wildcards):
    """The predicted cells of the slide."""
    return viewer.Sample(
        name=wildcards.sample,
        table=pd.read_parquet(params.places["cells"]),
        annotation=None,
        predictions={params.system: ad.read_h5ad(params.places["predictions"], backed="r")},
        registration=Registration.read(params.places["registration"]),
        scales=slide.read_scales(input.slide),
        outlines=params.places["outlines"],
        store=None,
        types=list(params.types),
        palettes=style.hex_palettes(params.types, params.palette),
        protocol=params.protocol,
        window_um=params.window_um,
    )


def main(input, output, params, wildcards):
    state, folder = files.read_json(input.state), Path(output.summary).parent
    if state["state"] != "done":
        viewer.clear(folder)
        viewer.write_summary(output.summary, {"sample": wildcards.sample, "reason": state["reason"]})
        return
    shown = cells_of(input, params, wildcards)
    tiles = pyramid.finest_tiles(shown.scales, float(np.mean(shown.registration.mpp)), params.max_mpp)
    with dask.config.set(scheduler="synchronous"), console.track(tiles, "H&E", "tiles") as advance:
        made = viewer.build(folder, [shown], params.max_mpp, params.genes, advance)
    viewer.write_summary(output.summary, made)
    console.log.info(f"{made['written']:,} files written, {made['removed']:,} of an earlier build removed")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
