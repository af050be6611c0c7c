"""Type and expression of every kept cell."""


rule predict:
    input:
        model=results(f"{MODEL}/model.safetensors"),
        record=results(f"{MODEL}/model.json"),
        split=split_of,
        cells=results("samples/{sample}/cells.parquet"),
        registration=results("samples/{sample}/registration.json"),
        embeddings=results("embeddings/{encoder}/{sample}/embeddings.json"),
    output:
        predictions=results("predictions/{encoder}/{protocol}/{sample}.h5ad"),
    log:
        results("logs/predict/{encoder}/{protocol}/{sample}.log"),
    benchmark:
        results("benchmarks/predict/{encoder}/{protocol}/{sample}.tsv")
    conda:
        env("torch")
    threads: 2
    resources:
        mem_mb=sized(3000, model=3, cells=20, embeddings=400),
        runtime=sized(15, model=0.02, embeddings=10),
    params:
        role=lambda w: SAMPLES[w.sample]["role"],
        code=code("predict"),
    message:
        "Predicting {wildcards.sample} ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/predict.py"
