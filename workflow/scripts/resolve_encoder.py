"""Settles an encoder: weights found and digested, precision and batch size chosen, fingerprint taken."""

from shest.core import console, files
from shest.encode import device, runner


def main(output, params):
    record = runner.prepare(params.encoder, params.precision, params.batch)
    console.log.info(f"{record['name']}: {record['dim']} features, fingerprint {record['fingerprint'][:12]}")
    files.write_json(output.record, record)


with console.session(snakemake.log[0]):
    device.check(snakemake.resources)
    main(snakemake.output, snakemake.params)
