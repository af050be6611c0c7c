"""Writes which cache parts hold which cells of a sample."""

from shest.core import console, files
from shest.encode import runner
from shest.tiles import shards


def main(input, output, params, wildcards):
    record = files.read_json(input.record)
    work = [(shard, 0, None) for shard in shards.read_index(input.tiles)["shards"]]
    files.write_json(output.index, runner.index(record, wildcards.sample, work, params.cache))


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
