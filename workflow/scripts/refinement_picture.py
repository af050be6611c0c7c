"""Draws the cells of a sample before and after refinement, in both spaces."""

import pandas as pd

from shest.core import console
from shest.draw import style, training_plots


def main(input, output, params, wildcards):
    palette = style.colours(params.types, params.palette)
    table = pd.read_parquet(input.table)
    title = f"{wildcards.sample}, {wildcards.protocol}, fold {params.fold}"
    training_plots.draw_refinement(table[table["fold"] == params.fold], palette, title, output.picture)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
