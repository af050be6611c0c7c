"""Config, sample sheet, and the paths that the stages share."""

import re
from pathlib import Path

from snakemake.exceptions import WorkflowError

from shest.fetch import sources
from shest.run import run_inputs
from shest.run import record
from shest.core.files import sha256
from shest.core.provenance import code_digest

CONFIG_FILE = Path((workflow.overwrite_configfiles or [Path(workflow.basedir) / "config" / "config.yaml"])[-1])


def load_run():
    """Return config, paths, rows of the sheet by sample, reference and comparators, or say every problem at once."""
    run, problems = run_inputs.load(dict(config), CONFIG_FILE)
    if problems:
        raise WorkflowError("\n".join(["Config and sample sheet cannot be used:", *problems]))
    record.stand_in(Path(run.paths.results, "preflight.json"))
    return run.config, run.paths, run.samples, run.reference, run.comparators


config, PATHS, SAMPLES, REFERENCE, COMPARATORS = load_run()
RESULTS = config["results"].rstrip("/")
ENCODERS = [e if isinstance(e, str) else e["name"] for e in config["encoders"]]
THREADS = config["resources"]["threads"]
TYPES = config["cell_types"]
MODEL = "models/{encoder}/{protocol}"
CACHE = config["cache"]["dir"]
SHOWN = {
    "encoder": config["figures"].get("encoder", ENCODERS[0]),
    "protocol": config["figures"].get("protocol", config["protocols"][0]),
}
# What the preflight checks of the config: a change elsewhere does not repeat it.
CHECKED = ("reference", "cell_types", "annotate")


wildcard_constraints:
    sample="|".join(map(re.escape, SAMPLES)),
    encoder="|".join(map(re.escape, ENCODERS)),
    protocol="strict|paper",


def results(path):
    """Prefix a path with the results folder of this run."""
    return f"{RESULTS}/{path}"


def code(script):
    """Digest of the library's modules that a script imports, as a parameter of its rule: a change runs it again."""
    return code_digest(Path(workflow.basedir, "workflow/scripts", f"{script}.py"))


def env(name):
    """Environment of a family of rules."""
    return os.path.join(workflow.basedir, "envs", f"{name}.yaml")


def any_of(names):
    """Pattern of a wildcard that is one of these names, and never matches where there are none."""
    return "|".join(map(re.escape, names)) or r"(?!)"


def with_role(*roles):
    """Samples of the given roles, in the order of the sheet."""
    return [name for name, row in SAMPLES.items() if row["role"] in roles]


def on_platform(platform):
    """Samples of a platform."""
    return [name for name, row in SAMPLES.items() if row["platform"] == platform]


LABELLED = with_role("train", "validation")
TRAINING = config["figures"].get("training", next(iter(with_role("train")), None))
EXTERNAL = config["figures"].get("external", with_role("validation")[:2])
FIGURES = ["2", "4", "5", "6", "7", "8", "S1", "S2", "S3", "S4"]
TABLES = ["1", "S1"]
# What figures read of a sample.
RESULT_PATHS = {
    "scores": "evaluation/{encoder}/{protocol}/{sample}.json",
    "genes": "evaluation/{encoder}/{protocol}/{sample}.genes.csv",
    "markers": "evaluation/{encoder}/{protocol}/{sample}.markers.csv",
    "scored": "evaluation/{encoder}/{protocol}/{sample}.cells.parquet",
    "predictions": "predictions/{encoder}/{protocol}/{sample}.h5ad",
    "refinements": "refinement/{encoder}/{protocol}/{sample}.parquet",
    "embeddings": "embeddings/{encoder}/{sample}/embeddings.json",
    "annotations": "samples/{sample}/annotation.parquet",
    "registrations": "samples/{sample}/registration.json",
    "cells": "samples/{sample}/cells.parquet",
    "tiles": "samples/{sample}/tiles/tiles.json",
    "ingests": "samples/{sample}/ingest.json",
}


def one_file(sample, column, pattern):
    """Path of a bundle's file: the sheet's, the only match in the bundle, or the name it will have once made."""
    row = SAMPLES[sample]
    if row[column]:
        return row[column]
    bundle = Path(row["path"])
    found = sorted(bundle.glob(f"*{pattern}"))
    return str(found[0] if len(found) == 1 else bundle / f"{bundle.name}_{pattern}")


def he_image(wildcards):
    return one_file(wildcards.sample, "he_image", run_inputs.HE_IMAGE)


def alignment(wildcards):
    return one_file(wildcards.sample, "alignment", run_inputs.ALIGNMENT)


def annotation_table(wildcards):
    """The pathologist's table of a sample, where one is given."""
    table = SAMPLES[wildcards.sample]["annotation"]
    return [table] if table else []


def annotation_where_there(wildcards):
    """The annotation of a sample that has expression."""
    return [results("samples/{sample}/annotation.parquet")] if SAMPLES[wildcards.sample]["platform"] == "xenium" else []


def resolved_encoder(entry):
    """An entry of encoders, a local weights folder resolved as every path of the config is."""
    if isinstance(entry, dict) and not entry.get("weights", "hub:").startswith(("hub:", "random")):
        return entry | {"weights": PATHS.resolve(entry["weights"])}
    return entry


def encoder_config(wildcards):
    """The encoder's name or entry."""
    return resolved_encoder(
        next(e for e in config["encoders"] if (e if isinstance(e, str) else e["name"]) == wildcards.encoder)
    )


def files_of_objects(sample):
    """Paths of the files with outlines and labels of single cells, which are read whole."""
    outlines = {"nuclei": SAMPLES[sample]["nuclei"]} if SAMPLES[sample]["nuclei"] else {}
    return outlines | {f"comparator {name}": one["path"] for name, one in COMPARATORS[sample].items()}


def input_files(sample):
    """Paths of the files of a sample that are looked into, by what they are."""
    row = SAMPLES[sample]
    tables = {"annotation": row["annotation"]} if row["annotation"] else {}
    if row["platform"] == "slide":
        return {"path": row["path"]} | tables
    named = {
        "he_image": one_file(sample, "he_image", run_inputs.HE_IMAGE),
        "alignment": one_file(sample, "alignment", run_inputs.ALIGNMENT),
    }
    return named | {name: f"{row['path']}/{name}" for name in run_inputs.BUNDLE_FILES} | tables


def looked_into(wildcards):
    """Every file that the preflight looks into."""
    found = [input_files(sample) | files_of_objects(sample) for sample in SAMPLES]
    return [path for named in found for path in named.values()] + [REFERENCE]


def sample_settings(sample):
    """Row of the sheet with the paths of its files."""
    return SAMPLES[sample] | {k: v for k, v in input_files(sample).items() if k in ("he_image", "alignment")}


def checked_config():
    """The checked part of the config, with the places of local weights and of other systems' labels."""
    encoders = [resolved_encoder(e) for e in config["encoders"]]
    return {key: config[key] for key in CHECKED} | {"encoders": encoders, "comparators": COMPARATORS}


def split_of(wildcards):
    """The split, for samples that were split."""
    return [results(f"{MODEL}/split.parquet")] if SAMPLES[wildcards.sample]["role"] == "train" else []


def refinement_of(wildcards):
    """The refinement, where it decides which cells are scored."""
    refined = wildcards.protocol == "paper" and SAMPLES[wildcards.sample]["role"] == "train"
    return [results("refinement/{encoder}/{protocol}/{sample}.parquet")] if refined else []


def comparator_files(wildcards):
    """Files of the other systems whose labels are scored beside those of the heads."""
    return [one["path"] for one in COMPARATORS[wildcards.sample].values()]


def figure(number):
    """Outputs of a figure."""
    return {
        "png": report(results(f"figures/figure_{number}.png"), caption="../report/figure.rst", category="Figures"),
        "pdf": results(f"figures/figure_{number}.pdf"),
        "data": directory(results(f"figures/source_data/figure_{number}")),
    }


def shown(samples, *kinds):
    """Inputs of a figure: each kind of result of the shown encoder and protocol, in the order of the samples."""
    return {kind: [results(RESULT_PATHS[kind].format(sample=sample, **SHOWN)) for sample in samples] for kind in kinds}


def drawn(samples, *modules):
    """Parameters of a figure: its samples and their stores, the types and how they are coloured, the code."""
    return {
        "samples": samples,
        "stores": [results(f"samples/{sample}/sdata.zarr") for sample in samples],
        "types": TYPES,
        "palette": config["figures"]["palette"],
        "code": code("figures", "panels", *modules),
    }


def evaluations(wildcards):
    return [
        results(f"evaluation/{encoder}/{protocol}/{sample}.json")
        for encoder in ENCODERS
        for protocol in config["protocols"]
        for sample in LABELLED
    ]
