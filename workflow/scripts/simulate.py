"""Simulates a bundle with its truth beside it, or the single-cell reference."""

from pathlib import Path

from shest.core import console
from shest.simulate.profiles import read_markers
from shest.simulate.reference import make_reference, write_reference
from shest.simulate.slide import simulate_slide
from shest.simulate.spec import pixels, reference_from_config, slide_from_config


def main(output, params):
    markers = read_markers(params.markers)
    if params.what == "reference":
        reference = make_reference(markers, reference_from_config(params.simulate))
        write_reference(output[0], reference)
        console.log.info(f"reference: {reference.n_obs:,} cells, {reference.n_vars:,} genes")
        return
    spec = slide_from_config(params.name, params.simulate)
    with console.track(pixels(spec), f"painting {spec.name}", "px") as advance:
        truth = simulate_slide(spec, markers, Path(output.truth).parent.parent, advance)
    console.log.info(f"{spec.name}: types {truth['types']}, planted {truth['defects']}")


with console.session(snakemake.log[0]):
    main(snakemake.output, snakemake.params)
