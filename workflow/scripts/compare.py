"""Puts the scores of all systems of a protocol side by side, with paired differences to the linear ones."""

from shest.core import console, files
from shest.score import compare
from shest.score.evaluation import Evaluation


def main(input, output):
    evaluations = [Evaluation.read(path) for path in input.scores]
    table = compare.rows(evaluations)
    with files.atomic_write(output.table) as tmp_path:
        table.to_csv(tmp_path, index=False, float_format="%.6g")
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    files.write_json(output.record, {"rows": rows, "differences": compare.differences(evaluations)})


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output)
