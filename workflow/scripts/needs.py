"""Says what a run will need: asked of the servers while public data are not there, else looked up in the files."""

from pathlib import Path

from shest.core import console, files
from shest.core.errors import Findings
from shest.fetch import plan
from shest.run import checks


def ask(params, config):
    found, folder = Findings(), Path(params.folder)
    planned = plan.plan(config["fetch"], folder, found)
    plan.check_disk(planned, folder, found)
    costs = checks.check_encoders(params.checked["encoders"], found)
    need = None if found.problems else plan.needed(planned, params.samples, costs, config, folder)
    return {"files": planned, "needs": need}, found, plan.describe(planned, need, folder, params.results)


def look(params, config):
    facts, found = checks.check_run(params.samples, params.reference, config | params.checked, params.results)
    return facts, found, [] if found.problems else checks.describe(facts, params.results)


def main(input, output, params, config):
    facts, found, lines = look(params, config) if input else ask(params, config)
    for warning in found.warnings:
        console.log.warning(f"WARNING {warning}")
    for line in lines:
        console.log.info(line)
    found.stop()
    files.write_json(output.needs, facts)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.config)
