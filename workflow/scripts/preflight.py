"""Checks the heads of all input files, says every problem at once and what the run will need; writes preflight.json."""

from shest.core import console
from shest.run import checks, record


def main(output, params, config):
    facts, found = checks.check_run(params.samples, params.reference, config | params.checked, params.results)
    for warning in found.warnings:
        console.log.warning(f"WARNING {warning}")
    found.stop()
    for line in checks.describe(facts, params.results):
        console.log.info(line)
    record.write(output.record, facts)


with console.session(snakemake.log[0]):
    main(snakemake.output, snakemake.params, snakemake.config)
