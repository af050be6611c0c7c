"""Draws patches of every sample before and after their colours are changed for a system."""

import numpy as np

from shest.core import console
from shest.core.files import read_json
from shest.draw.stains import draw
from shest.systems import base
from shest.systems.colour import spread
from shest.tiles.patch import Patches

SHOWN = 4  # patches of a sample


def main(input, output, wildcards, params):
    colours = base.load(input.model, input.record).system.colours
    stages = {}
    for sample, path in zip(params.samples, input.patches, strict=True):
        ids = sorted(unit for shard in read_json(path)["shards"] for unit in shard["units"])
        if ids:
            taken = Patches([path], [(sample, unit) for unit in ids]).take(np.arange(len(ids)))
            colours.survey(taken)
            shown = spread(np.arange(len(ids)), SHOWN)
            stages[sample] = colours.stages(sample, taken.part(shown)[:])
    title = f"{wildcards.system}: {colours.kind}, target {colours.first or 'none'}"
    draw(stages, title, output.picture)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.wildcards, snakemake.params)
