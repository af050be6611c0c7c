"""Checks the single-cell reference: labels, symbols, values, and that it has the config's subtypes."""

from shest.core import check_record, console
from shest.core.errors import Findings
from shest.labels.checks import check_reference


def main(input, output, params):
    findings = Findings()
    header = check_reference(input.reference, params.settings, params.types, params.prior, findings)
    check_record.write(output.record, header.summary(), findings)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params)
