"""Stands in for a figure whose samples are not in the sheet: it says so."""

from shest.core import console
from shest.draw import layout, style


def main(output, params):
    figure, data = layout.none(params.panels, params.missing)
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.output, snakemake.params)
