"""Each cell's type: what its expression says, confirmed by the pathologist's table where one is given."""


rule annotate:
    input:
        ingest=results("samples/{sample}/ingest.json"),
        store=results("samples/{sample}/sdata.zarr"),
        reference=REFERENCE or [],
        table=annotation_table,
        checks=label_checks,
    output:
        annotation=results("samples/{sample}/annotation.parquet"),
        summary=results("samples/{sample}/annotation.json"),
    log:
        results("logs/annotate/{sample}.log"),
    benchmark:
        results("benchmarks/annotate/{sample}.tsv")
    conda:
        env("annotate")
    threads: 2
    resources:
        mem_mb=from_input_size(3000, reference=6, table=20, tables=40),
        runtime=from_input_size(15, reference=0.02, tables=0.2),
    params:
        reference=config["reference"],
        subtypes=SUBTYPES,
        annotate=config["annotate"],
        code=code("annotate"),
    message:
        "Annotating the cells of {wildcards.sample}"
    script:
        "../scripts/annotate.py"
