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


wildcard_constraints:
    number="|".join(FIGURES),


def figure_samples(wildcards):
    return FIGURE_SAMPLES[FIGURES[wildcards.number].samples]


def figure_inputs(wildcards):
    """Each kind of result that a figure reads, in the order of its samples; scores of every system where it asks so."""
    samples, reads = figure_samples(wildcards), FIGURES[wildcards.number].reads
    paths = {name: expand(results(path), sample=samples, **SHOWN) for name, path in RESULT_PATHS.items()}
    paths["evaluations"] = evaluations(samples=samples, units=["cells"])
    return {name: paths[name] for name in reads}


def figure_script(wildcards):
    """Number of the script that draws a figure; one that says in every panel that there is no sample to draw."""
    return (FIGURES[wildcards.number].like or wildcards.number) if figure_samples(wildcards) else "placeholder"
