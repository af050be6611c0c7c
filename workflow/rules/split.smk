"""Which cells are trained on and which are scored."""


rule split:
    input:
        cells=[results(f"samples/{sample}/cells.parquet") for sample in with_role("train")],
        annotation=[results(f"samples/{sample}/annotation.parquet") for sample in with_role("train")],
        registration=[results(f"samples/{sample}/registration.json") for sample in with_role("train")],
    output:
        split=results(f"{MODEL}/split.parquet"),
    log:
        results("logs/split/{encoder}/{protocol}.log"),
    benchmark:
        results("benchmarks/split/{encoder}/{protocol}.tsv")
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
        code=code("split"),
    message:
        "Splitting the cells ({wildcards.protocol})"
    script:
        "../scripts/split.py"
