"""Scores nuclei that a system finds and types against those that were given: of training samples out of fold."""

import numpy as np
import pandas as pd
import shapely

from shest.core import console, files
from shest.io import store
from shest.io.outlines import read_polygons
from shest.io.registration import Registration
from shest.labels.held_out import parts_and_folds
from shest.score import segmentation, typed_nuclei
from shest.systems import base

PARTNER_UM = 3.0


def find(trained, scales, mpp, block_px, threads):
    """Nuclei of a whole slide by one model, and their types."""
    polygons, seen, _ = trained.system.sweep(scales, mpp, block_px, threads)
    called = trained.system.predict(seen, expression=False).type_logits.mean(axis=0).argmax(axis=1)
    return polygons, np.array(trained.classes, dtype=object)[called]


def score_types(given, label, found, called, mpp, types):
    """F1 of finding and of typing: of nuclei with a label, and of found ones that are no unlabelled nucleus."""
    places = [shapely.get_coordinates(shapely.centroid(nuclei)).reshape(-1, 2) * mpp for nuclei in (given, found)]
    i, j = segmentation.pair(*places, PARTNER_UM)
    known = pd.notna(label)
    pairs, alone = known[i], np.setdiff1d(np.flatnonzero(known), i)
    extra = np.setdiff1d(np.arange(len(found)), j)
    return {"pairs": int(pairs.sum())} | {
        name: typed_nuclei.score(label[i[pairs]], called[j[pairs]], label[alone], called[extra], types, weights)
        for name, weights in (("hovernet", typed_nuclei.HOVERNET), ("stimage", typed_nuclei.STIMAGE))
    }


def main(input, output, params, wildcards, threads):
    scales, mpp = store.image_scales(input.store), Registration.read(input.registration).mpp
    ids, given = read_polygons(input.outlines)
    label = pd.read_parquet(input.annotation).set_index("cell_id")["cell_type"].reindex(ids).to_numpy(object)
    region = segmentation.hull(given)
    trained = [base.load(*paths) for paths in zip(input.models, input.records, strict=True)]
    found = [find(model, scales, mpp, params.block_px, threads) for model in trained]
    sets = [given, *(nuclei for nuclei, _ in found)]
    places = shapely.get_coordinates(shapely.centroid(np.concatenate(sets)))
    names = np.concatenate([ids, np.full(len(places) - len(ids), "")])
    units = pd.DataFrame({"cell_id": names, "x": places[:, 0], "y": places[:, 1]})
    _, fold, folds = parts_and_folds(units, input.splits, params, wildcards)
    of_given, *of_found = np.split(fold, np.cumsum([len(part) for part in sets])[:-1])
    own = [of == name for of, name in zip(of_found, folds, strict=True)]
    polygons, called = (
        np.concatenate([part[k][mine] for part, mine in zip(found, own, strict=True)]) for k in range(2)
    )
    scores = segmentation.score(given, polygons, mpp, region)
    types = sorted({name for model in trained for name in model.classes})
    scores["types"] = score_types(given, label, polygons, called, mpp, types)
    scores["folds"] = {
        name: segmentation.score(given[of_given == name], nuclei[mine], mpp, region)
        for name, (nuclei, _), mine in zip(folds, found, own, strict=True)
    }
    console.log.info(f"F1 of nuclei within 3 µm {scores['detection']['3']['f1']:.3f}, Dice {scores['dice']:.3f}")
    files.write_json(output.scores, {"system": wildcards.system, "sample": wildcards.sample} | scores)


with console.session(snakemake.log[0]):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards, snakemake.threads)
