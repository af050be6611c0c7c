"""Spots: those that were measured, and pseudo-spots of bundles; what an encoder sees of them."""


rule spots:
    input:
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        registration=results("samples/{sample}/registration.json"),
    output:
        spots=results("samples/{sample}/spots.parquet"),
    log:
        results("logs/spots/{sample}.log"),
    benchmark:
        results("benchmarks/spots/{sample}.tsv")
    wildcard_constraints:
        sample=any_of(SPOT_SAMPLES),
    conda:
        env("image")
    threads: 1
    resources:
        mem_mb=from_input_size(2000, tables=20),
        runtime=from_input_size(10, images=0.02),
    params:
        side_um=PATCH.side_um,
        min_tissue=config["spots"]["min_tissue"],
        code=code("spots"),
    message:
        "Judging the spots of {wildcards.sample}"
    script:
        "../scripts/spots.py"


rule pseudo_spots:
    input:
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        registration=results("samples/{sample}/registration.json"),
        annotation=lambda w: annotation_where_there(w) if w.sample in LABELLED else [],
    output:
        spots=results("samples/{sample}/spots.parquet"),
        cells=results("samples/{sample}/spot_cells.parquet"),
        store=directory(results("samples/{sample}/spots.zarr")),
    log:
        results("logs/pseudo_spots/{sample}.log"),
    benchmark:
        results("benchmarks/pseudo_spots/{sample}.tsv")
    wildcard_constraints:
        sample=any_of(PSEUDO_SAMPLES),
    conda:
        env("ingest")
    threads: 1
    resources:
        mem_mb=from_input_size(2500, tables=40, annotation=20),
        runtime=from_input_size(10, tables=1, images=0.02),
    params:
        diameter_um=config["spots"].get("diameter_um"),
        pitch_um=config["spots"].get("pitch_um"),
        side_um=PATCH.side_um,
        min_tissue=config["spots"]["min_tissue"],
        code=code("pseudo_spots"),
    message:
        "Laying spots over the cells of {wildcards.sample}"
    script:
        "../scripts/pseudo_spots.py"


use rule patches as spot_patches with:
    input:
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        units=results("samples/{sample}/spots.parquet"),
        registration=results("samples/{sample}/registration.json"),
    output:
        index=results("samples/{sample}/spots/{window}/patches.json"),
    log:
        results("logs/spot_patches/{sample}/{window}.log"),
    benchmark:
        results("benchmarks/spot_patches/{sample}/{window}.tsv")
    params:
        id="spot_id",
        block_px=config["tiles"]["block_px"],
        code=code("patches"),
    message:
        "Cutting patches of the spots of {wildcards.sample} ({wildcards.window})"


rule embed_spots:
    input:
        record=results("embeddings/{encoder}/encoder.json"),
        patches=results(f"samples/{{sample}}/spots/{PATCH.name}/patches.json"),
    output:
        index=results("embeddings/{encoder}/{sample}/spots.json"),
    log:
        results("logs/embed_spots/{encoder}/{sample}.log"),
    benchmark:
        results("benchmarks/embed_spots/{encoder}/{sample}.tsv")
    conda:
        env("torch")
    threads: THREADS
    resources:
        mem_mb=encoder_mb,
        runtime=from_input_size(60),
    params:
        cache=CACHE,
        code=code("embed_spots"),
    message:
        "Embedding the spots of {wildcards.sample} with {wildcards.encoder}"
    script:
        "../scripts/embed_spots.py"
