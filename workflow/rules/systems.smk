"""Systems and folds: which there are, and which files each needs."""

from shest.labels.split import ALL, fold_names
from shest.systems import base
from shest.tiles.patch import PatchSize

SYSTEMS = config["systems"]
TRAIN_SAMPLES = with_role("train")
TRAIN = {unit: with_role("train", unit=unit) for unit in OF_UNIT}
SPLIT_SAMPLES = [name for name in SAMPLES if name in TRAIN["cells"] + TRAIN["spots"]]
# The table of each unit.
UNIT_TABLES = {"cells": "cells.parquet", "spots": "spots.parquet"}
# Folds in which cells are held out, and the one whose models predict what was never trained on.
TEST_FOLDS = {"strict": fold_names(config["split"], {s: SAMPLES[s] for s in SPLIT_SAMPLES}), "paper": ["0"]}
DEPLOYED = {"strict": ALL, "paper": "0"}
FOLDS = {protocol: list(dict.fromkeys([*TEST_FOLDS[protocol], DEPLOYED[protocol]])) for protocol in TEST_FOLDS}
REFINED = {protocol: config["refine"]["method"][protocol] == "algorithm_1" for protocol in TEST_FOLDS}
# How far apart windows of different parts are: of each unit as far as the systems need that see it.
GAP_UM = {
    unit: base.largest_window([entry for entry in SYSTEMS.values() if entry["unit"] == unit], window_um)
    for unit, window_um in (("cells", config["tiles"]["window_um"]), ("spots", PATCH.side_um))
}
if config["split"]["gap_um"] != "auto":
    GAP_UM = dict.fromkeys(GAP_UM, config["split"]["gap_um"])
# What a system reads of a sample, by the word in its spec.
SOURCE_PATHS = {
    "nothing": [],
    "embeddings": ["embeddings/{encoder}/{sample}/embeddings.json"],
    "patches": ["samples/{sample}/patches/{window}/patches.json"],
    "slide": ["samples/{sample}/sdata.zarr", "samples/{sample}/outlines.parquet", "samples/{sample}/registration.json"],
}
SPOT_PATHS = SOURCE_PATHS | {
    "embeddings": ["embeddings/{encoder}/{sample}/spots.json"],
    "patches": ["samples/{sample}/spots/{window}/patches.json"],
}


wildcard_constraints:
    system=any_of(SYSTEMS),
    fold=any_of({fold for folds in FOLDS.values() for fold in folds}),
    unit="cells|spots",


def spec(system):
    """What its kind says of a system."""
    return base.spec_of(SYSTEMS[system]["kind"])


def reads(system):
    """What a system reads of its units."""
    return spec(system).reading(SYSTEMS[system]["settings"])


# Systems of each unit; those that look at their units: what the others predict is the same everywhere.
BY_UNIT = {unit: [system for system, entry in SYSTEMS.items() if entry["unit"] == unit] for unit in OF_UNIT}
LOOKING = [system for system in SYSTEMS if reads(system) != "nothing"]
CELLS_LOOKING = [system for system in LOOKING if system in BY_UNIT["cells"]]


def segment_code(wildcards):
    """Digest of what finds a sample's nuclei: of a trained system, whatever kind it is of."""
    trained = SAMPLES[wildcards.sample]["segment"] == "trained"
    modules = [kind.module for kind in base.kinds().values() if kind.outlines and trained]
    return code_digest(Path(workflow.basedir, "workflow/scripts/segment.py"), *modules)


# Systems that see patches with their colours changed.
STAINED = [name for name in LOOKING if reads(name) == "patches" and SYSTEMS[name]["settings"].get("stain") != "none"]
# Systems that the viewer shows.
VIEWED = config["viewer"].get("systems", LOOKING)


def segmenters(system):
    """The system that finds nuclei for another, where the config has one."""
    return [name for name in SYSTEMS if spec(name).outlines and not spec(system).outlines][:1]


def encoder_of(system):
    """Encoder of a system; the first, for one that reads no embeddings: refinement is by some encoder in any case."""
    return SYSTEMS.get(system, {}).get("encoder") or ENCODERS[0]


def encoder_record(wildcards):
    return results(f"embeddings/{encoder_of(wildcards.system)}/encoder.json")


def source_files(system, sample):
    """What a system reads of a sample."""
    entry = SYSTEMS[system]
    window = PatchSize.of(entry["settings"]).name if reads(system) == "patches" else None
    paths = (SPOT_PATHS if entry["unit"] == "spots" else SOURCE_PATHS)[reads(system)]
    return [results(p.format(encoder=entry["encoder"], sample=sample, window=window)) for p in paths]


def training_samples(wildcards):
    """Samples that a system is trained on."""
    return TRAIN[SYSTEMS[wildcards.system]["unit"]]


def store_of(unit, sample):
    """The store with the counts of a sample's units."""
    return results(f"samples/{sample}/{'spots' if unit == 'spots' and sample in PSEUDO_SAMPLES else 'sdata'}.zarr")


def stores_of_training(wildcards):
    return [store_of(SYSTEMS[wildcards.system]["unit"], sample) for sample in training_samples(wildcards)]


def ingests_of_training(wildcards):
    return [results(f"samples/{sample}/ingest.json") for sample in training_samples(wildcards)]


def unit_table(wildcards):
    """The table of a sample's units: which are kept, where they are."""
    return results(f"samples/{wildcards.sample}/{UNIT_TABLES[wildcards.unit]}")


def annotation_of_scored(wildcards):
    """Labels of what is scored: of cells."""
    return [results("samples/{sample}/annotation.parquet")] if wildcards.unit == "cells" else []


def sources_of_training(wildcards):
    return [path for sample in training_samples(wildcards) for path in source_files(wildcards.system, sample)]


def views_of_training(wildcards):
    """Further views of the training samples, where a system asks for them."""
    further = str(SYSTEMS[wildcards.system]["settings"].get("views", 1)) != "1"
    folder = results("models/{system}/{protocol}/{fold}/views")
    return [f"{folder}/{sample}.json" for sample in training_samples(wildcards) if further]


def refinements_of_training(wildcards):
    """The refinement of the training samples, where the protocol trains on what it keeps."""
    encoder, protocol = encoder_of(wildcards.system), wildcards.protocol
    refined = TRAIN_SAMPLES if REFINED[protocol] and SYSTEMS[wildcards.system]["unit"] == "cells" else []
    return [results(f"refinement/{encoder}/{protocol}/{s}.parquet") for s in refined]


def folds_of(wildcards):
    """Folds whose models predict a sample: those that hold its cells out, or the one that is deployed."""
    return (TEST_FOLDS if SAMPLES[wildcards.sample]["role"] == "train" else DEPLOYED)[wildcards.protocol]


def models_of(name):
    """A file of the models that predict a sample, in the order of their folds; of a package, its own."""

    def files(wildcards):
        if MODEL:
            return [f"{MODEL}/{name}"]
        return expand(results(f"models/{{{{system}}}}/{{{{protocol}}}}/{{fold}}/{name}"), fold=folds_of(wildcards))

    return files


def splits_of(wildcards):
    """The splits of a sample's folds, where it was split."""
    folds = folds_of(wildcards) if SAMPLES[wildcards.sample]["role"] == "train" else []
    return expand(results("splits/{{protocol}}/{fold}.parquet"), fold=folds)


def refinement_of_scored(wildcards):
    """The refinement, where it decides which cells are scored."""
    of_cells = wildcards.unit == "cells" and wildcards.sample in TRAIN_SAMPLES
    if wildcards.protocol != "paper" or not REFINED["paper"] or not of_cells:
        return []
    return [results(f"refinement/{encoder_of(wildcards.system)}/{{protocol}}/{{sample}}.parquet")]


def truth_of(wildcards):
    """What the counts of a simulated sample were drawn from, cell by cell."""
    folder = SAMPLES[wildcards.sample]["path"]
    if wildcards.unit != "cells":
        return []
    return [f"{folder}/truth/truth.h5ad"] if folder.startswith(f"{SIMULATED}/") else []


# Table of genes' transcripts, where the config has one.
TRANSCRIPTS = [config["evaluate"]["transcripts"]] if "transcripts" in config["evaluate"] else []


def scored_units(system, protocol, sample):
    """Units of a sample that a system is scored on: its own, and spots as sums of their cells.

    Where cells are held out at random, those of a spot are not held out together: such a spot is not scored.
    """
    own = SYSTEMS[system]["unit"]
    units = [own] if sample in OF_UNIT[own] else []
    together = protocol == "strict" or SAMPLES[sample]["role"] != "train"
    if own == "cells" and sample in PSEUDO_SAMPLES and together and not MODEL:
        units.append("spots")
    return units


SCORED_SAMPLES = [name for name, row in SAMPLES.items() if row["role"] != "predict"]


def evaluations(systems=SYSTEMS, protocols=config["protocols"], samples=SCORED_SAMPLES, units=OF_UNIT):
    """Scores of some systems, in some protocols, of some samples and units."""
    return [
        results(f"evaluation/{system}/{protocol}/{sample}.{unit}.json")
        for system in systems
        for protocol in protocols
        for sample in samples
        for unit in scored_units(system, protocol, sample)
        if unit in units
    ]


# How well systems that outline nuclei find those that they were given, where none are their own.
OUTLINED = [
    s for s in SCORED_SAMPLES if SAMPLES[s]["segment"] in ("bundle", "file") and "strict" in config["protocols"]
]
OUTLINE_SCORES = expand(
    results("evaluation/{system}/strict/{sample}.outlines.json"),
    system=[system for system in SYSTEMS if spec(system).outlines],
    sample=OUTLINED,
)

# Other programs whose predictions are scored beside the systems', on what all of them share.
PROGRAMS = list(dict.fromkeys(name for sample in LABELLED for name in comparators_of(sample, True)))


def systems_on(unit, protocol, sample):
    """Systems that are scored on some units of a sample."""
    return [system for system in SYSTEMS if unit in scored_units(system, protocol, sample)]


def programs_on(unit, sample):
    """Other programs that predict expression for some units of a sample: for cells."""
    return list(comparators_of(sample, True)) if unit == "cells" else []


def predictions_beside(wildcards):
    """Predictions of a sample by every system, and by every other program that has any."""
    paths = [f"predictions/{system}" for system in systems_on(wildcards.unit, wildcards.protocol, wildcards.sample)]
    paths += [f"programs/{program}" for program in programs_on(wildcards.unit, wildcards.sample)]
    return [results(f"{path}/{{protocol}}/{{sample}}.{{unit}}.h5ad") for path in paths]


def shared_predictions(wildcards):
    """Predictions of a sample by a system, or by another program."""
    folder = "programs" if wildcards.system in PROGRAMS else "predictions"
    return results(f"{folder}/{{system}}/{{protocol}}/{{sample}}.{{unit}}.h5ad")


def of_program(suffix, name):
    """A file of the models that predict a sample; of another program, what was made of its file."""

    def files(wildcards):
        if wildcards.system in PROGRAMS:
            return [results(f"programs/{{system}}/{{protocol}}/{{sample}}.{{unit}}{suffix}")]
        return models_of(name)(wildcards)

    return files


def shared_evaluations(protocol):
    """Scores of systems and other programs on what they share, of samples with other programs, or where that is wanted."""
    return [
        results(f"evaluation/{name}/{protocol}/{sample}.{unit}.shared.json")
        for sample in SCORED_SAMPLES
        for unit in OF_UNIT
        if config["evaluate"]["shared"] or programs_on(unit, sample)
        for name in [*systems_on(unit, protocol, sample), *programs_on(unit, sample)]
    ]


def further_views_minutes(wildcards, input, attempt, threads):
    """Time to encode further views of a sample's training cells: all of them, or about one more for each."""
    share = {"sampled": 1, "8": 7}.get(str(SYSTEMS[wildcards.system]["settings"].get("views")), 0)
    return encoding_minutes_of(encoder_of(wildcards.system), "embed_views", share, input, attempt, threads)


def fit_minutes(wildcards, input, attempt, threads):
    """Time to fit a system."""
    return training_minutes(SYSTEMS[wildcards.system], input, attempt, threads)


# Systems that are packed where that is asked for.
PACKED = config["package"].get("systems", [s for s in BY_UNIT["cells"] if reads(s) != "patches"][:1])


def models(name, systems=SYSTEMS, protocols=config["protocols"]):
    """A file of the deployed model of each of some systems, in each of some protocols."""
    return [results(f"models/{s}/{p}/{DEPLOYED[p]}/{name}") for s in systems for p in protocols]
