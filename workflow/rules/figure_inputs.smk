"""What each figure reads: of one system and protocol, and of every F1."""

from shest.draw.figure_list import FIGURES, TABLES

SYSTEM_SHOWN = config["figures"].get("system", next(iter(BY_UNIT["cells"] or SYSTEMS)))
PROTOCOL_SHOWN = config["figures"].get("protocol", config["protocols"][0])
SHOWN = {
    "system": SYSTEM_SHOWN,
    "protocol": PROTOCOL_SHOWN,
    "fold": DEPLOYED[PROTOCOL_SHOWN],
    "encoder": encoder_of(SYSTEM_SHOWN),
    "unit": "cells",
}
EXTERNAL = config["figures"].get("external", with_role("validation")[:2])
FIGURE_SAMPLES = {
    "training": [config["figures"]["training"]] if "training" in config["figures"] else TRAIN_SAMPLES[:1],
    "train": TRAIN_SAMPLES,
    "external": EXTERNAL,
    "first": EXTERNAL[:1],
    "second": EXTERNAL[1:],
}
# Table of a pathologist's regions of spots, by sample.
REGIONS = config["figures"]["regions"]
# What figures read of a sample, by the word in their list.
RESULT_PATHS = {
    "scores": "evaluation/{system}/{protocol}/{sample}.{unit}.json",
    "genes": "evaluation/{system}/{protocol}/{sample}.{unit}.genes.csv",
    "markers": "evaluation/{system}/{protocol}/{sample}.{unit}.markers.csv",
    "scored": "evaluation/{system}/{protocol}/{sample}.{unit}.scored.parquet",
    "predictions": "predictions/{system}/{protocol}/{sample}.{unit}.h5ad",
    "refinements": "refinement/{encoder}/{protocol}/{sample}.parquet",
    "embeddings": "embeddings/{encoder}/{sample}/embeddings.json",
    "annotations": "samples/{sample}/annotation.parquet",
    "registrations": "samples/{sample}/registration.json",
    "cells": "samples/{sample}/cells.parquet",
    "tiles": "samples/{sample}/tiles/tiles.json",
    "stores": "samples/{sample}/sdata.zarr",
}


def of_kind(kind):
    """Systems of a kind, the one that figures show first."""
    return sorted((s for s in SYSTEMS if SYSTEMS[s]["kind"] == kind), key=lambda s: s != SYSTEM_SHOWN)


# Figures that this run draws: those of a kind of system where it has one.
DRAWN = [number for number, figure in FIGURES.items() if figure.kind is None or of_kind(figure.kind)]


wildcard_constraints:
    number="|".join(DRAWN),


def figure_shown(wildcards):
    """What a figure shows: of the shown system, or of the first of its own kind."""
    kind = FIGURES[wildcards.number].kind
    if kind is None:
        return SHOWN
    system = of_kind(kind)[0]
    return SHOWN | {"system": system, "encoder": encoder_of(system), "unit": SYSTEMS[system]["unit"]}


def figure_samples(wildcards):
    wanted, shown = FIGURES[wildcards.number].samples, figure_shown(wildcards)
    if wanted == "own_train":
        return TRAIN[shown["unit"]]
    if wanted != "own":
        return FIGURE_SAMPLES[wanted]
    return [s for s in SCORED_SAMPLES if shown["unit"] in scored_units(shown["system"], shown["protocol"], s)]


def own_inputs(shown, samples):
    """What the figure of a system reads: its models and what they see of the first sample; every system's scores."""
    system, unit, protocol, first = shown["system"], shown["unit"], shown["protocol"], samples[:1]
    folder = results(f"models/{system}/{protocol}/{{fold}}")
    scores = evaluations(samples=samples, units=[unit], protocols=[protocol])
    return {
        "own_scored": expand(results(RESULT_PATHS["scored"]), **shown | {"sample": first}),
        "own_models": expand(f"{folder}/model.safetensors", fold=TEST_FOLDS[protocol]),
        "own_records": expand(f"{folder}/model.json", fold=TEST_FOLDS[protocol]),
        "own_source": [path for sample in first for path in source_files(system, sample)],
        "own_store": [store_of(unit, sample) for sample in first],
        "own_registration": expand(results(RESULT_PATHS["registrations"]), sample=first),
        "own_scores": scores,
        "own_genes": [path.replace(".json", ".genes.csv") for path in scores],
    }


def figure_inputs(wildcards):
    """Each kind of result that a figure reads, in the order of its samples; scores of every system where it asks so."""
    samples, reads, shown = figure_samples(wildcards), FIGURES[wildcards.number].reads, figure_shown(wildcards)
    paths = {name: expand(results(path), sample=samples, **shown) for name, path in RESULT_PATHS.items()}
    paths["stores"] = [store_of(shown["unit"], sample) for sample in samples]
    paths["evaluations"] = evaluations(samples=samples, units=[shown["unit"]])
    paths["records"] = models("model.json", BY_UNIT[shown["unit"]], [shown["protocol"]])
    if FIGURES[wildcards.number].samples == "own_train":
        paths |= own_inputs(shown, samples)
    found = {name: paths[name] for name in reads}
    if wildcards.number == "H":
        found["regions"] = [REGIONS[sample] for sample in samples if sample in REGIONS]
    return found


def figure_script(wildcards):
    """Number of the script that draws a figure; one that says in every panel that there is no sample to draw."""
    return (FIGURES[wildcards.number].like or wildcards.number) if figure_samples(wildcards) else "placeholder"
