"""Checks the databases of marker genes, and that they know the categories of the config's types."""

from shest.core import check_record, console
from shest.core.errors import Findings
from shest.labels.checks import check_markers


def main(output, params):
    findings = Findings()
    seen = check_markers(params.markers, params.types, findings)
    check_record.write(output.record, seen, findings)


with console.session(snakemake.log[0]):
    main(snakemake.output, snakemake.params)
