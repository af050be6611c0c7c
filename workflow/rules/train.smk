"""Both heads, the baselines, and the further views of training cells where the config asks for them."""

TRAINED = with_role("train")
REFINED = [results(f"refinement/{{encoder}}/{{protocol}}/{sample}.parquet") for sample in TRAINED]
FURTHER_VIEWS = str(config["train"]["views"]) != "1"
FURTHER_SHARE = {"1": 0, "sampled": 1, "8": 7}[str(config["train"]["views"])]  # of the cells, at most


rule plan_views:
    input:
        split=results(f"{MODEL}/split.parquet"),
        refinement=REFINED,
        record=results("embeddings/{encoder}/encoder.json"),
    output:
        plan=results(f"{MODEL}/views.parquet"),
    log:
        results("logs/plan_views/{encoder}/{protocol}.log"),
    benchmark:
        results("benchmarks/plan_views/{encoder}/{protocol}.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=sized(1500, split=30, refinement=30),
        runtime=sized(10, split=0.5),
    params:
        samples=TRAINED,
        train=config["train"],
        code=code("plan_views"),
    message:
        "Planning the views of training cells ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/plan_views.py"


rule embed_views:
    input:
        record=results("embeddings/{encoder}/encoder.json"),
        tiles=results("samples/{sample}/tiles/tiles.json"),
        plan=results(f"{MODEL}/views.parquet"),
    output:
        index=results("embeddings/{encoder}/{sample}/views.{protocol}.json"),
    log:
        results("logs/embed_views/{encoder}/{protocol}/{sample}.log"),
    benchmark:
        results("benchmarks/embed_views/{encoder}/{protocol}/{sample}.tsv")
    conda:
        env("torch")
    threads: THREADS
    resources:
        mem_mb=encoder_mb,
        runtime=encoding_minutes("embed_views", FURTHER_SHARE),
    params:
        cache=CACHE,
    message:
        "Embedding further views of {wildcards.sample} ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/embed_views.py"


rule train:
    input:
        split=results(f"{MODEL}/split.parquet"),
        refinement=REFINED,
        ingest=[results(f"samples/{sample}/ingest.json") for sample in TRAINED],
        embeddings=[results(f"embeddings/{{encoder}}/{sample}/embeddings.json") for sample in TRAINED],
        views=[results(f"embeddings/{{encoder}}/{sample}/views.{{protocol}}.json") for sample in TRAINED if FURTHER_VIEWS],
    output:
        model=results(f"{MODEL}/model.safetensors"),
        record=results(f"{MODEL}/model.json"),
        baselines=results(f"{MODEL}/baselines.safetensors"),
        losses=results(f"{MODEL}/training.csv"),
        picture=report(
            results(f"{MODEL}/training.png"),
            caption="../report/training.rst",
            category="Training",
            labels={"encoder": "{encoder}", "protocol": "{protocol}"},
        ),
    log:
        results("logs/train/{encoder}/{protocol}.log"),
    benchmark:
        results("benchmarks/train/{encoder}/{protocol}.tsv")
    conda:
        env("torch")
    threads: THREADS
    resources:
        mem_mb=sized(6000, tables=60, embeddings=500, views=500),
        runtime=training_minutes,
    params:
        samples=TRAINED,
        stores=[results(f"samples/{sample}/sdata.zarr") for sample in TRAINED],
        train=config["train"],
        split=config["split"],
        code=code("train"),
    message:
        "Training both heads ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/train.py"
