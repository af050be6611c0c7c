"""Systems and folds: which there are, and which files each needs."""

from shest.labels.split import ALL, fold_names
from shest.systems import base
from shest.tiles.patch import PatchSize

SYSTEMS = config["systems"]
UNIT = "cells"
TRAIN_SAMPLES = with_role("train")
# Folds in which cells are held out, and the one whose models predict what was never trained on.
TEST_FOLDS = {"strict": fold_names(config["split"], {s: SAMPLES[s] for s in TRAIN_SAMPLES}), "paper": ["0"]}
DEPLOYED = {"strict": ALL, "paper": "0"}
FOLDS = {protocol: list(dict.fromkeys([*TEST_FOLDS[protocol], DEPLOYED[protocol]])) for protocol in TEST_FOLDS}
REFINED = {protocol: config["refine"]["method"][protocol] == "algorithm_1" for protocol in TEST_FOLDS}
GAP_UM = config["split"]["gap_um"]
if GAP_UM == "auto":
    GAP_UM = base.largest_window(SYSTEMS.values(), config["tiles"]["window_um"])
# What a system reads of a sample, by the word in its spec.
SOURCE_PATHS = {
    "nothing": [],
    "embeddings": ["embeddings/{encoder}/{sample}/embeddings.json"],
    "patches": ["samples/{sample}/patches/{window}/patches.json"],
    "slide": ["samples/{sample}/sdata.zarr", "samples/{sample}/outlines.parquet", "samples/{sample}/registration.json"],
}


wildcard_constraints:
    system=any_of(SYSTEMS),
    fold=any_of({fold for folds in FOLDS.values() for fold in folds}),
    unit="cells|spots",


def spec(system):
    """What its kind says of a system."""
    return base.spec_of(SYSTEMS[system]["kind"])


# Systems that look at their units; what the others predict is the same everywhere.
LOOKING = [system for system in SYSTEMS if spec(system).reads != "nothing"]


def segment_code(wildcards):
    """Digest of what finds a sample's nuclei: of a trained system, whatever kind it is of."""
    trained = SAMPLES[wildcards.sample]["segment"] == "trained"
    modules = [kind.module for kind in base.kinds().values() if kind.outlines and trained]
    return code_digest(Path(workflow.basedir, "workflow/scripts/segment.py"), *modules)


# Systems that the viewer shows.
VIEWED = config["viewer"].get("systems", LOOKING)


def embeddings_viewed(wildcards):
    """Embeddings of the first shown system that reads any: what the neighbours of a cell are looked for in."""
    encoders = [SYSTEMS[system]["encoder"] for system in VIEWED if SYSTEMS[system]["encoder"]]
    return expand(results("embeddings/{encoder}/{{sample}}/embeddings.json"), encoder=encoders[:1])


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
    reads, entry = spec(system).reads, SYSTEMS[system]
    window = PatchSize.of(entry["settings"]).name if reads == "patches" else None
    return [results(p.format(encoder=entry["encoder"], sample=sample, window=window)) for p in SOURCE_PATHS[reads]]


def sources_of_training(wildcards):
    return [path for sample in TRAIN_SAMPLES for path in source_files(wildcards.system, sample)]


def views_of_training(wildcards):
    """Further views of the training samples, where a system asks for them."""
    further = str(SYSTEMS[wildcards.system]["settings"].get("views", 1)) != "1"
    folder = results("models/{system}/{protocol}/{fold}/views")
    return [f"{folder}/{sample}.json" for sample in TRAIN_SAMPLES if further]


def refinements_of_training(wildcards):
    """The refinement of the training samples, where the protocol trains on what it keeps."""
    encoder, protocol = encoder_of(wildcards.system), wildcards.protocol
    return [results(f"refinement/{encoder}/{protocol}/{s}.parquet") for s in TRAIN_SAMPLES if REFINED[protocol]]


def folds_of(wildcards):
    """Folds whose models predict a sample: those that hold its cells out, or the one that is deployed."""
    return (TEST_FOLDS if wildcards.sample in TRAIN_SAMPLES else DEPLOYED)[wildcards.protocol]


def models_of(name):
    """A file of the models that predict a sample, in the order of their folds; of a package, its own."""

    def files(wildcards):
        if MODEL:
            return [f"{MODEL}/{name}"]
        return expand(results(f"models/{{{{system}}}}/{{{{protocol}}}}/{{fold}}/{name}"), fold=folds_of(wildcards))

    return files


def splits_of(wildcards):
    """The splits of a sample's folds, where it was split."""
    folds = folds_of(wildcards) if wildcards.sample in TRAIN_SAMPLES else []
    return expand(results("splits/{{protocol}}/{fold}.parquet"), fold=folds)


def refinement_of_scored(wildcards):
    """The refinement, where it decides which cells are scored."""
    if wildcards.protocol != "paper" or not REFINED["paper"] or wildcards.sample not in TRAIN_SAMPLES:
        return []
    return [results(f"refinement/{encoder_of(wildcards.system)}/{{protocol}}/{{sample}}.parquet")]


def truth_of(wildcards):
    """What the counts of a simulated sample were drawn from."""
    folder = SAMPLES[wildcards.sample]["path"]
    return [f"{folder}/truth/truth.h5ad"] if folder.startswith(f"{SIMULATED}/") else []


def evaluations(systems=SYSTEMS, protocols=config["protocols"], samples=LABELLED):
    """Scores of some systems, in some protocols, of some samples."""
    return [
        results(f"evaluation/{system}/{protocol}/{sample}.{UNIT}.json")
        for system in systems
        for protocol in protocols
        for sample in samples
    ]


# Other programs whose predictions are scored beside the systems', on what all of them share.
PROGRAMS = list(dict.fromkeys(name for sample in LABELLED for name in comparators_of(sample, True)))


def predictions_beside(wildcards):
    """Predictions of a sample by every system, and by every other program that has any."""
    paths = [f"predictions/{system}" for system in SYSTEMS]
    paths += [f"programs/{program}" for program in comparators_of(wildcards.sample, True)]
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
    """Scores of systems and other programs on what they share, of the samples that have other programs."""
    return [
        results(f"evaluation/{name}/{protocol}/{sample}.{UNIT}.shared.json")
        for sample in LABELLED
        if comparators_of(sample, True)
        for name in [*SYSTEMS, *comparators_of(sample, True)]
    ]


def further_views_minutes(wildcards, input, attempt, threads):
    """Time to encode further views of a sample's training cells: all of them, or about one more for each."""
    share = {"sampled": 1, "8": 7}.get(str(SYSTEMS[wildcards.system]["settings"].get("views")), 0)
    return encoding_minutes_of(encoder_of(wildcards.system), "embed_views", share, input, attempt, threads)


def fit_minutes(wildcards, input, attempt, threads):
    """Time to fit a system."""
    return training_minutes(SYSTEMS[wildcards.system], input, attempt, threads)


# Systems that are packed where that is asked for.
PACKED = config["package"].get("systems", [s for s in SYSTEMS if spec(s).reads != "patches"][:1])


def models(name, systems=SYSTEMS, protocols=config["protocols"]):
    """A file of the deployed model of each of some systems, in each of some protocols."""
    return [results(f"models/{s}/{p}/{DEPLOYED[p]}/{name}") for s in systems for p in protocols]
