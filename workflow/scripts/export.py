"""Writes the predicted types for QuPath (GeoJSON) and Xenium Explorer (CSV)."""

import anndata as ad

from shest.core import console
from shest.draw import style
from shest.io.outlines import read_outlines
from shest.view import export


def main(input, output, params, wildcards):
    table = ad.read_h5ad(input.predictions, backed="r").obs
    _, points, start = read_outlines(input.outlines, table.index)
    palette = style.colours(params.types, params.palette)
    with console.track(len(table), f"objects of {wildcards.sample}") as advance:

        def counted():
            for part in export.features(wildcards.sample, table, points, start, palette):
                yield part
                advance()

        export.write_qupath(output.qupath, counted())
    export.write_explorer(output.explorer, table)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
