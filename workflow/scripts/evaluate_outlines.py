"""Scores the nuclei that a system finds against those that it was given: of training samples by folds without them."""

import numpy as np
import pandas as pd
import shapely

from shest.core import console, files
from shest.io import store
from shest.io.outlines import read_polygons
from shest.io.registration import Registration
from shest.labels.held_out import parts_and_folds
from shest.score import segmentation
from shest.systems import base


def main(input, output, params, wildcards, threads):
    scales, mpp = store.image_scales(input.store), Registration.read(input.registration).mpp
    ids, given = read_polygons(input.outlines)
    region = segmentation.hull(given)
    trained = [base.load(*paths) for paths in zip(input.models, input.records, strict=True)]
    found = [model.system.segment(scales, mpp, params.block_px, threads)[0] for model in trained]
    sets = [given, *found]
    places = shapely.get_coordinates(shapely.centroid(np.concatenate(sets)))
    names = np.concatenate([ids, np.full(sum(map(len, found)), "")])
    units = pd.DataFrame({"cell_id": names, "x": places[:, 0], "y": places[:, 1]})
    _, fold, folds = parts_and_folds(units, input.splits, params, wildcards)
    of_given, *of_found = np.split(fold, np.cumsum([len(part) for part in sets])[:-1])
    own = [nuclei[of == name] for nuclei, of, name in zip(found, of_found, folds, strict=True)]
    scores = segmentation.score(given, np.concatenate(own), mpp, region)
    each = {
        name: segmentation.score(given[of_given == name], nuclei, mpp, region)
        for name, nuclei in zip(folds, own, strict=True)
    }
    console.log.info(f"F1 of nuclei within 3 µm {scores['detection']['3']['f1']:.3f}, Dice {scores['dice']:.3f}")
    files.write_json(output.scores, {"system": wildcards.system, "sample": wildcards.sample} | scores | {"folds": each})


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
