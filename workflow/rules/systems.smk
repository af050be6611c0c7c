"""Systems and folds: which there are, and which files each needs."""

from shest.core.provenance import module_file
from shest.systems import base

SYSTEMS = config["systems"]
FOLDS = ["0"]
DEPLOYED = FOLDS[0]  # the fold whose models predict
UNIT = "cells"
TRAIN_SAMPLES = with_role("train")
# What a system reads of a sample, by the word in its spec.
SOURCE_PATHS = {
    "nothing": [],
    "embeddings": ["embeddings/{encoder}/{sample}/embeddings.json"],
    "patches": ["samples/{sample}/tiles/tiles.json"],
    "slide": ["samples/{sample}/sdata.zarr", "samples/{sample}/outlines.parquet", "samples/{sample}/registration.json"],
}


wildcard_constraints:
    system=any_of(SYSTEMS),
    fold=any_of(FOLDS),
    unit="cells|spots",


def spec(system):
    """What its kind says of a system."""
    return base.spec_of(SYSTEMS[system]["kind"])


def code_files(system):
    """Module that a system is implemented in: its code is not imported by the scripts, but by what the config says."""
    return module_file(spec(system).module)


def encoder_of(system):
    """Encoder of a system; the first, for one that reads no embeddings: refinement is by some encoder in any case."""
    return SYSTEMS[system]["encoder"] or ENCODERS[0]


def encoder_record(wildcards):
    return results(f"embeddings/{encoder_of(wildcards.system)}/encoder.json")


def source_files(system, sample):
    """What a system reads of a sample."""
    paths = SOURCE_PATHS[spec(system).reads]
    return [results(path.format(encoder=SYSTEMS[system]["encoder"], sample=sample)) for path in paths]


def sources_of_training(wildcards):
    return [path for sample in TRAIN_SAMPLES for path in source_files(wildcards.system, sample)]


def views_of_training(wildcards):
    """Further views of the training samples, where a system asks for them."""
    further = str(SYSTEMS[wildcards.system]["settings"].get("views", 1)) != "1"
    folder = results("models/{system}/{protocol}/{fold}/views")
    return [f"{folder}/{sample}.json" for sample in TRAIN_SAMPLES if further]


def refinements_of_training(wildcards):
    encoder = encoder_of(wildcards.system)
    return [results(f"refinement/{encoder}/{wildcards.protocol}/{sample}.parquet") for sample in TRAIN_SAMPLES]


def split_of(wildcards):
    """The split, for samples that were split."""
    return [results(f"splits/{{protocol}}/{DEPLOYED}.parquet")] if wildcards.sample in TRAIN_SAMPLES else []


def refinement_of_scored(wildcards):
    """The refinement, where it decides which cells are scored."""
    if wildcards.protocol != "paper" or wildcards.sample not in TRAIN_SAMPLES:
        return []
    return [results(f"refinement/{encoder_of(wildcards.system)}/{{protocol}}/{{sample}}.parquet")]


def evaluations(systems=SYSTEMS, protocols=config["protocols"], samples=LABELLED):
    """Scores of some systems, in some protocols, of some samples."""
    return [
        results(f"evaluation/{system}/{protocol}/{sample}.{UNIT}.json")
        for system in systems
        for protocol in protocols
        for sample in samples
    ]


def further_views_minutes(wildcards, input, attempt, threads):
    """Time to encode further views of a sample's training cells: all of them, or about one more for each."""
    share = {"sampled": 1, "8": 7}.get(str(SYSTEMS[wildcards.system]["settings"].get("views")), 0)
    return encoding_minutes_of(encoder_of(wildcards.system), "embed_views", share, input, attempt, threads)


def fit_minutes(wildcards, input, attempt, threads):
    """Time to fit a system."""
    return training_minutes(SYSTEMS[wildcards.system], input, attempt, threads)
