"""H&E with its cells and spots as pages that open by double click; a list of all samples."""

# What pages are made of, beside the code.
PARTS = sorted(path for part in ("page", "vendor") for path in Path(LIBRARY, "shest/view", part).iterdir())


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
