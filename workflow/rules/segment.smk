"""Outlines of nuclei: a bundle's own, those of a file, or found in the H&E."""

SEGMENTED = [name for name, row in SAMPLES.items() if row["segment"] not in ("bundle", "file", None)]


rule segment:
    input:
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        registration=results("samples/{sample}/registration.json"),
        weights=segment_weights,
        found=nuclei_found,
    output:
        outlines=results("samples/{sample}/outlines.parquet"),
        facts=results("samples/{sample}/segment.json"),
        picture=report(
            results("samples/{sample}/segment.png"),
            caption="../report/segmentation.rst",
            category="Segmentation",
            labels={"sample": "{sample}"},
        ),
    log:
        results("logs/segment/{sample}.log"),
    benchmark:
        results("benchmarks/segment/{sample}.tsv")
    conda:
        env({"torchscript": "analysis", "trained": "torch"}.get(config["segment"]["method"], "image"))
    threads: THREADS
    resources:
        mem_mb=from_input_size(2000, per_thread=500, shapes=20),
        runtime=from_input_size(15, images=0.1, shapes=0.3),
    params:
        segment=segmentation,
        block_px=config["segment"]["block_px"],
        code=segment_code,
    message:
        "Outlining the nuclei of {wildcards.sample}"
    script:
        "../scripts/segment.py"
