"""Plain patches around the kept units, of each size that a system asks for."""


rule patches:
    input:
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        units=results("samples/{sample}/cells.parquet"),
        registration=results("samples/{sample}/registration.json"),
    output:
        index=results("samples/{sample}/patches/{window}/patches.json"),
    log:
        results("logs/patches/{sample}/{window}.log"),
    benchmark:
        results("benchmarks/patches/{sample}/{window}.tsv")
    wildcard_constraints:
        window=r"[\d.]+um_\d+px",
    conda:
        env("image")
    threads: THREADS
    resources:
        mem_mb=from_input_size(1500, per_thread=BLOCK_MB + 100, units=20),
        runtime=from_input_size(15, images=0.05, units=1),
    params:
        id="cell_id",
        block_px=config["tiles"]["block_px"],
        code=code("patches"),
    message:
        "Cutting patches of {wildcards.sample} ({wildcards.window})"
    script:
        "../scripts/patches.py"
