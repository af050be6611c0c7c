"""Encodes one part of a sample's tile shards into the cache; shards that the cache holds are left as they are."""

from pathlib import Path

from shest.core import console, files
from shest.encode import device, runner
from shest.tiles import shards


def main(input, output, params, wildcards, threads):
    record = files.read_json(input.record)
    part, parts = int(wildcards.part), int(wildcards.parts)
    entries = shards.read_index(input.tiles)["shards"][part - 1 :: parts]
    work = [(shard, 0, None) for shard in entries]
    encoded = runner.run(record, work, Path(input.tiles).parent, params.cache, threads)
    files.write_json(output.part, {"fingerprint": record["fingerprint"], "encoded": encoded, "shards": len(entries)})


with console.session(snakemake.log[0]):
    device.check(snakemake.resources)
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
