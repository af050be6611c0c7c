"""Encodes the patches of a sample's spots into the cache, and writes which parts hold which spots."""

from pathlib import Path

from shest.core import console, files
from shest.encode import device, runner


def main(input, output, params, wildcards, threads):
    record, index = runner.for_patches(files.read_json(input.record)), files.read_json(input.patches)
    work = runner.patch_work(index)
    runner.run(record, work, Path(input.patches).parent, params.cache, threads)
    seen = {"patch": {key: index[key] for key in ("side_um", "px", "window", "mpp")}}
    files.write_json(output.index, runner.index(record, wildcards.sample, work, params.cache) | seen)


with console.session(snakemake.log[0]):
    device.check(snakemake.resources)
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
