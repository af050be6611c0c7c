"""Algorithm 1: which cells are clear examples of their type."""


rule refine:
    input:
        split=results(f"splits/{{protocol}}/{DEPLOYED}.parquet"),
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        embeddings=results("embeddings/{encoder}/{sample}/embeddings.json"),
    output:
        table=results("refinement/{encoder}/{protocol}/{sample}.parquet"),
        record=results("refinement/{encoder}/{protocol}/{sample}.json"),
    log:
        results("logs/refine/{encoder}/{protocol}/{sample}.log"),
    benchmark:
        results("benchmarks/refine/{encoder}/{protocol}/{sample}.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=sized(4000, tables=40, embeddings=2500),
        runtime=sized(20, tables=0.5, embeddings=60),
    params:
        refine=config["refine"],
        code=code("refine"),
    message:
        "Refining {wildcards.sample} ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/refine.py"


rule refinement_picture:
    input:
        table=results("refinement/{encoder}/{protocol}/{sample}.parquet"),
    output:
        picture=report(
            results("refinement/{encoder}/{protocol}/{sample}.png"),
            caption="../report/refinement.rst",
            category="Refinement",
            labels={"sample": "{sample}", "encoder": "{encoder}", "protocol": "{protocol}"},
        ),
    log:
        results("logs/refinement_picture/{encoder}/{protocol}/{sample}.log"),
    benchmark:
        results("benchmarks/refinement_picture/{encoder}/{protocol}/{sample}.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        # On a cluster it shares a job with refine, which is asked for before its input is there to be measured.
        mem_mb=from_input_size(4000),
        runtime=from_input_size(20),
    params:
        fold=lambda w: DEPLOYED[w.protocol],
        types=TYPES,
        palette=config["figures"]["palette"],
        code=code("refinement_picture"),
    message:
        "Drawing the refinement of {wildcards.sample} ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/refinement_picture.py"
