"""Draws the cells of a sample before and after refinement, in both spaces."""

import pandas as pd

from shest.core import console, files
from shest.draw import style, training_plots


def main(input, output, params, wildcards):
    colours = style.colours(params.types, params.palette)
    with files.atomic_write(output.picture) as tmp_path:
        title = f"{wildcards.sample}, {wildcards.protocol}"
        training_plots.draw_refinement(pd.read_parquet(input.table), colours, title, tmp_path)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
