"""Writes the affine between H&E pixels and micrometres, and a picture of the nuclei on the H&E."""

from dataclasses import replace

import numpy as np
import shapely

from shest.core import console, files
from shest.core.errors import InputError
from shest.draw.overlay import draw_overlay
from shest.io import store
from shest.io.registration import Registration
from shest.tissue import register

WINDOW_PX = 800


def main(input, output, params, wildcards):
    facts = files.read_json(input.ingest)
    registration = Registration.of_alignment(facts["he_to_morphology"], facts["pixel_size_um"])
    outlines = store.transform_outlines(store.read_nuclei(input.store)[1], registration.um_to_he)
    xy = shapely.get_coordinates(shapely.centroid(outlines))
    overview, factor = store.overview(input.store)
    if not len(xy):  # a plain slide whose nuclei are yet to be found
        draw_overlay(overview, factor, overview, (0, 0), outlines, xy, wildcards.sample, output.overlay)
        registration.write(output.registration)
        return
    share = register.share_on_tissue(xy, overview, factor)
    inside = ((xy >= 0) & (xy <= np.array(facts["he_shape"])[::-1] - 1)).all(axis=1)
    if not inside.any():
        raise InputError(
            wildcards.sample,
            "the alignment maps no nucleus into the H&E image",
            "Check that image and alignment CSV belong to this bundle",
        )
    if share < register.SHARE_EXPECTED:
        console.log.warning(f"WARNING only {share:.0%} of the nuclei lie on tissue: look at {output.overlay}")
    x, y = register.densest_window(xy[inside], facts["he_shape"], WINDOW_PX)
    window = np.moveaxis(store.image_scales(input.store)[0][:, y : y + WINDOW_PX, x : x + WINDOW_PX], 0, -1)
    title = f"{wildcards.sample}: {share:.0%} of {len(xy):,} nuclei on tissue"
    draw_overlay(overview, factor, window, (x, y), outlines, xy, title, output.overlay)
    replace(registration, share_on_tissue=share).write(output.registration)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards)
