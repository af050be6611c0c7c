"""Checks the heads of all input files, says every problem at once and what the run will need; writes preflight.json."""

from shest import console, files, preflight


def main(output, params):
    record, found = preflight.check_run(params.samples, params.reference, params.config, params.results)
    for warning in found.warnings:
        console.log.warning(f"WARNING {warning}")
    found.stop()
    for line in preflight.describe(record, params.results):
        console.log.info(line)
    files.write_json(output.record, record)


with console.session(snakemake.log[0]):
    main(snakemake.output, snakemake.params)
