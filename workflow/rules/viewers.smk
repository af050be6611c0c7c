"""Predicted types in the files that QuPath and Xenium Explorer open."""

PREDICTED = "predictions/{encoder}/{protocol}/{sample}"


rule viewers:
    input:
        predictions=results(f"{PREDICTED}.h5ad"),
        outlines=results("samples/{sample}/outlines.parquet"),
    output:
        qupath=results(f"{PREDICTED}.geojson"),
        explorer=results(f"{PREDICTED}.explorer.csv"),
    log:
        results("logs/viewers/{encoder}/{protocol}/{sample}.log"),
    benchmark:
        results("benchmarks/viewers/{encoder}/{protocol}/{sample}.tsv")
    conda:
        env("image")
    threads: 1
    resources:
        mem_mb=sized(1500, outlines=10),
        runtime=sized(10, outlines=0.2),
    params:
        types=TYPES,
        palette=config["figures"]["palette"],
        code=code("viewers"),
    message:
        "Writing {wildcards.sample} for QuPath and Xenium Explorer ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/viewers.py"
