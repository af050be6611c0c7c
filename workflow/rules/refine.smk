"""Algorithm 1: which cells are clear examples of their type."""


rule refine:
    input:
        splits=lambda w: expand(results("splits/{{protocol}}/{fold}.parquet"), fold=FOLDS[w.protocol]),
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
        mem_mb=from_input_size(4000, tables=40, embeddings=2500),
        runtime=from_input_size(20, tables=0.5, embeddings=60),
    params:
        refine={key: value for key, value in config["refine"].items() if key != "method"},
        folds=lambda w: FOLDS[w.protocol],
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


rule ablation:
    input:
        splits=expand(results("splits/strict/{fold}.parquet"), fold=FOLDS["strict"]),
        refinement=expand(results("refinement/{{encoder}}/strict/{sample}.parquet"), sample=TRAIN_SAMPLES),
        embeddings=expand(results("embeddings/{{encoder}}/{sample}/embeddings.json"), sample=LABELLED),
        cells=expand(results("samples/{sample}/cells.parquet"), sample=with_role("validation")),
        annotations=expand(results("samples/{sample}/annotation.parquet"), sample=with_role("validation")),
    output:
        ablation=results("refinement/{encoder}/ablation.json"),
    log:
        results("logs/ablation/{encoder}.log"),
    benchmark:
        results("benchmarks/ablation/{encoder}.tsv")
    conda:
        env("analysis")
    threads: 2
    resources:
        mem_mb=from_input_size(4000, embeddings=2500, splits=30),
        runtime=from_input_size(30, embeddings=60),
    params:
        samples=TRAIN_SAMPLES,
        validation=with_role("validation"),
        folds=FOLDS["strict"],
        min_cells=config["train"]["min_cells"],
        seed=config["train"]["seed"],
        code=code("ablation"),
    message:
        "Trying the training cells of {wildcards.encoder} with and without refinement"
    script:
        "../scripts/ablation.py"
