"""Algorithm 1: which cells are clear examples of their type."""


rule refine:
    input:
        split=R(f"{MODEL}/split.parquet"),
        ingest=R("{sample}/ingest.json"),
        embeddings=R("embeddings/{encoder}/{sample}/embeddings.json"),
    output:
        table=R("refinement/{encoder}/{protocol}/{sample}.parquet"),
        record=R("refinement/{encoder}/{protocol}/{sample}.json"),
    log:
        R("logs/refine/{encoder}/{protocol}/{sample}.log"),
    benchmark:
        R("benchmarks/refine/{encoder}/{protocol}/{sample}.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=sized(4000, tables=40, embeddings=2500),
        runtime=sized(20, tables=0.5, embeddings=60),
    params:
        store=R("{sample}/sdata.zarr"),
        refine=config["refine"],
        code=code("refine", "expression"),
    message:
        "Refining {wildcards.sample} ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/refine.py"


rule refinement_picture:
    input:
        table=R("refinement/{encoder}/{protocol}/{sample}.parquet"),
    output:
        picture=report(
            R("refinement/{encoder}/{protocol}/{sample}.png"),
            caption="../report/refinement.rst",
            category="Refinement",
            labels={"sample": "{sample}", "encoder": "{encoder}", "protocol": "{protocol}"},
        ),
    log:
        R("logs/refinement_picture/{encoder}/{protocol}/{sample}.log"),
    benchmark:
        R("benchmarks/refinement_picture/{encoder}/{protocol}/{sample}.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        # On a cluster it shares a job with refine, which is asked for before its input is there to be measured.
        mem_mb=sized(4000),
        runtime=sized(20),
    params:
        types=TYPES,
        palette=config["figures"]["palette"],
        code=code("training_pictures", "figures"),
    message:
        "Drawing the refinement of {wildcards.sample} ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/refinement_picture.py"
