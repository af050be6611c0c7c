"""Reads a bundle and writes its SpatialData store; ``ingest.json`` says that the store is whole."""

from shest.core import console, files
from shest.core.provenance import versions
from shest.io import ingest
from shest.run import resources


def main(input, output, params, threads):
    files.remove(output.done)
    sdata, facts = ingest.read_bundle(params.bundle, input.he_image, input.alignment)
    console.log.info(f"{facts['cells']:,} cells, {facts['genes']:,} genes, H&E {facts['he_shape']} px")
    ingest.write_store(sdata, output.store, threads)
    facts["stored_bytes"] = resources.stored_bytes(output.store)  # by which later jobs ask for memory and time
    files.write_json(output.done, facts | {"versions": versions()})


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
