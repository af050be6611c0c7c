"""Config, sample sheet, and the paths that the stages share."""

import re
from pathlib import Path

from snakemake.exceptions import WorkflowError

from shest import places
from shest.files import sha256
from shest.provenance import module_digest

CONFIG_FILE = Path((workflow.overwrite_configfiles or [Path(workflow.basedir) / "config" / "config.yaml"])[-1])


def load_run():
    """Return config, paths, rows of the sheet by sample and the reference, or say every problem of them at once."""
    run, problems = places.load(dict(config), CONFIG_FILE)
    if problems:
        raise WorkflowError("\n".join(["Config and sample sheet cannot be used:", *problems]))
    return run.config, run.paths, run.samples, run.reference


config, PATHS, SAMPLES, REFERENCE = load_run()
RESULTS = config["results"].rstrip("/")
ENCODERS = [e if isinstance(e, str) else e["name"] for e in config["encoders"]]
THREADS = config["resources"]["threads"]
TYPES = config["cell_types"]


wildcard_constraints:
    sample="|".join(map(re.escape, SAMPLES)),
    encoder="|".join(map(re.escape, ENCODERS)),
    protocol="strict|paper",


def R(path):
    """Prefix a path with the results folder of this run."""
    return f"{RESULTS}/{path}"


def code(*modules):
    """Digest of the library modules that a rule uses, as a parameter: a change in them runs the rule again."""
    return module_digest(*modules)


def env(name):
    """Environment of a family of rules."""
    return os.path.join(workflow.basedir, "envs", f"{name}.yaml")


def with_role(*roles):
    """Samples of the given roles, in the order of the sheet."""
    return [name for name, row in SAMPLES.items() if row["role"] in roles]


def one_file(sample, column, pattern):
    """Path of a bundle's file: the sheet's, the only match in the bundle, or the name it will have once made."""
    row = SAMPLES[sample]
    if row[column]:
        return row[column]
    bundle = Path(row["path"])
    found = sorted(bundle.glob(f"*{pattern}"))
    return str(found[0] if len(found) == 1 else bundle / f"{bundle.name}_{pattern}")


def he_image(wildcards):
    return one_file(wildcards.sample, "he_image", places.HE_IMAGE)


def alignment(wildcards):
    return one_file(wildcards.sample, "alignment", places.ALIGNMENT)


def annotation_table(wildcards):
    """The pathologist's table of a sample, where one is given."""
    table = SAMPLES[wildcards.sample]["annotation"]
    return [table] if table else []


def size_mb(factor, least=1000):
    """Memory of a job: ``factor`` times the size of its input, at least ``least`` MB, more with each attempt."""
    return lambda wildcards, input, attempt: int(max(least, factor * input.size_mb) * 1.5 ** (attempt - 1))


def block_mb(wildcards, attempt, threads):
    """Memory of a job that works on image blocks: pixels, windows and their copies for each thread, and the rest."""
    return int((1200 + threads * config["tiles"]["block_px"] ** 2 * 20 / 1e6) * 1.5 ** (attempt - 1))


def annotation_where_there(wildcards):
    """The annotation of a sample that has expression."""
    return [R("{sample}/annotation.parquet")] if SAMPLES[wildcards.sample]["platform"] == "xenium" else []
