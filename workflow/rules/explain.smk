"""Which nuclei drive the predicted expression of some units."""

EXPLAINED = config["explain"]


localrules:
    explain,


rule explain_units:
    input:
        models=models_of("model.safetensors"),
        records=models_of("model.json"),
        splits=splits_of,
        cells=results("samples/{sample}/cells.parquet"),
        registration=results("samples/{sample}/registration.json"),
        outlines=results("samples/{sample}/outlines.parquet"),
        tiles=results("samples/{sample}/tiles/tiles.json"),
        encoder=encoder_record,
        stores=[results(f"samples/{s}/sdata.zarr") for s in TRAIN_SAMPLES if EXPLAINED["of"] == "high"],
    output:
        pictures=directory(results("explain/{system}/{protocol}/{sample}")),
    log:
        results("logs/explain/{system}/{protocol}/{sample}.log"),
    benchmark:
        results("benchmarks/explain/{system}/{protocol}/{sample}.tsv")
    conda:
        env("torch")
    threads: THREADS
    resources:
        mem_mb=lambda w, attempt, threads: encoder_mb_of(encoder_of(w.system), attempt, threads),
        runtime=from_input_size(120),
    params:
        settings=EXPLAINED,
        folds=folds_of,
        code=lambda w: code("explain", w.system),
    message:
        "Explaining {wildcards.sample} ({wildcards.system}, {wildcards.protocol})"
    script:
        "../scripts/explain.py"


rule explain:
    input:
        results(f"explain/{EXPLAINED['system']}/{config['protocols'][0]}/{EXPLAINED['sample']}"),
    message:
        "Explained: {input}"
