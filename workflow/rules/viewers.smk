"""Predicted types in the files that QuPath and Xenium Explorer open."""

PREDICTED = "predictions/{encoder}/{protocol}/{sample}"


rule viewers:
    input:
        predictions=R(f"{PREDICTED}.h5ad"),
        outlines=R("{sample}/outlines.parquet"),
    output:
        qupath=R(f"{PREDICTED}.geojson"),
        explorer=R(f"{PREDICTED}.explorer.csv"),
    log:
        R("logs/viewers/{encoder}/{protocol}/{sample}.log"),
    benchmark:
        R("benchmarks/viewers/{encoder}/{protocol}/{sample}.tsv")
    conda:
        env("image")
    threads: 1
    resources:
        mem_mb=sized(1500, outlines=10),
        runtime=sized(10, outlines=0.2),
    params:
        types=TYPES,
        palette=config["figures"]["palette"],
        code=code("viewers", "figures", "cells"),
    message:
        "Writing {wildcards.sample} for QuPath and Xenium Explorer ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/viewers.py"
