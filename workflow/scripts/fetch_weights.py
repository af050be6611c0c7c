"""Fetches the weights of an encoder into the hub's cache, for machines that run without a network."""

from shest.core import console, files
from shest.encode.spec import spec_of
from shest.encode.weights import find_weights


def main(output, params):
    weights = find_weights(spec_of(params.encoder))
    console.log.info(f"weights: {weights}, {weights.stat().st_size:,} bytes")
    files.write_json(output.record, {"weights": str(weights), "sha256": files.sha256(weights)})


with console.session(snakemake.log[0]):
    main(snakemake.output, snakemake.params)
