"""Draws how a fit went, out of training.csv."""

import pandas as pd

from shest.core import console
from shest.draw import training_plots


def main(input, output, wildcards):
    title = f"{wildcards.system}, {wildcards.protocol}, fold {wildcards.fold}"
    training_plots.draw_training(pd.read_csv(input.history), title, output.picture)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.wildcards)
