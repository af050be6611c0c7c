"""Figure P: the single patch's five figures: gene sets, augmentation, size, donors, and what R goes with."""

from pathlib import Path

import pandas as pd

from shest.core import console, files
from shest.draw import patch_figure, style
from shest.score.evaluation import Evaluation


def main(input, output, params):
    evaluations = [Evaluation.read(path) for path in input.evaluations]
    evaluations = [e for e in evaluations if e.protocol == params.shown["protocol"]]
    records = {record["system"]: record for record in map(files.read_json, input.records)}
    genes = dict(zip(params.samples, map(pd.read_csv, input.genes), strict=True))
    shown = params.shown["system"]
    figure, data = patch_figure.compose(evaluations, records, genes, params.patients, params.by, shown)
    style.save(figure, output.png, data, Path(output.data))


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
