"""Windows and nucleus masks of the kept cells, from which quadruple tiles are assembled when they are needed."""


rule tiles:
    input:
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        cells=results("samples/{sample}/cells.parquet"),
        outlines=results("samples/{sample}/outlines.parquet"),
        registration=results("samples/{sample}/registration.json"),
    output:
        index=results("samples/{sample}/tiles/tiles.json"),
    log:
        results("logs/tiles/{sample}.log"),
    benchmark:
        results("benchmarks/tiles/{sample}.tsv")
    conda:
        env("image")
    threads: THREADS
    resources:
        mem_mb=from_input_size(1500, per_thread=BLOCK_MB, outlines=20),
        runtime=from_input_size(15, images=0.02, outlines=0.3),
    params:
        window_um=config["tiles"]["window_um"],
        block_px=config["tiles"]["block_px"],
        code=code("tiles"),
    message:
        "Cutting the tiles of {wildcards.sample}"
    script:
        "../scripts/tiles.py"


rule contact_sheet:
    input:
        index=results("samples/{sample}/tiles/tiles.json"),
        annotation=annotation_where_there,
    output:
        picture=report(
            results("samples/{sample}/tiles/tiles.png"),
            caption="../report/tiles.rst",
            category="Tiles",
            labels={"sample": "{sample}"},
        ),
    log:
        results("logs/contact_sheet/{sample}.log"),
    benchmark:
        results("benchmarks/contact_sheet/{sample}.tsv")
    conda:
        env("image")
    threads: 1
    resources:
        mem_mb=from_input_size(2000, index=60, annotation=20),
        runtime=from_input_size(10, index=1),
    params:
        types=list(TYPES),
        code=code("contact_sheet"),
    message:
        "Drawing tiles of each type of {wildcards.sample}"
    script:
        "../scripts/contact_sheet.py"
