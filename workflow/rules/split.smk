"""Which cells are trained on and which are scored."""


rule split:
    input:
        cells=[R(f"{sample}/cells.parquet") for sample in with_role("train")],
        annotation=[R(f"{sample}/annotation.parquet") for sample in with_role("train")],
        registration=[R(f"{sample}/registration.json") for sample in with_role("train")],
    output:
        split=R(f"{MODEL}/split.parquet"),
    log:
        R("logs/split/{encoder}/{protocol}.log"),
    benchmark:
        R("benchmarks/split/{encoder}/{protocol}.tsv")
    conda:
        env("analysis")
    threads: 1
    resources:
        mem_mb=sized(1500, cells=30, annotation=30),
        runtime=sized(10, cells=0.5, annotation=0.5),
    params:
        samples=with_role("train"),
        split=config["split"],
        window_um=config["tiles"]["window_um"],
        code=code("split", "dataset"),
    message:
        "Splitting the cells ({wildcards.protocol})"
    script:
        "../scripts/split.py"
