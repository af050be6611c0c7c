"""Draws all systems of a protocol side by side: scores with their intervals, and scores against costs."""

import pandas as pd

from shest.core import console, files
from shest.draw import comparison, style


def main(input, output):
    figure, data = comparison.draw(files.read_json(input.record)["rows"], pd.read_csv(input.costs))
    style.save(figure, output.png, data, output.data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output)
