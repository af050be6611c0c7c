"""Which cells go on: nuclei of 2 to 16 µm whose window lies on the slide and not on bare glass."""


rule cells:
    input:
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        registration=results("samples/{sample}/registration.json"),
        outlines=results("samples/{sample}/outlines.parquet"),
    output:
        cells=results("samples/{sample}/cells.parquet"),
    log:
        results("logs/cells/{sample}.log"),
    benchmark:
        results("benchmarks/cells/{sample}.tsv")
    conda:
        env("image")
    threads: THREADS
    resources:
        mem_mb=from_input_size(1500, per_thread=BLOCK_MB, outlines=20),
        runtime=from_input_size(15, images=0.02, outlines=0.3),
    params:
        limits=config["cells"],
        window_um=config["tiles"]["window_um"],
        block_px=config["tiles"]["block_px"],
        code=code("cells"),
    message:
        "Judging the cells of {wildcards.sample}"
    script:
        "../scripts/cells.py"
