"""Stands in for a figure whose samples are not in the sheet: every panel says so."""

from shest.core import console
from shest.draw import panels


def main(output, params):
    panels.placeholder_figure(params.panels, params.missing, output.png, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.output, snakemake.params)
