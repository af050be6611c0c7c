"""Which cells are trained on and which are scored."""


rule split:
    input:
        cells=[results(f"samples/{sample}/cells.parquet") for sample in TRAIN_SAMPLES],
        annotation=[results(f"samples/{sample}/annotation.parquet") for sample in TRAIN_SAMPLES],
        registration=[results(f"samples/{sample}/registration.json") for sample in TRAIN_SAMPLES],
    output:
        split=results("splits/{protocol}/{fold}.parquet"),
    log:
        results("logs/split/{protocol}/{fold}.log"),
    benchmark:
        results("benchmarks/split/{protocol}/{fold}.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=from_input_size(1500, cells=30, annotation=30),
        runtime=from_input_size(10, cells=0.5, annotation=0.5),
    params:
        samples=TRAIN_SAMPLES,
        split=config["split"],
        window_um=config["tiles"]["window_um"],
        code=code("split"),
    message:
        "Splitting the cells ({wildcards.protocol}, fold {wildcards.fold})"
    script:
        "../scripts/split.py"
