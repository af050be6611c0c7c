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


def system_of(number):
    """The system that a figure is of: the first of its kind, None where there is none; the one shown."""
    kind = FIGURES[number].kind
    return next((name for name, entry in SYSTEMS.items() if entry["kind"] == kind), None) if kind else SYSTEM_SHOWN


# Figures of systems that there are.
DRAWN = [number for number in FIGURES if system_of(number)]


wildcard_constraints:
    number="|".join(DRAWN),


def figure_samples(wildcards):
    if FIGURES[wildcards.number].kind:
        return TRAIN[SYSTEMS[system_of(wildcards.number)]["unit"]]
    return FIGURE_SAMPLES[FIGURES[wildcards.number].samples]


def own_inputs(system, samples):
    """What the figure of a system reads: its models and what they see of the first sample; every system's scores."""
    unit, first = SYSTEMS[system]["unit"], samples[:1]
    of_first = {"system": system, "protocol": PROTOCOL_SHOWN, "sample": first, "unit": unit}
    folder = results(f"models/{system}/{PROTOCOL_SHOWN}/{{fold}}")
    scores = evaluations(samples=samples, units=[unit], protocols=[PROTOCOL_SHOWN])
    return {
        "own_scored": expand(results(RESULT_PATHS["scored"]), **of_first),
        "own_models": expand(f"{folder}/model.safetensors", fold=TEST_FOLDS[PROTOCOL_SHOWN]),
        "own_records": expand(f"{folder}/model.json", fold=TEST_FOLDS[PROTOCOL_SHOWN]),
        "own_source": [path for sample in first for path in source_files(system, sample)],
        "own_store": [store_of(unit, sample) for sample in first],
        "own_registration": expand(results(RESULT_PATHS["registrations"]), sample=first),
        "own_scores": scores,
        "own_genes": [path.replace(".json", ".genes.csv") for path in scores],
    }


def figure_inputs(wildcards):
    """Each kind of result that a figure reads, in the order of its samples; scores of every system where it asks so."""
    samples, reads = figure_samples(wildcards), FIGURES[wildcards.number].reads
    paths = {name: expand(results(path), sample=samples, **SHOWN) for name, path in RESULT_PATHS.items()}
    paths["evaluations"] = evaluations(samples=samples, units=["cells"])
    if FIGURES[wildcards.number].kind:
        paths = own_inputs(system_of(wildcards.number), samples)
    return {name: paths[name] for name in reads}


def figure_script(wildcards):
    """Number of the script that draws a figure; one that says in every panel that there is no sample to draw."""
    return (FIGURES[wildcards.number].like or wildcards.number) if figure_samples(wildcards) else "placeholder"
