"""Writes the list of a run's viewers: every sample with its picture and its scores."""

from pathlib import Path

from shest.core import console, files
from shest.draw import summary
from shest.score.evaluation import Evaluation
from shest.view import viewer


def rows(evaluations, sample):
    """What the systems score on a sample; None where a system predicts nothing of the kind."""
    return [
        {
            "system": e.system,
            "protocol": e.protocol,
            "unit": e.unit,
            "n": e.n,
            "weighted": summary.weighted_f1(e),
            "macro": e.types.macro if e.types else None,
            "pearson": summary.median_r(e),
        }
        for e in evaluations
        if e.sample == sample
    ]


def main(input, output):
    evaluations = [Evaluation.read(path) for path in input.scores]
    samples = [files.read_json(path) for path in input.summaries]
    viewer.write_index(
        Path(output.page).parent, [found | {"scores": rows(evaluations, found["sample"])} for found in samples]
    )


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output)
