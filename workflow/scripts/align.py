"""Finds the alignment of a bundle's H&E by the nuclei of both, and writes it as Xenium Explorer exports it.

The nuclei that were found are kept: a segmentation by the same method need not look for them again.
"""

from pathlib import Path

import numpy as np
import shapely

from shest.core import console, files
from shest.core.errors import InputError
from shest.draw.segmentation import draw_segmentation
from shest.io import slide
from shest.io.outlines import number_ids, write_outlines
from shest.io.xenium import read_cells, read_specs
from shest.tissue import alignment
from shest.tissue.segment import classical, regions

EXPORT_IT = "Export the alignment from Xenium Explorer, and set register.method to given"


def estimate(moving, cells):
    """The alignment that was found, or none, and why it is not to be trusted."""
    try:
        found = alignment.estimate(moving, cells)
    except ValueError as error:
        return None, str(error)
    shares = f"{found.match.share:.0%} of the nuclei have a partner, {found.match.null:.0%} by chance"
    console.log.info(f"{shares}; {found.second.share:.0%} at the next best orientation")
    return found, alignment.doubt(found.match, found.second)


def main(input, output, params, wildcards, threads):
    um_per_pixel = read_specs(params.bundle)["pixel_size"]
    cells = read_cells(Path(params.bundle))[["x_centroid", "y_centroid"]].to_numpy(float)
    pixels, mpp = slide.read_image(input.he_image), np.array(slide.read_mpp(input.he_image, params.mpp))
    seen = classical.segment([pixels], tuple(mpp), params.block_px, threads, params.stain)
    console.log.info(f"{len(seen.polygons):,} nuclei in the H&E, {len(cells):,} cells measured")
    centres = shapely.get_coordinates(shapely.centroid(seen.polygons)).reshape(-1, 2)
    found, doubt = estimate(centres * mpp, cells)
    if found is None or (doubt and not params.insist):
        picture = Path(output.alignment).with_name("align.refused.png")  # no output: it stays where the rule fails
        title, where = f"{wildcards.sample}, found in the H&E", seen.regions
        of_slide = pixels, where.image, where.factor, seen.polygons, mpp
        draw_segmentation(*of_slide, title, picture, where.kinds, regions.REASONS)
        raise InputError(input.he_image, f"no alignment of it was found: {doubt}; see {picture}", EXPORT_IT)
    matrix = np.diag([1 / um_per_pixel, 1 / um_per_pixel, 1]) @ found.affine @ np.diag([*mpp, 1.0])
    with files.atomic_write(output.alignment) as tmp_path:
        np.savetxt(tmp_path, matrix, fmt="%.10g", delimiter=",")
    write_outlines(output.nuclei, number_ids(len(seen.polygons)), seen.polygons)
    match = {"match": found.match.facts(), "second": found.second.facts(), "doubt": doubt}
    files.write_json(output.facts, match | {"segment": seen.facts()})


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
