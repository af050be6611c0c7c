import os

from snakemake.utils import min_version

min_version("9.0")

# The library is installed beside Snakemake; rules in conda environments of their own find it by this path.
LIBRARY = os.path.join(workflow.basedir, "workflow")
os.environ.update(PYTHONPATH=os.pathsep.join([LIBRARY, *filter(None, [os.environ.get("PYTHONPATH")])]))

# Threads that wait for each other sleep: where jobs share cores, spinning threads slow each other down many times.
os.environ.update(OMP_WAIT_POLICY="passive")

# A config named on the command line replaces the demo's: merged, types of both would stand side by side.
if not workflow.overwrite_configfiles:

    configfile: os.path.join(workflow.basedir, "config", "config.yaml")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/systems.smk"
include: "workflow/rules/figure_inputs.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/check.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/annotate.smk"
include: "workflow/rules/register.smk"
include: "workflow/rules/segment.smk"
include: "workflow/rules/cells.smk"
include: "workflow/rules/tiles.smk"
include: "workflow/rules/patches.smk"
include: "workflow/rules/spots.smk"
include: "workflow/rules/embed.smk"
include: "workflow/rules/split.smk"
include: "workflow/rules/refine.smk"
include: "workflow/rules/fit.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/evaluate.smk"


if MODEL:

    include: "workflow/rules/apply_inputs.smk"


include: "workflow/rules/viewer_inputs.smk"
include: "workflow/rules/viewer.smk"


if MODEL:

    include: "workflow/rules/apply.smk"

    if RUN.cohort:

        include: "workflow/rules/cohort.smk"

else:

    include: "workflow/rules/package.smk"
    include: "workflow/rules/figures.smk"
    include: "workflow/rules/report.smk"

    if "explain" in config:

        include: "workflow/rules/explain.smk"


localrules:
    all,
    fetch,
    fetch_file,
    fetch_bundle,
    fetch_weights,
    check,
    labels,
    embed,
    model_card,
    compare,
    comparison_figure,


rule all:
    default_target: True
    input:
        report=results("report.html"),
        packages=[] if MODEL else [results(f"packages/{system}/checksums.txt") for system in PACKED],
        viewer=VIEWER,
    message:
        "Done: open {input.report}"
