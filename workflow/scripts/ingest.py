"""Reads a bundle and writes its SpatialData store; ``ingest.json`` says that the store is whole."""

from shest.core import console
from shest.io import ingest


def main(input, output, params, threads):
    sdata, facts = ingest.read_bundle(params.bundle, input.he_image, input.alignment)
    console.log.info(f"{facts['cells']:,} cells, {facts['genes']:,} genes, H&E {facts['he_shape']} px")
    ingest.write_sample(sdata, facts, output.store, output.done, threads)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
