"""Which cells and spots are trained on and which are scored."""


rule split:
    input:
        cells=[results(f"samples/{sample}/cells.parquet") for sample in TRAIN_SAMPLES],
        annotation=[results(f"samples/{sample}/annotation.parquet") for sample in TRAIN_SAMPLES],
        spots=[results(f"samples/{sample}/spots.parquet") for sample in TRAIN["spots"]],
        registration=[results(f"samples/{sample}/registration.json") for sample in SPLIT_SAMPLES],
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
        mem_mb=from_input_size(1500, cells=30, annotation=30, spots=30),
        runtime=from_input_size(10, cells=0.5, annotation=0.5),
    params:
        samples={sample: SAMPLES[sample]["patient"] or sample for sample in SPLIT_SAMPLES},
        units=TRAIN,
        split={key: value for key, value in config["split"].items() if key != "gap_um"},
        gap_um=GAP_UM,
        code=code("split"),
    message:
        "Splitting the cells ({wildcards.protocol}, fold {wildcards.fold})"
    script:
        "../scripts/split.py"
