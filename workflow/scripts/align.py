"""Finds the alignment of a bundle's H&E by the nuclei of both, and writes it as Xenium Explorer exports it."""

from pathlib import Path

import numpy as np
import shapely

from shest.core import console, files
from shest.core.errors import InputError
from shest.io import slide
from shest.io.xenium import read_cells, read_specs
from shest.tissue import alignment
from shest.tissue.segment import classical


def main(input, output, params, wildcards, threads):
    um_per_pixel = read_specs(params.bundle)["pixel_size"]
    cells = read_cells(Path(params.bundle))[["x_centroid", "y_centroid"]].to_numpy(float)
    pixels, mpp = slide.read_image(input.he_image), np.array(slide.read_mpp(input.he_image, params.mpp))
    nuclei = classical.segment([pixels], tuple(mpp), params.block_px, threads).polygons
    console.log.info(f"{len(nuclei):,} nuclei in the H&E, {len(cells):,} cells measured")
    centres = shapely.get_coordinates(shapely.centroid(nuclei)).reshape(-1, 2)
    remedy = "Export the alignment from Xenium Explorer, and set register.method to given"
    try:
        found = alignment.estimate(centres * mpp, cells)
    except ValueError as error:
        raise InputError(wildcards.sample, str(error), remedy) from None
    shares = f"{found.match.share:.0%} of the nuclei have a partner, {found.match.null:.0%} by chance"
    console.log.info(f"{shares}; {found.second.share:.0%} at the next best orientation")
    doubt = alignment.doubt(found.match, found.second)
    if doubt and not params.insist:
        raise InputError(wildcards.sample, f"no alignment of its H&E was found: {doubt}", remedy)
    matrix = np.diag([1 / um_per_pixel, 1 / um_per_pixel, 1]) @ found.affine @ np.diag([*mpp, 1.0])
    with files.atomic_write(output.alignment) as tmp_path:
        np.savetxt(tmp_path, matrix, fmt="%.10g", delimiter=",")


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
