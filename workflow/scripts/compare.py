"""Puts all systems of a protocol side by side: scores, paired differences, which of them are real, and costs."""

from pathlib import Path

import pandas as pd

from shest.core import console, files
from shest.score import compare, costs
from shest.score.evaluation import Evaluation


def cost_table(weights, evaluations, benchmarks, protocol):
    """One row a system that was fitted here."""
    rows = []
    for system, path in weights.items():
        own = [e for e in evaluations if e.system == system and e.ground == "all"]
        jobs = {benchmarks / "predict" / system / protocol / f"{e.sample}.{e.unit}.tsv": e for e in own}
        jobs = {job: e for job, e in jobs.items() if job.is_file()}
        fits = sorted((benchmarks / "fit" / system / protocol).glob("*.tsv"))
        units = sum(e.reasons.get(e.unit, {}).get("kept", 0) for e in jobs.values())
        rows.append({"system": system} | costs.cost(path, fits, list(jobs), units))
    return pd.DataFrame(rows)


def write_csv(table, path):
    with files.atomic_write(path) as tmp_path:
        table.to_csv(tmp_path, index=False, float_format="%.6g")


def main(input, output, params, wildcards):
    evaluations = [Evaluation.read(path) for path in input.scores]
    table = compare.rows([e for e in evaluations if not e.apart])
    write_csv(table, output.table)
    found = compare.differences(evaluations)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    record = {"rows": rows, "differences": found, "verdicts": compare.verdicts(evaluations, found)}
    files.write_json(output.record, record | {"set_apart": compare.set_apart(evaluations)})
    weights = dict(zip(params.systems, input.models, strict=True))
    write_csv(cost_table(weights, evaluations, Path(params.benchmarks), wildcards.protocol), output.costs)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
