"""Reads a plain slide and the outlines of its nuclei; writes what the reading of a bundle writes."""

from shest.core import console
from shest.io import ingest


def main(input, output, params, threads):
    sdata, facts = ingest.read_slide(input.slide, input.nuclei[0] if input.nuclei else None, params.mpp)
    mpp = facts["he_to_morphology"][0][0]
    console.log.info(
        f"{facts['cells']:,} outlines given, H&E {facts['he_shape']} px of {mpp:.4g} µm ({facts['mpp_from']})"
    )
    ingest.write_sample(sdata, facts, output.store, output.done, threads)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
