"""Draws all systems of a protocol side by side: scores with their intervals; and scores against costs, apart."""

import pandas as pd

from shest.core import console, files
from shest.draw import comparison, style


def main(input, output):
    rows = files.read_json(input.record)["rows"]
    figure, data = comparison.draw(rows)
    style.save(figure, output.png, data, output.data)
    figure, data = comparison.draw_costs(rows, pd.read_csv(input.costs))
    style.save(figure, output.costs_png, data, output.costs_data)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output)
