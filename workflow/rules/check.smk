"""Every input file is checked before it is read: all that is wrong with it at once, and before anything else runs."""

from shest.io.xenium_files import CELLS
from shest.labels.annotate import group_owners

SUBTYPES = {name: entry.get("subtypes", []) for name, entry in TYPES.items()}
# What each type gathers: of the databases' categories, or of the reference's subtypes.
MEMBERS = {name: entry.get("categories", [name]) for name, entry in TYPES.items()} if BY_MARKERS else SUBTYPES
WITH_TABLE = [name for name, row in SAMPLES.items() if row["annotation"]]
WITH_COMPARATORS = [name for name, entries in COMPARATORS.items() if entries]


rule check_sample:
    input:
        files=sample_files,
        nuclei=nuclei_file,
    output:
        record=results("samples/{sample}/check.json"),
    log:
        results("logs/check_sample/{sample}.log"),
    benchmark:
        results("benchmarks/check_sample/{sample}.tsv")
    priority: 100
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=from_input_size(2000, files=0.5, nuclei=5),
        runtime=from_input_size(15, files=0.01, nuclei=0.02),
    params:
        row=lambda w: {
            key: SAMPLES[w.sample][key] for key in ("platform", "path", "he_image", "alignment", "nuclei", "mpp")
        },
        code=code("check_sample"),
    message:
        "Checking the files of {wildcards.sample}"
    script:
        "../scripts/check_sample.py"


rule check_alignment:
    input:
        bundle=bundle_files,
        he_image=he_image,
        alignment=alignment,
        check=results("samples/{sample}/check.json"),
    output:
        record=results("samples/{sample}/check_alignment.json"),
    log:
        results("logs/check_alignment/{sample}.log"),
    benchmark:
        results("benchmarks/check_alignment/{sample}.tsv")
    wildcard_constraints:
        sample=any_of(on_platform("xenium")),
    priority: 100
    conda:
        env("image")
    threads: THREADS
    resources:
        mem_mb=from_input_size(2000, bundle=1),
        runtime=from_input_size(10, bundle=0.01),
    params:
        row=lambda w: {key: SAMPLES[w.sample][key] for key in ("path", "he_image", "alignment")},
        insist=config["register"]["insist"],
        code=code("check_alignment"),
    message:
        "Checking the alignment of {wildcards.sample}"
    script:
        "../scripts/check_alignment.py"


rule check_table:
    input:
        table=annotation_table,
        cells=lambda w: f"{SAMPLES[w.sample]['path']}/{CELLS}",
    output:
        record=results("samples/{sample}/check_table.json"),
    log:
        results("logs/check_table/{sample}.log"),
    benchmark:
        results("benchmarks/check_table/{sample}.tsv")
    wildcard_constraints:
        sample=any_of(WITH_TABLE),
    priority: 100
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=from_input_size(1500, table=20, cells=20),
        runtime=from_input_size(10, table=0.1, cells=0.1),
    params:
        owners=group_owners(TYPES),
        code=code("check_table"),
    message:
        "Checking the pathologist's table of {wildcards.sample}"
    script:
        "../scripts/check_table.py"


rule check_comparators:
    input:
        files=lambda w: [entry["path"] for entry in COMPARATORS[w.sample].values()],
    output:
        record=results("samples/{sample}/check_comparators.json"),
    log:
        results("logs/check_comparators/{sample}.log"),
    benchmark:
        results("benchmarks/check_comparators/{sample}.tsv")
    wildcard_constraints:
        sample=any_of(WITH_COMPARATORS),
    priority: 100
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=from_input_size(1500, files=5),
        runtime=from_input_size(10, files=0.02),
    params:
        comparators=lambda w: COMPARATORS[w.sample],
        code=code("check_comparators"),
    message:
        "Checking what other programs say of {wildcards.sample}"
    script:
        "../scripts/check_comparators.py"


rule check_reference:
    input:
        reference=REFERENCE or [],
    output:
        record=results("check/reference.json"),
    log:
        results("logs/check_reference.log"),
    benchmark:
        results("benchmarks/check_reference.tsv")
    priority: 100
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=from_input_size(2000, reference=0.5),
        runtime=from_input_size(15, reference=0.01),
    params:
        settings={key: config.get("reference", {}).get(key) for key in ("counts", "label_key", "symbol_key", "exclude")},
        types=SUBTYPES,
        prior=config["annotate"]["prior"],
        code=code("check_reference"),
    message:
        "Checking the reference"
    script:
        "../scripts/check_reference.py"


rule check_markers:
    input:
        markers=MARKER_FILES,
    output:
        record=results("check/markers.json"),
    log:
        results("logs/check_markers.log"),
    benchmark:
        results("benchmarks/check_markers.tsv")
    priority: 100
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=from_input_size(1500, markers=50),
        runtime=from_input_size(10, markers=0.1),
    params:
        markers=MARKERS,
        types=TYPES,
        code=code("check_markers"),
    message:
        "Checking the databases of marker genes"
    script:
        "../scripts/check_markers.py"


rule check:
    input:
        expand(results("samples/{sample}/check.json"), sample=SAMPLES),
        expand(results("samples/{sample}/check_alignment.json"), sample=on_platform("xenium")),
        expand(results("samples/{sample}/check_table.json"), sample=WITH_TABLE),
        expand(results("samples/{sample}/check_comparators.json"), sample=WITH_COMPARATORS),
        results("check/reference.json") if REFERENCE else [],
        results("check/markers.json") if MARKERS else [],
    message:
        "Nothing is wrong with the input"
