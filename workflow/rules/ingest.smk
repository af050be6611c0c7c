"""A bundle, or a slide, becomes a SpatialData store."""

BUNDLE_FILES = [
    "experiment.xenium",
    "cells.parquet",
    "cells.zarr.zip",
    "cell_feature_matrix.h5",
    "nucleus_boundaries.parquet",
]


rule ingest:
    input:
        bundle=lambda w: [f"{SAMPLES[w.sample]['path']}/{name}" for name in BUNDLE_FILES],
        he_image=he_image,
        alignment=alignment,
    output:
        done=R("{sample}/ingest.json"),
    log:
        R("logs/ingest/{sample}.log"),
    benchmark:
        R("benchmarks/ingest/{sample}.tsv")
    conda:
        env("ingest")
    threads: 2
    resources:
        mem_mb=size_mb(2, least=2000),
    params:
        bundle=lambda w: SAMPLES[w.sample]["path"],
        store=R("{sample}/sdata.zarr"),
        code=code("ingest"),
    message:
        "Reading the bundle of {wildcards.sample}"
    script:
        "../scripts/ingest.py"
