"""Checks other programs' labels of a sample: that they can be read, and that the config maps every class in them."""

from shest.core import check_record, console
from shest.core.errors import Findings
from shest.io import detections


def main(output, params):
    findings = Findings()
    check_record.write(output.record, detections.check(params.comparators, findings), findings)


with console.session(snakemake.log[0]):
    main(snakemake.output, snakemake.params)
