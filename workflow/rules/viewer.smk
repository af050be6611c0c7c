"""H&E with its cells and spots as pages that open by double click; a list of all samples."""

VIEWER = [results("viewer/index.html")] if config["viewer"]["enabled"] else []
# What pages are made of, beside the code.
PARTS = sorted(path for part in ("page", "vendor") for path in Path(LIBRARY, "shest/view", part).iterdir())
# Slides that a package is applied to: one job predicts them, and what it writes is no other job's input.
STREAMED = on_platform("slide") if MODEL else []


def units_of(sample):
    """Units that a sample has, each of which gets a page: cells first."""
    return [unit for unit in OF_UNIT if sample in OF_UNIT[unit]]


def viewed(unit, sample):
    """Systems that are shown on some units of a sample."""
    return [system for system in systems_on(unit, PROTOCOL_SHOWN, sample) if system in VIEWED]


def embeddings_viewed(unit, sample):
    """Embeddings of the first shown system that reads any of the unit itself: what neighbours are looked for in."""
    own = [s for s in viewed(unit, sample) if s in BY_UNIT[unit] and reads(s) == "embeddings"]
    return source_files(own[0], sample) if own else []


def units_viewed(wildcards):
    """What the pages of a sample read of each of its units."""
    sample, files = wildcards.sample, {}
    for unit in units_of(sample):
        counted = unit == "spots" or SAMPLES[sample]["platform"] == "xenium"
        paths = [f"predictions/{system}/{PROTOCOL_SHOWN}/{sample}.{unit}.h5ad" for system in viewed(unit, sample)]
        files[unit] = results(f"samples/{sample}/{UNIT_TABLES[unit]}")
        files[f"{unit}_predictions"] = list(map(results, paths))
        files[f"{unit}_embeddings"] = embeddings_viewed(unit, sample)
        files[f"{unit}_counts"] = [store_of(unit, sample)] if counted else []
    return files


def outlines_viewed(wildcards):
    """The outlines of a sample's nuclei, where it has cells."""
    return [results("samples/{sample}/outlines.parquet")] if wildcards.sample in CELL_SAMPLES else []


localrules:
    viewer_index,


rule viewer:
    input:
        unpack(units_viewed),
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        outlines=outlines_viewed,
        registration=results("samples/{sample}/registration.json"),
        annotation=annotation_where_there,
    output:
        page=results("viewer/{sample}/index.html"),
        summary=results("viewer/{sample}/viewer.json"),
    log:
        results("logs/viewer/{sample}.log"),
    benchmark:
        results("benchmarks/viewer/{sample}.tsv")
    wildcard_constraints:
        sample=any_of([sample for sample in SAMPLES if sample not in STREAMED]),
    conda:
        env("image")
    threads: 1
    resources:
        mem_mb=from_input_size(
            2000, outlines=20, cells=30, spots=30, cells_embeddings=30, spots_embeddings=30, tables=2
        ),
        runtime=from_input_size(
            15, images=0.02, outlines=0.2, cells_predictions=0.02, spots_predictions=0.02, tables=0.05
        ),
    params:
        systems=lambda w: {unit: viewed(unit, w.sample) for unit in units_of(w.sample)},
        protocol=PROTOCOL_SHOWN,
        max_mpp=config["viewer"]["max_mpp"],
        genes=config["viewer"]["genes"],
        markers=sorted(config["figures"].get("markers", {}).values()),
        window_um={"cells": config["tiles"]["window_um"], "spots": PATCH.side_um},
        types=TYPES,
        palette=config["figures"]["palette"],
        page=[sha256(path) for path in PARTS],
        code=code("viewer"),
    message:
        "Writing the viewer of {wildcards.sample}"
    script:
        "../scripts/viewer.py"


rule viewer_of_slide:
    input:
        state=results("slides/{sample}.json"),
        slide=lambda w: SAMPLES[w.sample]["path"],
    output:
        summary=results("viewer/{sample}/viewer.json"),
    log:
        results("logs/viewer/{sample}.log"),
    benchmark:
        results("benchmarks/viewer/{sample}.tsv")
    wildcard_constraints:
        sample=any_of(STREAMED),
    conda:
        env("torch")
    threads: 1
    resources:
        mem_mb=from_input_size(3000, slide=1),
        runtime=from_input_size(20, slide=0.1),
    params:
        places=lambda w: PLACES[w.sample],
        mpp=lambda w: SAMPLES[w.sample]["mpp"],
        system=lambda w: PACKAGE["system"],
        protocol=PROTOCOL_SHOWN,
        max_mpp=config["viewer"]["max_mpp"],
        genes=config["viewer"]["genes"],
        window_um=config["tiles"]["window_um"],
        types=TYPES,
        palette=config["figures"]["palette"],
        page=[sha256(path) for path in PARTS],
        code=code("viewer_of_slide"),
    message:
        "Writing the viewer of the slide {wildcards.sample}"
    script:
        "../scripts/viewer_of_slide.py"


rule viewer_index:
    input:
        summaries=expand(results("viewer/{sample}/viewer.json"), sample=SAMPLES),
        scores=evaluations(),
    output:
        page=results("viewer/index.html"),
    log:
        results("logs/viewer/index.log"),
    benchmark:
        results("benchmarks/viewer/index.tsv")
    conda:
        env("image")
    threads: 1
    resources:
        mem_mb=from_input_size(1000),
        runtime=from_input_size(5),
    params:
        page=[sha256(path) for path in PARTS],
        code=code("viewer_index"),
    message:
        "Writing the list of viewers"
    script:
        "../scripts/viewer_index.py"
