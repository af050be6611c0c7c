"""Reads a section in spots (Visium, legacy ST) and its H&E; writes what the reading of a bundle writes."""

from shest.core import console
from shest.io import ingest


def main(input, output, params, threads):
    sdata, facts = ingest.read_spot_sample(params.row, input.he_image, params.row["mpp"])
    mpp = facts["he_to_morphology"][0][0]
    console.log.info(
        f"{facts['spots']:,} spots ({facts['spots_without_counts']:,} without counts), {facts['genes']:,} genes, "
        f"H&E {facts['he_shape']} px of {mpp:.4g} µm ({facts['mpp_from']})"
    )
    ingest.write_sample(sdata, facts, output.store, output.done, threads)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
