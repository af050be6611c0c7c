"""Type and expression of every kept cell."""


rule predict:
    input:
        model=R(f"{MODEL}/model.safetensors"),
        record=R(f"{MODEL}/model.json"),
        split=split_of,
        cells=R("{sample}/cells.parquet"),
        registration=R("{sample}/registration.json"),
        embeddings=R("embeddings/{encoder}/{sample}/embeddings.json"),
    output:
        predictions=R("predictions/{encoder}/{protocol}/{sample}.h5ad"),
    log:
        R("logs/predict/{encoder}/{protocol}/{sample}.log"),
    benchmark:
        R("benchmarks/predict/{encoder}/{protocol}/{sample}.tsv")
    conda:
        env("torch")
    threads: 2
    resources:
        mem_mb=sized(3000, model=3, cells=20, embeddings=400),
        runtime=sized(15, model=0.02, embeddings=10),
    params:
        role=lambda w: SAMPLES[w.sample]["role"],
        code=code("predict", "model"),
    message:
        "Predicting {wildcards.sample} ({wildcards.encoder}, {wildcards.protocol})"
    script:
        "../scripts/predict.py"
