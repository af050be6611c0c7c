"""Scores of the samples that have labels."""


rule evaluate:
    input:
        predictions=R("predictions/{encoder}/{protocol}/{sample}.h5ad"),
        model=R(f"{MODEL}/model.safetensors"),
        record=R(f"{MODEL}/model.json"),
        baselines=R(f"{MODEL}/baselines.safetensors"),
        embeddings=R("embeddings/{encoder}/{sample}/embeddings.json"),
        annotation=R("{sample}/annotation.parquet"),
        cells=R("{sample}/cells.parquet"),
        split=split_of,
        refinement=refinement_of,
        registration=R("{sample}/registration.json"),
        comparators=comparator_files,
    output:
        scores=R("evaluation/{encoder}/{protocol}/{sample}.json"),
        genes=R("evaluation/{encoder}/{protocol}/{sample}.genes.csv"),
        markers=R("evaluation/{encoder}/{protocol}/{sample}.markers.csv"),
        scored=R("evaluation/{encoder}/{protocol}/{sample}.cells.parquet"),
    log:
        R("logs/evaluate/{encoder}/{protocol}/{sample}.log"),
    benchmark:
        R("benchmarks/evaluate/{encoder}/{protocol}/{sample}.tsv")
    conda:
        env("analysis")
    threads: 2
    resources:
        mem_mb=sized(4000, embeddings=2500, cells=20, annotation=20, comparators=5),
        runtime=sized(20, embeddings=40),
    params:
        store=R("{sample}/sdata.zarr"),
        role=lambda w: SAMPLES[w.sample]["role"],
        types=list(TYPES),
        block_um=config["split"]["block_um"],
        draws=config["evaluate"]["draws"],
        seed=config["evaluate"]["seed"],
        comparators=lambda w: COMPARATORS[w.sample],
        code=code("evaluate", "comparators", "baselines", "markers", "model", "expression"),
    message:
        "Scoring {wildcards.sample} ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/evaluate.py"


rule model_card:
    input:
        record=R(f"{MODEL}/model.json"),
        scores=[
            R(f"evaluation/{{encoder}}/{protocol}/{sample}.json")
            for protocol in config["protocols"]
            for sample in LABELLED
        ],
    output:
        card=R(f"{MODEL}/card.md"),
    log:
        R("logs/model_card/{encoder}/{protocol}.log"),
    benchmark:
        R("benchmarks/model_card/{encoder}/{protocol}.tsv")
    conda:
        env("report")
    threads: 1
    resources:
        mem_mb=sized(1000),
        runtime=sized(5),
    params:
        code=code("card"),
    message:
        "Writing the model card ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/model_card.py"
