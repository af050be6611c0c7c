"""Writes the affine between H&E pixels and micrometres, how far nuclei agree with it by block and in a picture."""

from dataclasses import replace

import numpy as np
import shapely

from shest.core import console, files
from shest.core.errors import InputError
from shest.draw.overlay import draw_overlay
from shest.io import store
from shest.io.registration import Registration
from shest.io.spot_arrays import PLATFORMS
from shest.tissue import agreement, register

WINDOW_PX = 800


def agree(image, xy, shape, registration, threads):
    """How well nuclei that the H&E shows agree with the registration, block by block; none where they are too few."""
    found = agreement.agree(image, xy, shape, registration, threads, blocks=True)
    if found is None:
        console.log.warning(f"WARNING {len(xy)} nuclei are too few to check the registration by")
        return None
    matched = found.summary()
    shares = f"{found.match.share:.0%} of the nuclei have a partner, {found.match.null:.0%} by chance"
    console.log.info(f"{shares}, {found.second.share:.0%} at the best of seven other orientations")
    return matched


def main(input, output, params, wildcards, threads):
    facts = files.read_json(input.ingest)
    registration = Registration.of_alignment(facts["he_to_morphology"], facts["pixel_size_um"])
    drawn, what = store.read_nuclei(input.store)[1], "nuclei"
    if params.platform in PLATFORMS:
        drawn, what = store.read_circles(input.store), "spots"
    outlines = store.transform_outlines(drawn, registration.um_to_he)
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
        console.log.warning(f"WARNING only {share:.0%} of the {what} lie on tissue: look at {output.overlay}")
    image, matched = store.image_scales(input.store)[0], None
    if params.platform == "xenium":
        matched = agree(image, xy, facts["he_shape"], registration, threads)
    [(x, y)] = register.densest_windows(xy[inside], facts["he_shape"], WINDOW_PX)
    window = np.moveaxis(image[:, y : y + WINDOW_PX, x : x + WINDOW_PX], 0, -1)
    title = f"{wildcards.sample}: {share:.0%} of {len(xy):,} {what} on tissue"
    blocks = matched["blocks"] if matched else ()
    places = outlines, xy, title, output.overlay, blocks, registration.um_to_he, what
    draw_overlay(overview, factor, window, (x, y), *places)
    if matched:
        torn = matched["torn"] and f"{matched['torn']} of {len(blocks)} blocks do not agree"
        for doubt in filter(None, [matched["doubt"], torn]):
            console.log.warning(f"WARNING {doubt}: look at {output.overlay}")
    checked = replace(registration, share_on_tissue=share, source=params.source, matched=matched)
    checked.write(output.registration)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
