"""Writes the affine between H&E pixels and micrometres, and a picture of the nuclei on the H&E.

Nuclei that the H&E shows in a few windows are held against those that the affine puts there: one of another section, a
mirrored or a shifted one is refused.
"""

import os
from dataclasses import replace

import numpy as np
import shapely

from shest.core import console, files
from shest.core.errors import InputError
from shest.draw.overlay import draw_overlay
from shest.io import store
from shest.io.registration import Registration
from shest.tissue import agreement, alignment, register

WINDOW_PX = 800
CHECKED, CHECKED_PX = 4, 1536  # windows that nuclei are looked for in, and their side


def check(image, xy, inside, shape, registration, threads):
    """How well nuclei that the H&E shows agree with those that the registration puts there; None for too few."""
    if inside.sum() < alignment.FEWEST:
        console.log.warning(f"WARNING {inside.sum()} nuclei are too few to check the registration by")
        return None
    corners = register.densest_windows(xy[inside], shape, CHECKED_PX, CHECKED)
    seen = agreement.nuclei_seen(image, corners, CHECKED_PX, registration.mpp, threads)
    match, blocks = agreement.judge(seen, xy, corners, CHECKED_PX, registration)
    console.log.info(f"{match.share:.0%} of the nuclei have a partner, {match.null:.0%} by chance")
    return match._asdict() | {"doubt": alignment.doubt(match), "windows": blocks}


def main(input, output, params, wildcards, threads):
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
    image, matched = store.image_scales(input.store)[0], None
    if params.platform == "xenium":
        matched = check(image, xy, inside, facts["he_shape"], registration, threads)
    doubt = matched and matched["doubt"]
    [(x, y)] = register.densest_windows(xy[inside], facts["he_shape"], WINDOW_PX)
    window = np.moveaxis(image[:, y : y + WINDOW_PX, x : x + WINDOW_PX], 0, -1)
    title = f"{wildcards.sample}: {share:.0%} of {len(xy):,} nuclei on tissue"
    draw_overlay(overview, factor, window, (x, y), outlines, xy, title, output.overlay)
    if doubt and not params.insist:
        kept = f"{output.overlay}.refused.png"
        os.replace(output.overlay, kept)
        raise InputError(
            wildcards.sample,
            f"the H&E does not show the nuclei where the alignment puts them: {doubt}; see {kept}",
            "Check that image and alignment belong to this bundle, let it be found (register.method: estimate), or say "
            "register.insist: true",
        )
    if doubt:
        console.log.warning(f"WARNING {doubt}: look at {output.overlay}")
    checked = replace(registration, share_on_tissue=share, source=params.source, matched=matched)
    checked.write(output.registration)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
