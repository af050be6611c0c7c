"""Writes the list of a run's viewers: every sample with its picture and its scores."""

from pathlib import Path

from shest.core import console, files
from shest.score.evaluation import Evaluation
from shest.view import viewer


def rows(evaluations, sample):
    """What the systems score on a sample."""
    return [
        {"system": e.system, "protocol": e.protocol, "n": e.n, "weighted": e.types.weighted, "macro": e.types.macro}
        for e in evaluations
        if e.sample == sample and e.types
    ]


def main(input, output):
    evaluations = [Evaluation.read(path) for path in input.scores]
    samples = [files.read_json(path) for path in input.summaries]
    viewer.write_index(
        Path(output.page).parent, [found | {"scores": rows(evaluations, found["sample"])} for found in samples]
    )


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output)
