"""Windows and nucleus masks of the kept cells, from which quadruple tiles are assembled when they are needed."""


rule tiles:
    input:
        ingest=R("{sample}/ingest.json"),
        cells=R("{sample}/cells.parquet"),
        outlines=R("{sample}/outlines.parquet"),
        registration=R("{sample}/registration.json"),
    output:
        index=R("{sample}/tiles/tiles.json"),
    log:
        R("logs/tiles/{sample}.log"),
    benchmark:
        R("benchmarks/tiles/{sample}.tsv")
    conda:
        env("image")
    threads: THREADS
    resources:
        mem_mb=sized(1500, per_thread=BLOCK_MB, shapes=20),
        runtime=sized(15, images=0.02, shapes=0.3),
    params:
        store=R("{sample}/sdata.zarr"),
        window_um=config["tiles"]["window_um"],
        block_px=config["tiles"]["block_px"],
        code=code("shards", "cells", "store"),
    message:
        "Cutting the tiles of {wildcards.sample}"
    script:
        "../scripts/tiles.py"


rule contact_sheet:
    input:
        index=R("{sample}/tiles/tiles.json"),
        annotation=annotation_where_there,
    output:
        picture=report(
            R("{sample}/tiles/tiles.png"),
            caption="../report/tiles.rst",
            category="Tiles",
            labels={"sample": "{sample}"},
        ),
    log:
        R("logs/contact_sheet/{sample}.log"),
    benchmark:
        R("benchmarks/contact_sheet/{sample}.tsv")
    conda:
        env("image")
    threads: 1
    resources:
        mem_mb=sized(2000, index=60, annotation=20),
        runtime=sized(10, index=1),
    params:
        types=list(TYPES),
        code=code("contact"),
    message:
        "Drawing tiles of each type of {wildcards.sample}"
    script:
        "../scripts/contact_sheet.py"
