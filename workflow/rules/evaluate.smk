"""Scores of the samples that have labels."""


rule evaluate:
    input:
        predictions=results("predictions/{encoder}/{protocol}/{sample}.h5ad"),
        model=results(f"{MODEL}/model.safetensors"),
        record=results(f"{MODEL}/model.json"),
        baselines=results(f"{MODEL}/baselines.safetensors"),
        embeddings=results("embeddings/{encoder}/{sample}/embeddings.json"),
        store=results("samples/{sample}/sdata.zarr"),
        annotation=results("samples/{sample}/annotation.parquet"),
        cells=results("samples/{sample}/cells.parquet"),
        split=split_of,
        refinement=refinement_of,
        registration=results("samples/{sample}/registration.json"),
        comparators=comparator_files,
    output:
        scores=results("evaluation/{encoder}/{protocol}/{sample}.json"),
        genes=results("evaluation/{encoder}/{protocol}/{sample}.genes.csv"),
        markers=results("evaluation/{encoder}/{protocol}/{sample}.markers.csv"),
        scored=results("evaluation/{encoder}/{protocol}/{sample}.cells.parquet"),
    log:
        results("logs/evaluate/{encoder}/{protocol}/{sample}.log"),
    benchmark:
        results("benchmarks/evaluate/{encoder}/{protocol}/{sample}.tsv")
    conda:
        env("analysis")
    threads: 2
    resources:
        mem_mb=sized(4000, embeddings=2500, cells=20, annotation=20, comparators=5),
        runtime=sized(20, embeddings=40),
    params:
        role=lambda w: SAMPLES[w.sample]["role"],
        types=list(TYPES),
        block_um=config["split"]["block_um"],
        draws=config["evaluate"]["draws"],
        seed=config["evaluate"]["seed"],
        comparators=lambda w: COMPARATORS[w.sample],
        code=code("evaluate"),
    message:
        "Scoring {wildcards.sample} ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/evaluate.py"


rule model_card:
    input:
        record=results(f"{MODEL}/model.json"),
        scores=[
            results(f"evaluation/{{encoder}}/{protocol}/{sample}.json")
            for protocol in config["protocols"]
            for sample in LABELLED
        ],
    output:
        card=results(f"{MODEL}/card.md"),
    log:
        results("logs/model_card/{encoder}/{protocol}.log"),
    benchmark:
        results("benchmarks/model_card/{encoder}/{protocol}.tsv")
    conda:
        env("report")
    threads: 1
    resources:
        mem_mb=sized(1000),
        runtime=sized(5),
    params:
        code=code("model_card"),
    message:
        "Writing the model card ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/model_card.py"
