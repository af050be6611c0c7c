"""Writes what a model was made of, how good it is under every protocol, and what it is not for."""

from shest.core import console, files
from shest.draw import model_card
from shest.score.evaluation import Evaluation


def main(input, output):
    text = model_card.card(files.read_json(input.record), [Evaluation.read(path) for path in input.scores])
    with files.atomic_write(output.card) as tmp_path:
        tmp_path.write_text(text, encoding="utf-8")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output)
