"""The embedded demo: Xenium bundles with known truth, and a single-cell reference laid out as LuCA is."""

from shest.simulate.spec import BUNDLE_FILES as SIMULATED_FILES
from shest.simulate.spec import VISIUM_FILES

MARKER_TABLE = os.path.join(workflow.basedir, "resources", "markers.tsv")
SIMULATE = config.get("simulate", {})
SIMULATED = results(SIMULATE.get("folder", "simulated"))


# One rule a slide: not every slide has a pathologist's table, and an output cannot depend on a wildcard.
for slide, settings_of_slide in SIMULATE.get("slides", {}).items():

    rule:
        name:
            f"simulate_{slide}"
        output:
            truth=f"{SIMULATED}/{slide}/truth/truth.json",
            files=[
                f"{SIMULATED}/{slide}/{name.format(name=slide)}"
                for name in (VISIUM_FILES if settings_of_slide.get("platform") == "visium" else SIMULATED_FILES)
            ],
            table=(
                [f"{SIMULATED}/{slide}/he_annotation.csv"]
                if settings_of_slide.get("annotation", True) and settings_of_slide.get("platform") != "visium"
                else []
            ),
        log:
            results(f"logs/simulate/{slide}.log"),
        benchmark:
            results(f"benchmarks/simulate/{slide}.tsv")
        conda:
            env("ingest")
        threads: 1
        resources:
            mem_mb=from_input_size(1500 + 0.3 * settings_of_slide.get("cells", 1500)),
            runtime=from_input_size(15 + 0.002 * settings_of_slide.get("cells", 1500)),
        params:
            what="slide",
            name=slide,
            simulate=SIMULATE | {"slides": {slide: settings_of_slide}},
            markers=MARKER_TABLE,
            code=code("simulate"),
        message:
            f"Simulating the bundle {slide}"
        script:
            "../scripts/simulate.py"


rule simulate_reference:
    output:
        f"{SIMULATED}/reference.h5ad",
    log:
        results("logs/simulate/reference.log"),
    benchmark:
        results("benchmarks/simulate/reference.tsv")
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=from_input_size(1500 + 0.1 * SIMULATE.get("reference", {}).get("cells", 2000)),
        runtime=from_input_size(15),
    params:
        what="reference",
        simulate=SIMULATE,
        markers=MARKER_TABLE,
        code=code("simulate"),
    message:
        "Simulating the single-cell reference"
    script:
        "../scripts/simulate.py"
