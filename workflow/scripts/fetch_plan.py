"""Asks the servers what is still to be fetched, and says what that and the run after it will need."""

from pathlib import Path

from shest import console, fetch_plan, files
from shest.errors import Findings


def main(output, params, config):
    found, folder = Findings(), Path(params.folder)
    planned = fetch_plan.plan(config["fetch"], folder, found)
    fetch_plan.check_disk(planned, folder, found)
    need = None if found.problems else fetch_plan.needed(planned, params.samples, config, folder, found)
    for warning in found.warnings:
        console.log.warning(f"WARNING {warning}")
    for line in fetch_plan.describe(planned, need, folder, params.results):
        console.log.info(line)
    found.stop()
    files.write_json(output.plan, {"files": planned, "needs": need})


with console.session(snakemake.log[0]):
    main(snakemake.output, snakemake.params, snakemake.config)
