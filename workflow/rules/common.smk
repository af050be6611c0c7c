"""Config, sample sheet, and the paths that the stages share."""

import re
from pathlib import Path

from snakemake.exceptions import WorkflowError

from shest.fetch import sources
from shest.core.errors import Findings
from shest.core.files import sha256
from shest.core.provenance import code_digest
from shest.io.spot_arrays import PLATFORMS, visium_files
from shest.io.xenium_files import BUNDLE_FILES
from shest.run import run_inputs
from shest.run.spots import patch_size

CONFIG_FILE = Path((workflow.overwrite_configfiles or [Path(workflow.basedir) / "config" / "config.yaml"])[-1])


def load_run():
    """Return config, paths, rows of the sheet, reference, comparators and marker genes, or say every problem at once."""
    findings = Findings()
    run = run_inputs.load(dict(config), CONFIG_FILE, findings)
    if run is None:
        problems = map(str, findings.problems)
        raise WorkflowError("\n".join(["Config and sample sheet cannot be used:", *problems]))
    return run


RUN = load_run()
config, PATHS, SAMPLES, COMPARATORS, MARKERS = RUN.config, RUN.paths, RUN.samples, RUN.comparators, RUN.markers
REFERENCE = RUN.reference or []
# A package that is applied: its folder, and what it says of itself. Nothing is trained then.
MODEL, PACKAGE = RUN.model, RUN.package
RESULTS = config["results"].rstrip("/")
ENCODERS = [entry["name"] for entry in config["encoders"]]
THREADS = config["resources"]["threads"]
TYPES = config["cell_types"]
CACHE = config["cache"]["dir"]
SEGMENT_NETWORK = ["weights", "sha256", "mpp", "input_range", "output", "channel", "postprocess"]


wildcard_constraints:
    sample="|".join(map(re.escape, SAMPLES)),
    encoder="|".join(map(re.escape, ENCODERS)),
    protocol="strict|paper",


def results(path):
    """Prefix a path with the results folder of this run."""
    return f"{RESULTS}/{path}"


def code(script, system=None):
    """Digest of the library's modules that a script (and a system) imports, a parameter of its rule: a change re-runs."""
    modules = [spec(system).module] if system else []
    return code_digest(Path(workflow.basedir, "workflow/scripts", f"{script}.py"), *modules)


def env(name):
    """Environment of a family of rules."""
    return os.path.join(workflow.basedir, "envs", f"{name}.yaml")


def any_of(names):
    """Pattern of a wildcard that is one of these names, and never matches where there are none."""
    return "|".join(map(re.escape, names)) or r"(?!)"


def on_platform(*platforms):
    """Samples of some platforms, in the order of the sheet."""
    return [name for name, row in SAMPLES.items() if row["platform"] in platforms]


# Samples that have cells; those that were measured in spots; bundles that spots are laid over.
CELL_SAMPLES = on_platform("xenium", "slide")
SPOT_SAMPLES = on_platform(*PLATFORMS)
PSEUDO_SAMPLES = on_platform("xenium") if config["spots"].get("diameter_um") else []
OF_UNIT = {"cells": CELL_SAMPLES, "spots": [name for name in SAMPLES if name in SPOT_SAMPLES + PSEUDO_SAMPLES]}
# What an encoder sees of a spot.
PATCH = patch_size(config["spots"], {SAMPLES[name]["platform"] for name in OF_UNIT["spots"]})


def with_role(*roles, unit="cells"):
    """Samples of the given roles that have such units, in the order of the sheet."""
    return [name for name in OF_UNIT[unit] if SAMPLES[name]["role"] in roles]


# What labels: databases of marker genes, or a single-cell reference.
BY_MARKERS = config["annotate"]["method"] == "markers"
MARKER_FILES = []
if MARKERS:
    MARKER_FILES = [path for source in MARKERS["databases"] for path in source["paths"]]
    MARKER_FILES += [MARKERS["categories"], MARKERS["organs"]]
LABELLED = with_role("train", "validation")


def bundle_files(wildcards):
    """Files of a bundle that are read, but for its H&E image and the alignment."""
    return [f"{SAMPLES[wildcards.sample]['path']}/{name}" for name in BUNDLE_FILES]


def he_image(wildcards):
    return SAMPLES[wildcards.sample]["he_image"]


def alignment(wildcards):
    return SAMPLES[wildcards.sample]["alignment"]


def nuclei_file(wildcards):
    """The outlines of a plain slide, where they are read from a file."""
    nuclei = SAMPLES[wildcards.sample]["nuclei"]
    return [nuclei] if nuclei else []


def segmentation(wildcards):
    """How the nuclei of a sample come about: its method, and what that one reads of the config."""
    method = SAMPLES[wildcards.sample]["segment"]
    keys = {"classical": ["stain"], "torchscript": SEGMENT_NETWORK, "trained": ["weights"]}.get(method, [])
    return {"method": method} | {key: config["segment"].get(key) for key in keys}


def nuclei_found(wildcards):
    """Nuclei that were found for the alignment, where they are wanted again; and how."""
    row = SAMPLES[wildcards.sample]
    again = row["aligned"] and row["segment"] == "classical"
    return [results(f"samples/{wildcards.sample}/align.{suffix}") for suffix in ("parquet", "json")] if again else []


def segment_weights(wildcards):
    """The file of what finds nuclei, where it has weights."""
    by_weights = SAMPLES[wildcards.sample]["segment"] in ("torchscript", "trained")
    return [config["segment"]["weights"]] if by_weights else []


def annotation_table(wildcards):
    """The pathologist's table of a sample, where one is given."""
    table = SAMPLES[wildcards.sample]["annotation"]
    return [table] if table else []


def annotation_where_there(wildcards):
    """The annotation of a sample that has expression."""
    return [results("samples/{sample}/annotation.parquet")] if SAMPLES[wildcards.sample]["platform"] == "xenium" else []


def encoder_entry(name):
    """An encoder's entry of the config, with every key that it can have."""
    return next(entry for entry in config["encoders"] if entry["name"] == name)


def encoder_config(wildcards):
    """What an encoder is; what it costs changes nothing that it makes."""
    return {key: value for key, value in encoder_entry(wildcards.encoder).items() if key != "gflop"}


def comparators_of(sample, predictions):
    """Other programs of a sample, by name: those that give predictions (h5ad), or those that give labels."""
    return {name: e for name, e in COMPARATORS[sample].items() if (e["format"] == "h5ad") == predictions}


def comparator_files(wildcards):
    """Files of the other programs whose labels are scored beside the systems'."""
    return [entry["path"] for entry in comparators_of(wildcards.sample, False).values()]


def comparator_check(wildcards):
    """The check of these files, where there are any."""
    labels = comparators_of(wildcards.sample, False)
    return [results("samples/{sample}/check_comparators.json")] if labels else []


def label_checks(wildcards):
    """The checks of what a sample's cells are labelled by, and of a pathologist's table where one is given."""
    table = [results("samples/{sample}/check_table.json")] if SAMPLES[wildcards.sample]["annotation"] else []
    return [results("check/markers.json" if BY_MARKERS else "check/reference.json"), *table]


def sample_files(wildcards):
    """Files of a sample that are read, but for those that hold labels."""
    row = SAMPLES[wildcards.sample]
    if row["platform"] == "xenium":
        return [row["he_image"], row["alignment"], *bundle_files(wildcards)]
    own = visium_files(row["path"]).values() if row["platform"] == "visium" else [row["path"]]
    return [*own, *filter(None, (row["he_image"], row["alignment"]))]
