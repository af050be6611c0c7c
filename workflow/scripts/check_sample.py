"""Checks the files of a bundle or a plain slide: says everything that is wrong with them, or what they hold."""

from shest.core import check_record, console
from shest.core.errors import Findings
from shest.io.sample_checks import check_sample


def main(output, params):
    findings = Findings()
    header = check_sample(params.row, findings)
    check_record.write(output.record, header.summary(), findings)


with console.session(snakemake.log[0]):
    main(snakemake.output, snakemake.params)
