"""Reads a plain slide and the outlines of its nuclei; writes what the reading of a bundle writes."""

from shest.core import console, files
from shest.core.provenance import versions
from shest.io import ingest
from shest.run import resources


def main(input, output, params, threads):
    files.remove(output.done)
    sdata, facts = ingest.read_slide(input.slide, input.nuclei, params.mpp)
    mpp = facts["he_to_morphology"][0][0]
    console.log.info(f"{facts['cells']:,} outlines, H&E {facts['he_shape']} px of {mpp:.4g} µm ({facts['mpp_from']})")
    ingest.write_store(sdata, output.store, threads)
    facts["stored_bytes"] = resources.stored_bytes(output.store)  # by which later jobs ask for memory and time
    files.write_json(output.done, facts | {"versions": versions()})


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
